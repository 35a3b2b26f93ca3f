"""Pieces of Markdown: tables, fenced blocks and plain text, with what would break them, or act on a reader, escaped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_TAG = re.compile(r"<(?=[A-Za-z/!?])")


def inert(text: str) -> str:
    """Text that may come from anybody's data: no HTML, no link and no picture in it; the marks for emphasis and code stay."""
    return _TAG.sub("&lt;", text).replace("](", "]\\(")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; cells may hold anything."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(inert(cell).replace("|", "\\|").replace("\n", " ") for cell in line) + " |" for line in lines
    )


def block(language: str, text: str) -> str:
    """A fence longer than any in the text."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"
