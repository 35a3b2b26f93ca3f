"""`ep results`: the scores in the local results store."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from eval_protocol.cli.session import Printer, reports_errors

if TYPE_CHECKING:
    from eval_protocol.results import Invocation, StoredRow


@click.command("results")
@click.option("--invocation", metavar="ID", help="Show the rows of one invocation. Default: list the invocations.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(min=1), help="Show at most this many.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: a list of invocations, or of whole rows.")
@reports_errors
def results(invocation: str | None, limit: int, as_json: bool) -> int:
    """List the scores kept on this machine, newest first."""
    from eval_protocol.results import list_invocations, rows_of
    from eval_protocol.settings import RunSettings

    say = Printer()
    store = RunSettings.from_environment().results_db.expanduser()
    if not store.exists():
        say(
            "[]"
            if as_json
            else f"No results yet: {store} does not exist. Run an evaluation, e.g. 'python evaluation.py'."
        )
        return 0
    if invocation is None:
        found = list_invocations(store, limit=limit)
        if as_json:
            say(json.dumps([vars(each) for each in found], default=list))
        else:
            _table(["INVOCATION", "WHEN", "EVALUATION", "MODEL", "ROLLOUTS", "SCORE"], map(_summary, found), say)
        return 0
    rows = rows_of(store, invocation, limit=limit)
    if not rows:
        say(f"Error: there is no invocation {invocation} in {store}. 'ep results' lists them.", err=True)
        return 1
    if as_json:
        say(json.dumps([stored.row.model_dump(mode="json", exclude_none=True) for stored in rows], ensure_ascii=False))
    else:
        _table(["ROW", "STATUS", "SCORE", "REASON"], map(_row, rows), say)
    return 0


def _summary(found: Invocation) -> list[str]:
    counts = [str(found.rollouts)]
    counts += [f"{number} {word}" for word in ("running", "aborted", "failed") if (number := getattr(found, word))]
    return [
        found.invocation_id,
        f"{datetime.fromtimestamp(found.created):%Y-%m-%d %H:%M}",
        ", ".join(found.names),
        ", ".join(found.models),
        ", ".join(counts),
        "-" if found.mean_score is None else f"{found.mean_score:.3f} (n={found.valid})",
    ]


def _row(stored: StoredRow) -> list[str]:
    row, score = stored.row, stored.row.evaluation_result
    valid = score is not None and score.is_score_valid
    reason = (score.reason if score else None) or row.rollout_status.message or ""
    return [
        row.input_metadata.row_id or "",
        row.rollout_status.message or str(row.rollout_status.code),
        f"{score.score:.3f}" if valid and score is not None else "-",
        " ".join(reason.split())[:80],
    ]


def _table(head: list[str], lines: Any, say: Printer) -> None:
    table = [head, *lines]
    widths = [max(len(line[column]) for line in table) for column in range(len(head))]
    for line in table:
        say("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
