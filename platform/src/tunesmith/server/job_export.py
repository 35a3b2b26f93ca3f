"""A job's rollouts and metrics as a download, made piece by piece: no job has to fit into memory."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic_core import to_json

from tunesmith.db.rollout_pages import rollouts_after
from tunesmith.db.rollouts import list_events
from tunesmith.db.session import reading
from tunesmith.schemas.rollouts import RolloutSummary
from tunesmith.server.control import ControlPlane
from tunesmith.server.routes.rft_rollouts import summaries

ROLLOUTS_AT_ONCE = 200
MEDIA = {"jsonl": "application/jsonl", "csv": "text/csv; charset=utf-8", "json": "application/json"}
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""How a text begins that a spreadsheet would run."""
_ROLLOUT_COLUMNS = [
    str(field.serialization_alias or field.alias or name)
    for name, field in RolloutSummary.model_fields.items()
    if name != "metrics"
]


def export(control: ControlPlane, job: str, what: str, form: str) -> Iterator[bytes]:
    """The pieces of a download.

    Args:
        control: the open platform.
        job: resource name of an RFT job that is there.
        what: `rollouts` (in JSON with their rows), or `metrics` (a line per optimizer step, with its chunk's figures).
        form: `jsonl`, `json` (one array) or `csv`.
    """
    if what == "metrics":
        records = _steps(control, job)
        return _csv(records, _columns(records)) if form == "csv" else _json(iter(records), form)
    if form == "csv":
        names = _metric_names(control, job)
        return _csv(_rollouts(control, job, _flat_rollout), [*_ROLLOUT_COLUMNS, *(f"metrics.{name}" for name in names)])
    return _json(_rollouts(control, job, dict), form)


def safe_cell(value: Any) -> Any:
    """A value for a CSV cell: text that a spreadsheet would take for a formula is quoted with an apostrophe; objects are JSON."""
    if isinstance(value, Mapping | list):
        value = json.dumps(value)
    if isinstance(value, str) and value.lstrip(" ").startswith(_FORMULA):
        return f"'{value}"
    return value


def _rollouts(
    control: ControlPlane, job: str, shape: Callable[[dict[str, Any]], dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    after = -1
    while True:
        with reading(control.sessions) as session:  # a slow reader holds no snapshot open
            rows = rollouts_after(session, job, after, ROLLOUTS_AT_ONCE)
            shown = [{**each, "row": row.row} for each, row in zip(summaries(session, rows), rows, strict=True)]
        yield from map(shape, shown)
        if len(rows) < ROLLOUTS_AT_ONCE:
            return
        after = rows[-1].id


def _flat_rollout(rollout: dict[str, Any]) -> dict[str, Any]:
    metrics = {f"metrics.{name}": value for name, value in (rollout["metrics"] or {}).items()}
    status = rollout["status"] or {}
    return {**{name: rollout[name] for name in _ROLLOUT_COLUMNS}, "status": status.get("code"), **metrics}


def _metric_names(control: ControlPlane, job: str) -> list[str]:
    """Names of the evaluator's metrics, as the chunks tell them."""
    with reading(control.sessions) as session:
        events = list_events(session, job, "events.jsonl")
        return sorted({name for event in events for name in event.record.get("metrics") or {}})


def _steps(control: ControlPlane, job: str) -> list[dict[str, Any]]:
    """A record per chunk: its own figures, and those of its optimizer step (`learner.…`) where it took one."""
    with reading(control.sessions) as session:
        chunks = [event.record for event in list_events(session, job, "events.jsonl")]
        steps = {line.record["step"]: line.record for line in list_events(session, job, "metrics.jsonl")}
    records = []
    for event in chunks:
        if event.get("kind") == "chunk":
            figures = {name: value for name, value in event.items() if name not in ("kind", "metrics")}
            metrics = {f"metrics.{name}": value for name, value in (event.get("metrics") or {}).items()}
            step = steps.get(event["step"], {}) if event["sealed"] else {}
            records.append({**figures, **metrics, **{f"learner.{name}": value for name, value in step.items()}})
    return records


def _columns(records: Iterable[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for record in records for name in record))


def _csv(records: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> Iterator[bytes]:
    buffer = io.StringIO()
    writer = csv.writer(buffer)

    def taken() -> bytes:
        text = buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
        return text.encode()

    writer.writerow(safe_cell(column) for column in columns)
    yield taken()
    for record in records:
        writer.writerow(safe_cell(record.get(column)) for column in columns)
        yield taken()


def _json(records: Iterator[dict[str, Any]], form: str) -> Iterator[bytes]:
    if form == "jsonl":
        for record in records:
            yield to_json(record, inf_nan_mode="null") + b"\n"
        return
    yield b"["
    for number, record in enumerate(records):
        yield (b",\n" if number else b"\n") + to_json(record, inf_nan_mode="null")
    yield b"\n]\n"
