"""A job's log in one stream: its processes, its agents and itself, merged by time, from a position on.

A position says how far each source was read, so that nothing is lost or repeated however the sources grow. Values of the account's
secrets, and the job's own keys, are replaced by their names.
"""

from __future__ import annotations

import heapq
import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.orm import Session

from tunesmith.db.rollouts import list_events
from tunesmith.db.secrets import secret_values
from tunesmith.db.session import reading
from tunesmith.db.tables import Job
from tunesmith.errors import InvalidArgument
from tunesmith.schemas.job_logs import LogLine
from tunesmith.schemas.names import short_id
from tunesmith.server.control import ControlPlane
from tunesmith.server.job_log_sources import (
    LEVELS,
    Entry,
    event_entries,
    file_entries,
    posted_entries,
    state_entries,
)

SOURCES = ("orchestrator", "learner", "evaluator-host", "agent", "job")
MOST_SCANNED = 200_000
"""Lines that one call looks at before it answers with what it found, and where to go on."""
TAIL_BYTES = 1024 * 1024
"""Of each file, that a look at the last lines begins with."""
_SHORTEST_SECRET = 6
_PLACES = {"o": "orchestrator", "l": "learner", "h": "evaluator-host", "a": "agent", "e": "events", "s": "state"}
_START = {"events": -1}
_LARGEST = 2**63 - 1
"""Integer of the database."""
_POSITION = re.compile(r"(?:[olhaes]-?\d{1,19}(?:\.|$))*")
Places = dict[str, int]


@dataclass(frozen=True)
class LogQuery:
    """Which lines are asked for. All conditions hold together."""

    source: str | None = None
    level: str | None = None
    """This one and those above."""
    contains: str = ""
    """Whatever the case."""
    rollout_id: str | None = None
    """Lines that an agent posted about it, and those that name it."""
    windows: list[tuple[float, float]] | None = field(default=None)
    """Unix seconds, from and to; None: any time."""

    def fits(self, entry: Entry) -> bool:
        """Whether a line is wanted."""
        return (
            (self.source is None or entry.source == self.source)
            and (self.level is None or LEVELS.index(entry.level) >= LEVELS.index(self.level))
            and (not self.contains or self.contains.lower() in entry.message.lower())
            and (self.rollout_id is None or self.rollout_id in (entry.rollout_id, *entry.message.split()))
            and (self.windows is None or any(low <= entry.time < high for low, high in self.windows))
        )


EVERYTHING = LogQuery()


def read_lines(
    control: ControlPlane, job: Job, *, position: str, limit: int, query: LogQuery = EVERYTHING
) -> tuple[list[LogLine], str]:
    """The next lines of a job's log (RFT, SFT or DPO), oldest first, and the position behind the last that was looked at.

    Args:
        control: the open platform.
        job: as it is now.
        position: "" from the beginning, else one that this function or a line gave out.
        limit: most lines of the answer. Fewer do not mean that the end is reached: the position has not changed then.
        query: which lines are wanted.

    Raises:
        InvalidArgument: the position is not one that was given out.
    """
    places = _places(position)
    found: list[LogLine] = []
    with reading(control.sessions) as session, reading(control.captured) as captured:
        clean = _cleaner(control, session, job)
        for number, (entry, key) in enumerate(_merged(control, session, captured, job, places)):
            if len(found) == limit or number == MOST_SCANNED:
                break
            places[key] = entry.place
            if query.fits(entry):
                found.append(_line(entry, clean, places))
    return found, _text(places)


def last_lines(control: ControlPlane, job: Job, *, count: int, query: LogQuery = EVERYTHING) -> list[LogLine]:
    """The last `count` lines that fit, oldest first."""
    found: deque[tuple[Entry, Places]] = deque(maxlen=count)
    with reading(control.sessions) as session, reading(control.captured) as captured:
        clean = _cleaner(control, session, job)
        for whole in (False, True):
            found.clear()
            places = _places("") if whole else _near_end(control, job)
            for entry, key in _merged(control, session, captured, job, places, torn=not whole):
                places[key] = entry.place
                if query.fits(entry):
                    found.append((entry, dict(places)))
            if len(found) == count or not any(_near_end(control, job)[name] for name in SOURCES[:3]):
                break
        return [_line(entry, clean, places) for entry, places in found]


def windows_of(session: Session, job: str, step: int | None, epoch: int | None) -> list[tuple[float, float]]:
    """When a step or an epoch was rolled out and trained: from the start of its chunk to the start of the next one.

    Raises InvalidArgument when there was none of that number yet and none is going on.
    """
    chunks = [
        event.record for event in list_events(session, job, "events.jsonl") if event.record.get("kind") == "chunk"
    ]
    starts = [chunk["time"] - chunk["seconds"] for chunk in chunks]
    ends = [*starts[1:], chunks[-1]["time"]] if chunks else []
    windows = [
        (start, end)
        for chunk, start, end in zip(chunks, starts, ends, strict=True)
        if step in (None, chunk["step"]) and epoch in (None, chunk["epoch"])
    ]
    going_on = max((chunk["step"] + chunk["sealed"] for chunk in chunks), default=0)
    if step == going_on or (step is None and (not chunks or epoch == chunks[-1]["epoch"])):
        windows.append((chunks[-1]["time"] if chunks else 0.0, float("inf")))
    return windows


def _merged(
    control: ControlPlane, session: Session, captured: Session, job: Job, places: Places, torn: bool = False
) -> Iterator[tuple[Entry, str]]:
    """Entries of all sources by time, each with the name of its place."""
    places = dict(places)
    identity, since = short_id(job.name), job.started or job.created
    names = {name: f"{identity}-{name}.log" for name in SOURCES[:3]}
    if job.kind != "rft":
        names = {"learner": f"{identity}-trainer.log"}
    sources: list[tuple[str, Iterator[Entry]]] = [("state", state_entries(job, places["state"]))]
    if job.kind == "rft":
        sources.append(("events", event_entries(session, job.name, places["events"])))
        sources.append(("agent", posted_entries(captured, job.account, identity, places["agent"])))
    for name, file in names.items():
        path = control.settings.path("logs", file)
        sources.append((name, file_entries(path, name, places[name], since, torn=torn)))

    def keyed(order: int, name: str, entries: Iterator[Entry]) -> Iterator[tuple[float, int, Entry, str]]:
        time = 0.0
        for entry in entries:
            time = max(time, entry.time)  # a source keeps its own order, whatever its clock did
            yield time, order, entry, name

    streams = [keyed(order, name, entries) for order, (name, entries) in enumerate(sources)]
    for _, _, entry, name in heapq.merge(*streams, key=lambda item: item[:2]):
        yield entry, name


def _near_end(control: ControlPlane, job: Job) -> Places:
    places = _places("")
    for name in SOURCES[:3]:
        path = control.settings.path("logs", f"{short_id(job.name)}-{name}.log")
        places[name] = max(0, path.stat().st_size - TAIL_BYTES) if path.is_file() else 0
    return places


def _line(entry: Entry, clean: Callable[[str], str], places: Places) -> LogLine:
    values: dict[str, Any] = {"time": entry.time, "level": entry.level, "source": entry.source}
    return LogLine(**values, rollout_id=entry.rollout_id, message=clean(entry.message), position=_text(places))


def _cleaner(control: ControlPlane, session: Session, job: Job) -> Callable[[str], str]:
    """Replaces values that nobody should read by their names."""
    secrets = {value: name for name, value in secret_values(session, job.account, control.keys.master).items()}
    for kind in ("run", "rollout"):
        file = control.settings.run_dir(short_id(job.name)) / f"{kind}.key"
        if file.is_file():
            secrets[file.read_text().strip()] = f"{kind} key"
    ordered = sorted((value for value in secrets if len(value) >= _SHORTEST_SECRET), key=len, reverse=True)
    if not ordered:
        return lambda text: text
    pattern = re.compile("|".join(map(re.escape, ordered)))
    return lambda text: pattern.sub(lambda match: f"[{secrets[match.group()]}]", text)


def _places(position: str) -> Places:
    if not _POSITION.fullmatch(position):
        raise InvalidArgument("pageToken is not one that this log gave out. Leave it out to begin at the first line.")
    given = {_PLACES[part[0]]: min(int(part[1:]), _LARGEST) for part in position.split(".") if part}
    return {name: given.get(name, _START.get(name, 0)) for name in _PLACES.values()}


def _text(places: Places) -> str:
    return ".".join(f"{letter}{places[name]}" for letter, name in _PLACES.items())
