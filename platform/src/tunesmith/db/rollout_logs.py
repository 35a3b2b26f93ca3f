"""Log lines that agents and evaluators post, and what they say about the status of a rollout. They live in `completions.db`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Select, func, select

from tunesmith.db.captured import CapturedFile, check_size, closed_rollouts, log_tags, logs
from tunesmith.db.session import reading

ROLLOUT_TAG = "rollout_id:"
_KNOWS = (
    "SELECT 1 WHERE EXISTS (SELECT 1 FROM log_tags WHERE tag = ? AND account = ?) "
    "OR EXISTS (SELECT 1 FROM closed_rollouts WHERE rollout_id = ? AND account = ?)"
)


@dataclass(frozen=True)
class LogLine:
    """One posted line."""

    id: int
    """Unix nanoseconds of its arrival, unique and growing."""
    account: str
    """Resource name."""
    job: str | None
    """Id of the job whose key posted it; None with an account's key."""
    program: str
    message: str
    severity: str
    status: dict[str, Any] | None
    """`{"code", "message", "details"}` with a code that is known; None where the line says nothing about status."""
    tags: list[str]
    extras: dict[str, Any]
    size: int = field(default=0)
    """Bytes of the posted body."""

    @property
    def rollout_ids(self) -> list[str]:
        """The rollouts that the line is about."""
        return [tag.removeprefix(ROLLOUT_TAG) for tag in self.tags if tag.startswith(ROLLOUT_TAG)]


@dataclass
class JobLines:
    """What one job's keys (or the account's: None) posted about a rollout."""

    count: int = 0
    size: int = 0
    last: LogLine | None = None
    """The latest line with a status."""


@dataclass(frozen=True)
class LogFilter:
    """Which lines are asked for. All conditions hold together."""

    tags: Sequence[str] = ()
    program: str | None = None
    since: float | None = None
    """Unix seconds."""
    until: float | None = None
    limit: int = 100


class LogStore:
    """Reads and writes log lines and closed rollouts."""

    def __init__(self, file: CapturedFile) -> None:
        self._file, self._writer, self._sessions = file, file.writer, file.sessions
        with reading(self._sessions) as session:
            self._last_id: int = session.execute(select(func.max(logs.c.id))).scalar() or 0

    def next_id(self) -> int:
        """The id of a line that arrives now. To be called in one thread only."""
        self._last_id = max(self._last_id + 1, time.time_ns())
        return self._last_id

    async def add(self, line: LogLine) -> None:
        """Store a line; returns once it is committed. Raises Unavailable when that is not possible."""
        tags = [{"tag": tag, "account": line.account, "log": line.id} for tag in dict.fromkeys(line.tags)]
        await self._writer.write(log_tags, tags)  # first: a tag without its line is found by nobody
        row = {name: getattr(line, name) for name in logs.c.keys() if name != "status_code"}  # noqa: SIM118 - columns
        row["status_code"] = line.status["code"] if line.status else None
        await self._writer.write(logs, [row])

    async def close_rollout(self, account: str, job: str | None, rollout_id: str, at: float) -> None:
        """Note that a rollout takes no more calls since `at` (Unix seconds); returns once committed."""
        row = {"rollout_id": rollout_id, "account": account, "job": job, "closed_at": at}
        await self._writer.write(closed_rollouts, [row])

    def find(self, wanted: LogFilter, account: str | None, job: str | None) -> list[LogLine]:
        """Lines that fit, newest first; narrowed to an account where given, and to a job's own and its account's where given.

        Raises InvalidArgument when they are too large to be read at once.
        """
        query = select(logs)
        first, *others = wanted.tags or [None]
        if first is not None:
            query = query.join(log_tags, log_tags.c.log == logs.c.id).where(log_tags.c.tag == first)
            query = query.where(log_tags.c.account == logs.c.account)
            if account is not None:
                query = query.where(log_tags.c.account == account)
        for other in others:
            tags = log_tags.alias()
            query = query.join(tags, (tags.c.log == logs.c.id) & (tags.c.account == logs.c.account))
            query = query.where(tags.c.tag == other)
        query = _narrowed(query, account, job)
        if wanted.program is not None:
            query = query.where(logs.c.program == wanted.program)
        if wanted.since is not None:
            query = query.where(logs.c.id >= int(wanted.since * 1e9))
        if wanted.until is not None:
            query = query.where(logs.c.id <= int(wanted.until * 1e9))
        query = query.order_by(logs.c.id.desc()).limit(wanted.limit)
        with reading(self._sessions) as session:
            check_size(session, query, logs.c.size)
            return [_from_row(dict(row)) for row in session.execute(query).mappings()]

    def knows(self, account: str, rollout_id: str) -> bool:
        """Whether anything was ever posted about a rollout, or it was closed; a quick look on the event loop's thread."""
        return self._file.has(_KNOWS, f"{ROLLOUT_TAG}{rollout_id}", account, rollout_id, account)

    def state_of(self, account: str, rollout_id: str) -> tuple[dict[str | None, JobLines], dict[str | None, float]]:
        """What was posted about a rollout, by job, and the jobs for which it is closed, with the time (Unix seconds)."""
        tag = f"{ROLLOUT_TAG}{rollout_id}"
        of_rollout = select(logs).join(log_tags, log_tags.c.log == logs.c.id)
        of_rollout = of_rollout.where(log_tags.c.tag == tag, log_tags.c.account == account)
        lines = of_rollout.with_only_columns(logs.c.job, func.count(), func.coalesce(func.sum(logs.c.size), 0))
        with_status = of_rollout.with_only_columns(func.max(logs.c.id)).where(logs.c.status_code.is_not(None))
        c = closed_rollouts.c
        closed = select(c.job, func.min(c.closed_at)).where(c.rollout_id == rollout_id, c.account == account)
        with reading(self._sessions) as session:
            posted = {job: JobLines(n, size) for job, n, size in session.execute(lines.group_by(logs.c.job))}
            if posted:
                latest = select(logs).where(logs.c.id.in_(with_status.group_by(logs.c.job)))
                for row in session.execute(latest).mappings():
                    posted[row["job"]].last = _from_row(dict(row))
            return posted, {row[0]: row[1] for row in session.execute(closed.group_by(c.job))}


def _narrowed(query: Select[Any], account: str | None, job: str | None) -> Select[Any]:
    if account is not None:
        query = query.where(logs.c.account == account)
    if job is not None:
        query = query.where((logs.c.job == job) | logs.c.job.is_(None))
    return query


def _from_row(row: dict[str, Any]) -> LogLine:
    del row["status_code"]
    return LogLine(**row)
