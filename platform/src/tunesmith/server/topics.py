"""What a stream of live changes can be asked for: each topic reads what is new behind its position, and says where it then stands.

A position is small JSON, part of every event's id. An event's own position is that right behind it, so a stream that was cut anywhere
goes on with exactly the next event.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from fastapi import Request
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from tunesmith.db import rollouts as rollouts_table
from tunesmith.db.jobs import FINAL_STATES
from tunesmith.db.sessions import list_events as list_session_events
from tunesmith.db.tables import AgentSession, EvaluatorVersion, Job, Rollout
from tunesmith.errors import InvalidArgument, NotFound, PermissionDenied
from tunesmith.runs.files import read_json_lines
from tunesmith.schemas.names import short_id
from tunesmith.server.changes import NOUNS, Changes
from tunesmith.server.control import ControlPlane
from tunesmith.server.job_logs import read_lines
from tunesmith.server.queue import queue_places
from tunesmith.server.routes.dpo_jobs import dpo_job_wire
from tunesmith.server.routes.evaluation_jobs import evaluation_job_wire
from tunesmith.server.routes.reinforcement_fine_tuning_jobs import rft_job_wire
from tunesmith.server.routes.sessions import event_wire, session_wire
from tunesmith.server.routes.supervised_fine_tuning_jobs import sft_job_wire

ROLLOUTS_SECONDS = 1.0
"""Between two `rollouts` events of a job, at least."""
AT_ONCE = 1000
"""Events of a topic in one read; the next read goes on."""
LINES_AT_ONCE = 500
"""Log lines of one event."""
LOG_SECONDS = 1.0
Position = Any
"""JSON; None: nothing was told yet."""
Event = tuple[str, dict[str, Any], Position]
"""Kind, data, and where the topic stands behind it."""
_BUILD = re.compile(r"builds/(accounts/[^/]+/evaluators/[^/]+/versions/\d+)")
_NAMED = re.compile(r"(jobs|logs|sessions)/(accounts/[^/]+/[A-Za-z]+/[^/]+)")
FILES = {"events": "events.jsonl", "metrics": "metrics.jsonl"}
"""Kind of event -> file of the run directory whose lines it carries."""


@dataclass
class Watcher:
    """Who watches, and with what."""

    control: ControlPlane
    changes: Changes
    request: Request
    account: str
    """Resource name."""
    hidden: frozenset[str] = frozenset()
    """Nouns that the caller may not list."""


class Topic(Protocol):
    """One thing that is watched."""

    position: Position
    soon: float | None
    """In how many seconds there may be more although nobody commits anything; None: nothing is expected."""

    def read(self, session: Session) -> Iterator[Event]:
        """What is new. Raises NotFound when what is watched is not there at the first read."""
        ...


@dataclass
class ChangesTopic:
    """`changes`: which nouns to look at again."""

    watcher: Watcher
    position: Position = None
    soon: float | None = None

    def read(self, session: Session) -> Iterator[Event]:
        """A `changed` event for each change; for each noun, where it is not known any more what changed."""
        del session
        changes = self.watcher.changes
        if self.position is None:
            self.position = [changes.epoch, changes.number]
            return
        epoch, number = _pair(self.position)
        known = changes.after(number) if epoch == changes.epoch else None
        if known is None:
            latest = changes.number
            shown = [noun for noun in NOUNS if noun not in self.watcher.hidden]
            for index, noun in enumerate(shown, start=1):
                # Cut in between, all of them are told again: looking twice does no harm.
                behind = [changes.epoch, latest] if index == len(shown) else self.position
                yield "changed", {"noun": noun, "names": []}, behind
            return
        for change in known:
            behind = [changes.epoch, change.number]
            if change.account == self.watcher.account and change.noun not in self.watcher.hidden:
                yield "changed", {"noun": change.noun, "names": list(change.names)}, behind
            else:
                self.position = behind


@dataclass
class JobTopic:
    """`jobs/{name}`: a job of any kind."""

    watcher: Watcher
    name: str
    position: Position = None
    soon: float | None = None
    _shown: dict[str, Any] = field(default_factory=dict)
    _rollouts_at: float = 0.0

    def read(self, session: Session) -> Iterator[Event]:
        """`job` when it changed, the new lines, the number of rollouts, and `end` when it is final and all is told."""
        self.soon = None
        at = _fields(self.position, {"job": 0.0, "events": -1, "metrics": -1, "rollouts": 0, "end": 0})
        job = session.get(Job, self.name)
        if job is None and self.position is None:
            raise NotFound(f"There is no job {self.name}.")
        if job is None:
            if not at["end"]:
                at["end"] = 1
                yield "end", {"job": self.name}, {**at}
            return
        final = job.state in FINAL_STATES
        yield from self._job(session, job, at)
        more = False
        for kind, file in FILES.items():
            lines = self._lines(session, job, file, at[kind])
            for offset, record in lines[:AT_ONCE]:
                at[kind] = offset
                yield kind, {"job": self.name, "line": record}, {**at}
            more = more or len(lines) > AT_ONCE
        yield from self._rollouts(session, at, final)
        if more:
            self.soon = 0.0
        elif final and not at["end"]:
            at["end"] = 1
            yield "end", {"job": self.name}, {**at}
        elif not final and at["end"]:
            at["end"] = 0  # it was resumed
            self.position = {**at}

    def _job(self, session: Session, job: Job, at: dict[str, Any]) -> Iterator[Event]:
        if job.updated == at["job"]:
            return
        at["job"] = job.updated
        wire = job_wire(self.watcher, session, job)
        shown = {key: value for key, value in wire.items() if not key.endswith(("SignedUrl", "SignedUrls"))}
        if shown == self._shown:
            self.position = {**at}
            return
        self._shown = shown
        yield "job", {"job": wire}, {**at}

    def _lines(self, session: Session, job: Job, file: str, after: int) -> Sequence[tuple[int, dict[str, Any]]]:
        if job.kind == "rft":
            found = rollouts_table.list_events(session, job.name, file, after, AT_ONCE + 1)
            return [(event.offset, event.record) for event in found]
        path = self.watcher.control.settings.run_dir(short_id(job.name)) / file
        if not path.is_file():
            return []
        begin = after if 0 <= after <= path.stat().st_size else 0  # a shorter file was written anew
        return [line for line, _ in zip(read_json_lines(path, begin), range(AT_ONCE + 1), strict=False)]

    def _rollouts(self, session: Session, at: dict[str, Any], final: bool) -> Iterator[Event]:
        latest = session.scalar(select(func.max(Rollout.id)).where(Rollout.job == self.name)) or 0
        if latest == at["rollouts"]:
            return
        wait = self._rollouts_at + ROLLOUTS_SECONDS - time.monotonic()
        if wait > 0 and not final:
            self.soon = wait
            return
        count = session.scalar(select(func.count()).where(Rollout.job == self.name))
        at["rollouts"], self._rollouts_at = latest, time.monotonic()
        yield "rollouts", {"job": self.name, "count": count, "latest": str(latest)}, {**at}


@dataclass
class LogTopic:
    """`logs/{name}`: what a job's processes and agents write, as they write it."""

    watcher: Watcher
    name: str
    position: Position = None
    soon: float | None = None

    def read(self, session: Session) -> Iterator[Event]:
        """`log` events of up to `LINES_AT_ONCE` lines. Files tell nobody when they grow: a job that goes on is read every second."""
        job = session.get(Job, self.name)
        if job is None:
            self.soon = None
            if self.position is None:
                raise NotFound(f"There is no job {self.name}.")
            return
        at = "" if self.position is None else self.position
        if not isinstance(at, str):
            raise InvalidArgument("Last-Event-ID is not one that this stream gave out.")
        lines, behind = read_lines(self.watcher.control, job, position=at, limit=LINES_AT_ONCE)
        if lines:
            yield "log", {"job": self.name, "lines": [line.dump() for line in lines]}, behind
        self.position = behind
        self.soon = 0.0 if behind != at else None if job.state in FINAL_STATES else LOG_SECONDS


@dataclass
class BuildTopic:
    """`builds/{evaluator}/versions/{n}`: the log of a build as it grows."""

    watcher: Watcher
    name: str
    position: Position = None
    soon: float | None = None

    def read(self, session: Session) -> Iterator[Event]:
        """What was appended, whole lines; from the beginning again (`offset` 0) where the log is another one."""
        row = session.get(EvaluatorVersion, self.name)
        if row is None:
            if self.position is None:
                raise NotFound(f"There is no evaluator version {self.name}.")
            return
        at = _fields(self.position, {"offset": 0, "state": "", "hash": ""})
        log = row.build_log
        whole = log if row.state != "BUILDING" else log[: log.rfind("\n") + 1]
        offset = at["offset"] if _digest(log[: at["offset"]]) == at["hash"] else 0
        if whole[offset:] or row.state != at["state"]:
            behind = {"offset": len(whole), "state": row.state, "hash": _digest(whole)}
            data = {"name": self.name, "state": row.state, "text": whole[offset:], "offset": offset}
            yield "build", data, behind


@dataclass
class SessionTopic:
    """`sessions/{name}`: a session of the Agent and its history."""

    watcher: Watcher
    name: str
    position: Position = None
    soon: float | None = None

    def read(self, session: Session) -> Iterator[Event]:
        """`session` when it changed, and `session-event` for each new line of its history."""
        row = session.get(AgentSession, self.name)
        if row is None:
            if self.position is None:
                raise NotFound(f"There is no session {self.name}.")
            return
        at = _fields(self.position, {"session": "", "sequence": 0})
        job = session.get(Job, self.name)
        stamp = f"{row.revision}.{row.updated}.{job.updated if job else 0}"
        if stamp != at["session"]:
            at["session"] = stamp
            yield "session", {"session": session_wire(session, row, self.watcher.request)}, {**at}
        lines = list_session_events(session, self.name, at["sequence"], AT_ONCE)
        for event in lines:
            at["sequence"] = event.sequence
            yield "session-event", {"session": self.name, "event": event_wire(event)}, {**at}
        self.soon = 0.0 if len(lines) == AT_ONCE else None


def open_topic(watcher: Watcher, text: str) -> Topic:
    """The topic of that name. Raises InvalidArgument, PermissionDenied for one of another account."""
    if text == "changes":
        return ChangesTopic(watcher)
    match = _BUILD.fullmatch(text) or _NAMED.fullmatch(text)
    if match is None:
        raise InvalidArgument(
            f"topic {text[:200]!r} is not known: use changes, jobs/NAME, logs/NAME, sessions/NAME or builds/EVALUATOR/versions/N, "
            "with full resource names."
        )
    name = match.group(match.re.groups)
    if not name.startswith(f"{watcher.account}/"):
        raise PermissionDenied(f"This key belongs to {watcher.account}, not to {'/'.join(name.split('/')[:2])[:80]}.")
    return _KINDS[text.partition("/")[0]](watcher, name)


def job_wire(watcher: Watcher, session: Session, job: Job) -> dict[str, Any]:
    """A job of any kind as its own route shows it, its place in the queue included. Raises NotFound for one that no route shows."""
    settings = watcher.control.settings

    def place(most: int) -> dict[str, Any] | None:
        return queue_places(session, job.kind, [job], most).get(job.name)

    match job.kind:
        case "rft":
            return rft_job_wire(job, place(settings.concurrent_rft_jobs))
        case "sft":
            return sft_job_wire(watcher.control, watcher.request, job, place(settings.concurrent_tuning_jobs))
        case "dpo":
            return dpo_job_wire(watcher.control, watcher.request, job, place(settings.concurrent_tuning_jobs))
        case "evaluation":
            return evaluation_job_wire(job, place(settings.concurrent_evaluations))
    raise NotFound(f"{job.name} is no job that can be watched.")


_KINDS: dict[str, Callable[[Watcher, str], Topic]] = {
    "jobs": JobTopic,
    "logs": LogTopic,
    "builds": BuildTopic,
    "sessions": SessionTopic,
}


def _fields(position: Position, first: dict[str, Any]) -> dict[str, Any]:
    """The position's fields, or those of a beginning. Raises InvalidArgument when it is not one of ours."""
    if position is None:
        return {**first}
    if not isinstance(position, dict) or not all(_is_like(position.get(key), value) for key, value in first.items()):
        raise InvalidArgument("Last-Event-ID is not one that this stream gave out.")
    return {**position}


def _is_like(given: Any, value: Any) -> bool:
    """Whether a position's field is of the kind that we write: a whole number that a database takes, another number, or text."""
    if isinstance(value, int):
        return isinstance(given, int) and abs(given) < 2**63
    return isinstance(given, int | float if isinstance(value, float) else type(value))


def _pair(position: Position) -> tuple[str, int]:
    match position:
        case [str(epoch), int(number)]:
            return epoch, number
    raise InvalidArgument("Last-Event-ID is not one that this stream gave out.")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:16] if text else ""
