"""From our error tree to what a person reads in a terminal: one message, exit status 1, no stack trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from tunesmith.errors import TunesmithError


@contextmanager
def told_plainly() -> Iterator[None]:
    """Show a TunesmithError as click shows its own."""
    try:
        yield
    except TunesmithError as error:
        raise click.ClickException(error.message) from error
