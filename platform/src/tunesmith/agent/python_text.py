"""Values as Python source, laid out as ruff formats it, safe whatever they hold."""

from __future__ import annotations

from typing import Any


def literal(value: Any, indent: int = 0) -> str:
    """Source of a JSON value: texts in double quotes, one item a line in everything that is not empty."""
    inner, outer = " " * (indent + 4), " " * indent
    if isinstance(value, dict) and value:
        items = (f"{inner}{quoted(str(key))}: {literal(item, indent + 4)},\n" for key, item in value.items())
        return "{\n" + "".join(items) + outer + "}"
    if isinstance(value, list) and value:
        return "[\n" + "".join(f"{inner}{literal(item, indent + 4)},\n" for item in value) + outer + "]"
    return quoted(value) if isinstance(value, str) else repr(value)


def quoted(text: str) -> str:
    """A text literal in double quotes, or in single ones where these need fewer escapes."""
    quote = "'" if text.count('"') > text.count("'") else '"'
    escaped = "".join(
        f"\\{character}"
        if character in (quote, "\\")
        else repr(character)[1:-1]
        if character not in "'\""
        else character
        for character in text
    )
    return f"{quote}{escaped}{quote}"
