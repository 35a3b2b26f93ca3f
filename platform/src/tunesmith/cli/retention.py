"""`tunesmith gc`: remove what the platform no longer needs, whether it runs or not."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING

import click

from tunesmith.cli.errors import told_plainly
from tunesmith.errors import FailedPrecondition

if TYPE_CHECKING:
    from tunesmith.jobs.retention import Collected

YOUNG = 86_400.0
"""Seconds: what ended less long ago may still be wanted, so that a collection of it is asked about first."""
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


class Age(click.ParamType):
    """`30d`, `12h`, `2w`; a plain number is days."""

    name = "age"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds."""
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw]?)", str(value).strip())
        if match is None:
            self.fail(f"{value!r} is not an age such as 30d, 12h or 2w.", param, ctx)
        return float(match[1]) * _UNITS[match[2] or "d"]


def _shown(seconds: float) -> str:
    """An age as it is given, in the largest unit that gives a whole number."""
    unit = next((unit for unit in "dhm" if seconds >= _UNITS[unit] and seconds % _UNITS[unit] == 0), "s")
    return f"{seconds / _UNITS[unit]:g}{unit}"


@click.command("gc")
@click.option("--data-dir", help="The data folder (default: TUNESMITH_DATA_DIR or ~/.tunesmith/data).")
@click.option(
    "--older-than", type=Age(), default="30d", show_default=True, help="What ended at least so long ago: 30d, 12h, 2w."
)
@click.option("--models", is_flag=True, help="Also downloaded base models that no model, job or deployment uses.")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask, also with --older-than below a day.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object: every item with its bytes.")
def command(data_dir: str | None, older_than: float, models: bool, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Remove what is no longer needed: intermediate files and recorded calls of jobs that ended long ago, old builds, what was left over.

    Jobs that run or can be resumed, models and deployments keep everything that they need. A job whose files were removed keeps its figures and
    its model; it can no longer be rewound. Where it would take what is less than a day old, it shows what would go, and asks. Works while the
    platform runs and while it is down.

    \b
    Examples:
      tunesmith gc --dry-run
      tunesmith gc --older-than 7d
      tunesmith gc --older-than 90d --models --json
      tunesmith gc --older-than 0h --yes
    """
    from tunesmith.cli.lockfile import hold
    from tunesmith.db.session import open_database
    from tunesmith.jobs.memory import gib
    from tunesmith.jobs.retention import collect
    from tunesmith.settings import Settings

    with told_plainly():
        settings = Settings.load(data_dir=data_dir)
        database = settings.data_dir / "tunesmith.db"
        if not database.exists():
            raise FailedPrecondition(
                f"{settings.data_dir} is no data folder of Tunesmith (it has no tunesmith.db). Name it with --data-dir."
            )
        sessions = open_database(database)
        agreed = None
        if older_than < YOUNG and not (yes or dry_run):
            agreed = collect(settings, sessions, older_than=older_than, models=models, dry_run=True)
            old = collect(settings, sessions, older_than=YOUNG, models=models, dry_run=True)
            _ask(agreed, sum(key not in old.keys for key in agreed.keys), older_than)
        try:  # not before the answer: the platform may be started while it is awaited
            lock = hold(settings.data_dir / "up.lock")
        except FailedPrecondition:
            lock = None  # the platform runs, which is fine
        try:
            collected = collect(
                settings,
                sessions,
                older_than=older_than,
                models=models,
                dry_run=dry_run,
                alone=lock is not None,
                by=f"`tunesmith gc --older-than {_shown(older_than)}`",
                told=lambda leftover: None if as_json else click.echo(f"  {leftover.name}", err=True),
                only=agreed,
            )
            sessions.kw["bind"].dispose()
        finally:
            if lock is not None:
                lock.close()
    if as_json:
        click.echo(json.dumps({**collected.as_json(), "dryRun": dry_run}, indent=2))
        return
    _print_table(collected)
    verb = "Would remove" if dry_run else "Removed"
    click.echo(f"{verb} {gib(collected.total_bytes)}." if collected.leftovers else "Nothing to remove.")
    if collected.database_bytes:
        click.echo(f"The databases gave {gib(collected.database_bytes)} back to the disk.")


def _ask(found: Collected, young: int, older_than: float) -> None:
    """Show what would go, and ask where some of it, `young` things, is less than a day old.

    Raises FailedPrecondition where nobody can answer, click.Abort for a no.
    """
    from tunesmith.jobs.memory import gib

    if not young:
        return
    if not sys.stdin.isatty():
        raise FailedPrecondition(
            f"--older-than {_shown(older_than)} removes what jobs of the last day left, too: {_things(young)}. Nothing was removed. "
            "Look at it with --dry-run; with --yes it goes."
        )
    _print_table(found, err=True)
    what = f"{_things(len(found.leftovers))}, {gib(found.total_bytes)}"
    click.confirm(f"Remove this ({what}), though some of it is less than a day old?", abort=True, err=True)


def _things(count: int) -> str:
    return f"{count} thing{'s' if count != 1 else ''}"


def _print_table(found: Collected, *, err: bool = False) -> None:
    from tunesmith.jobs.memory import gib

    for category, (count, size) in found.by_category().items():
        click.echo(f"{category:<40} {count:>5}  {gib(size):>9}", err=err)
