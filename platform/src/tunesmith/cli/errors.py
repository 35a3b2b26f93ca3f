"""From our error tree to what a person reads in a terminal: one message, exit status 1, no stack trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from tunesmith.cli.terminal import plain
from tunesmith.disk import trouble
from tunesmith.errors import TunesmithError


@contextmanager
def told_plainly() -> Iterator[None]:
    """Show a TunesmithError, and a full disk, as click shows its own."""
    try:
        yield
    except TunesmithError as error:
        raise click.ClickException(plain(error.message)) from error
    except Exception as error:
        if (full := trouble(error)) is None:
            raise
        raise click.ClickException(full.message) from error
