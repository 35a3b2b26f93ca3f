"""Text of others on a person's terminal: what a model, a row or a host wrote must be read, and not obeyed by the terminal."""

from __future__ import annotations

import re

import click

_OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but tab and line feed, marks that turn the direction of writing, and halves of characters, which cannot be encoded."""


def plain(text: str) -> str:
    r"""The text with all that a terminal would obey spelled out: `\x1b` for an escape."""
    return _OBEYED.sub(lambda found: repr(found[0])[1:-1], text)


def say(text: str, *, nl: bool = True, err: bool = False) -> None:
    """Print text that may be somebody else's, `plain`."""
    click.echo(plain(text), nl=nl, err=err)
