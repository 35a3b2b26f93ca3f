"""Where the log lines of a job come from, each source in the order of its time: files of its processes, lines that agents posted,
and what happened to the job itself.

A source yields `Entry`s from a place on; the place after an entry is an integer, so that a position in the whole log is a handful of
integers (`job_logs`). Lines of a file without a time of their own have that of the line before them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from tunesmith.db.captured import logs
from tunesmith.db.jobs import FINAL_STATES
from tunesmith.db.rollout_logs import ROLLOUT_TAG
from tunesmith.db.tables import Job, JobEvent

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
LONGEST_LINE = 16 * 1024
"""Characters of a line that are shown; what is longer is cut and said to be."""
LINES_AT_ONCE = 500
LOOK_BACK = 64 * 1024
"""Bytes before the place from which a file is read that are searched for the last time stamp."""
_STAMP = re.compile(r"\[?(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(?:[.,](\d{1,6})\d*)?(Z|[+-]\d\d:?\d\d)?\]?[\s:|-]*")
_LEVEL = re.compile(r"\[?(DEBUG|INFO|WARN(?:ING)?|ERROR|CRITICAL|FATAL)\]?(?:[\s:|-]+|$)")
_FAILED = re.compile(r"(Traceback \(most recent call last\)|(?:[A-Za-z_][\w.]*)?(?:Error|Exception)(?::|$))")
_WARNED = re.compile(r"(?:.*[/\w]:\d+: )?\w*Warning:")
_NAMES = {"WARN": "WARNING", "CRITICAL": "ERROR", "FATAL": "ERROR"}


@dataclass(frozen=True)
class Entry:
    """One line of one source."""

    time: float
    """Unix seconds."""
    level: str
    source: str
    """`orchestrator`, `learner`, `evaluator-host`, `agent` or `job`."""
    rollout_id: str | None
    message: str
    place: int
    """Of its source, behind this line."""


def file_entries(path: Path, source: str, place: int, since: float, *, torn: bool = False) -> Iterator[Entry]:
    """Whole lines of a process's log from byte `place` on; a torn last line waits for its end.

    Args:
        path: of the log; nothing where it is not there.
        source: name of the process.
        place: byte offset; beyond the end of the file (it was cut meanwhile) its last part is read again.
        since: Unix seconds, for lines before the first time stamp.
        torn: whether `place` may lie inside a line, which is left out then.
    """
    if not path.is_file():
        return
    with open(path, "rb") as file:
        size = path.stat().st_size
        place = place if place <= size else max(0, size - LOOK_BACK)
        file.seek(max(0, place - LOOK_BACK))
        before = file.read(place - file.tell()).decode(errors="replace") if place else ""
        time, trouble = _last_time(before) or since, False
        for text in before.splitlines():
            trouble = _in_traceback(text, trouble)
        if torn and place:
            place += len(file.readline())
        for line in file:
            if not line.endswith(b"\n"):
                return
            place += len(line)
            text = line.decode(errors="replace").rstrip("\r\n").replace("\0", "")
            if not text.strip():
                continue
            stamped, level, message = parse_line(text)
            time = stamped or time
            trouble = _in_traceback(text, trouble)
            yield Entry(time, level or ("ERROR" if trouble else "INFO"), source, None, shortened(message), place)


def parse_line(text: str) -> tuple[float | None, str | None, str]:
    """Time (Unix seconds), level and message of a line; None where it has none. Without a zone a time is this machine's."""
    time, rest = None, text
    if match := _STAMP.match(text):
        day, clock, fraction, zone = match.groups()
        try:
            moment = datetime.fromisoformat(f"{day}T{clock}.{(fraction or '0').ljust(6, '0')}{zone or ''}")
            time, rest = moment.timestamp(), text[match.end() :]
        except (ValueError, OverflowError):
            pass
    if match := _LEVEL.match(rest):
        level = _NAMES.get(match.group(1), match.group(1))
        return time, level, rest[match.end() :] or rest
    if _FAILED.match(rest):
        return time, "ERROR", rest
    return time, "WARNING" if _WARNED.match(rest) else None, rest


def posted_entries(session: Session, account: str, job: str, place: int) -> Iterator[Entry]:
    """Lines that were posted with a job's keys, or with the account's about its rollouts, behind the line of id `place`.

    Args:
        session: on `completions.db`.
        account: resource name.
        job: id of the job.
        place: 0: from the first.
    """
    c = logs.c
    while True:
        query = select(c.id, c.job, c.severity, c.message, c.status, c.tags, c.program)
        query = query.where(c.account == account, c.id > place, (c.job == job) | c.job.is_(None))
        rows = session.execute(query.order_by(c.id).limit(LINES_AT_ONCE)).all()
        for row in rows:
            place = row.id
            rollouts = [tag.removeprefix(ROLLOUT_TAG) for tag in row.tags or [] if tag.startswith(ROLLOUT_TAG)]
            if row.job is None and not any(rollout.startswith((f"{job}-c", f"{job}-e")) for rollout in rollouts):
                continue
            level = _NAMES.get(row.severity, row.severity) if row.severity else "INFO"
            message = row.message or _of_status(row.status) or f"({row.program or 'agent'} posted a line without text)"
            yield Entry(
                row.id / 1e9,
                level if level in LEVELS else "INFO",
                "agent",
                rollouts[0] if rollouts else None,
                shortened(message),
                place,
            )
        if len(rows) < LINES_AT_ONCE:
            return


def event_entries(session: Session, job: str, place: int) -> Iterator[Entry]:
    """What the run tells of itself (chunks, evaluations, versions, changes of control), behind byte `place` of its events."""
    while True:
        query = select(JobEvent).where(JobEvent.job == job, JobEvent.file == "events.jsonl", JobEvent.offset > place)
        events = session.scalars(query.order_by(JobEvent.offset).limit(LINES_AT_ONCE)).all()
        for event in events:
            place = event.offset
            level, message = _told(event.record)
            yield Entry(float(event.record.get("time") or 0.0), level, "job", None, shortened(message), place)
        if len(events) < LINES_AT_ONCE:
            return


def state_entries(job: Job, place: int) -> Iterator[Entry]:
    """When the job was made, when it began and how it ended; `place` is the time of the last of them, in milliseconds."""
    message = (job.status or {}).get("message") or ""
    ended = f"The job ended: {job.state.removeprefix('JOB_STATE_')}. {message}".rstrip()
    level = "ERROR" if job.state == "JOB_STATE_FAILED" else "INFO"
    told = [(job.created, "INFO", "The job was created."), (job.started, "INFO", "A worker took the job up.")]
    if job.state in FINAL_STATES:
        told.append((job.completed, level, ended))
    for time, level, text in told:
        if time is not None and int(time * 1000) > place:
            yield Entry(time, level, "job", None, shortened(text), int(time * 1000))


def shortened(text: str) -> str:
    """A line, cut where it is too long to be shown."""
    return text if len(text) <= LONGEST_LINE else f"{text[:LONGEST_LINE]}… ({len(text) - LONGEST_LINE} more characters)"


def _in_traceback(text: str, before: bool) -> bool:
    """Whether a line belongs to a traceback, given whether the one before it does: what is indented below its first line."""
    return "Traceback (most recent call last)" in text or (before and text[:1].isspace())


def _last_time(text: str) -> float | None:
    lines: Sequence[str] = text.splitlines()
    return next((time for time, _, _ in map(parse_line, reversed(lines)) if time is not None), None)


def _of_status(status: dict[str, Any] | None) -> str:
    return f"status {status.get('code')}: {status.get('message') or ''}".rstrip(": ") if status else ""


def _told(event: dict[str, Any]) -> tuple[str, str]:
    def number(name: str, digits: int = 3) -> str:
        value = event.get(name)
        return f"{value:.{digits}f}" if isinstance(value, int | float) else "none"

    match event.get("kind"):
        case "chunk":
            sealed = f"batch {event.get('step')} sealed" if event.get("sealed") else "nothing to learn from it"
            text = (
                f"Chunk {event.get('chunk')} (epoch {event.get('epoch')}, version {event.get('version')}): mean score "
                f"{number('mean_score')}, {event.get('rollouts')} rollouts, {event.get('invalid')} invalid, "
                f"{event.get('kept_groups')} groups kept, {event.get('dropped_groups')} dropped; {sealed}; {number('seconds', 1)} s."
            )
            return ("WARNING" if event.get("invalid") or not event.get("sealed") else "INFO"), text
        case "evaluation":
            interval = f"{number('low')} to {number('high')}"
            return "INFO", (
                f"Held-out score of version {event.get('version')}: {number('score')} ({interval}, n = {event.get('n')}, "
                f"{event.get('invalid')} invalid)."
            )
        case "version":
            return "INFO", f"Version {event.get('version')} is served (canary difference {event.get('canary'):.2g})."
        case kind:
            fields = ", ".join(f"{name} {value}" for name, value in event.items() if name not in ("kind", "time"))
            return "INFO", f"{str(kind).capitalize()}: {fields}."
