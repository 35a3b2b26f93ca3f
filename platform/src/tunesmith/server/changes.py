"""What changes in the database, for everybody who watches: one reader a process, which looks only while somebody does.

An idle platform is not searched (`db/data_version.py`). After a commit the newest rows of each noun are compared with those seen before,
and what differs goes into a short list that every stream reads from its own position on. The reader keeps what it saw when nobody watches:
a stream that comes back hears of the time between.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import sqlite3
import threading
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker
from starlette.concurrency import run_in_threadpool

from tunesmith.db import tables
from tunesmith.db.data_version import DataVersion
from tunesmith.db.session import reading

log = logging.getLogger(__name__)
LOOK_SECONDS = 0.5
"""Between two looks, at least."""
OVERLAP_SECONDS = 60.0
"""A row carries the time at which its transaction set it, and appears when that commits: so much later at most."""
KEPT = 4096
"""Changes that a stream which comes back can go on after; one that was away for longer is told of every noun."""
MOST_NAMES = 200
"""Names of one change; of more rows at once none is named."""


@dataclass(frozen=True)
class _Noun:
    """Where the rows of a noun are, and by which column a change of one shows."""

    name: str
    key: Any
    account: Any
    stamp: Any
    only: Any = True


_JOBS = {
    "rft": "reinforcementFineTuningJobs",
    "sft": "supervisedFineTuningJobs",
    "dpo": "dpoJobs",
    "evaluation": "evaluationJobs",
}
_NOUNS = (
    *(
        _Noun(noun, tables.Job.name, tables.Job.account, tables.Job.updated, tables.Job.kind == kind)
        for kind, noun in _JOBS.items()
    ),
    *(
        _Noun(noun, table.name, table.account, table.updated)
        for noun, table in {
            "datasets": tables.Dataset,
            "evaluators": tables.Evaluator,
            "deployments": tables.Deployment,
            "sessions": tables.AgentSession,
            "secrets": tables.Secret,
            "users": tables.User,
        }.items()
    ),
    _Noun("models", tables.Model.name, tables.Model.account, tables.Model.created),
    _Noun("providers", tables.Provider.name, tables.Provider.account, tables.Provider.created),
    _Noun(
        "apiKeys",
        tables.ApiKey.user + "/apiKeys/" + tables.ApiKey.id,
        tables.ApiKey.account,
        tables.ApiKey.created,
        tables.ApiKey.user.is_not(None),
    ),
)
NOUNS = tuple(noun.name for noun in _NOUNS)
"""Everything that a change can be about."""


@dataclass(frozen=True)
class Change:
    """Rows of one noun and account that were made, changed or removed (a removal names nothing)."""

    number: int
    account: str
    """Resource name."""
    noun: str
    names: tuple[str, ...]


@dataclass
class _Seen:
    """The rows of a noun, as far as they can still change unseen."""

    recent: dict[tuple[str, str], float]
    """(account, name) -> stamp, of the newest rows."""
    newest: float
    counts: dict[str, int]
    """By account."""


@dataclass
class Changes:
    """The reader. `watching()` has it look as long as it is open; `after` gives what it found."""

    sessions: sessionmaker[Session]
    epoch: str = field(default_factory=lambda: secrets.token_hex(4))
    """Of this process: numbers of another one mean nothing here."""
    number: int = 0
    """Of the latest change."""
    looks: int = 0
    """How often something was committed, as far as this reader looked."""
    _log: deque[Change] = field(default_factory=lambda: deque(maxlen=KEPT))
    _seen: dict[str, _Seen] = field(default_factory=dict)
    _version: int | None = None
    _data_version: DataVersion = field(init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _watchers: int = 0
    _task: asyncio.Task[None] | None = None
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._data_version = DataVersion(self.sessions)

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Look for changes meanwhile; what was committed before is known when this is entered."""
        self._watchers += 1
        try:
            await run_in_threadpool(self.look)
            if self._task is None:
                self._task = asyncio.create_task(self._run())
            yield
        finally:
            self._watchers -= 1
            if self._watchers == 0 and self._task is not None:
                self._task.cancel()
                self._task = None

    async def wait(self, looks: int, seconds: float) -> int:
        """Until more than `looks` commits were seen, at most so many seconds; how many were."""
        if self.looks == looks:
            try:
                async with asyncio.timeout(seconds):
                    await self._news.wait()
            except TimeoutError:
                pass
        return self.looks

    def after(self, number: int) -> Sequence[Change] | None:
        """The changes behind a number; None when they are not kept any more."""
        with self._lock:
            first = self._log[0].number if self._log else self.number + 1
            if not first - 1 <= number <= self.number:
                return None
            return [change for change in self._log if change.number > number]

    def look(self) -> bool:
        """Note what was committed since the last look; whether anything was."""
        with self._lock:
            version = self._data_version.read()
            if version == self._version:
                return False
            with reading(self.sessions) as session:
                for noun in _NOUNS:
                    self._compare(session, noun)
            self._version = version  # not before it is read: a look that failed is repeated
            self.looks += 1
            return True

    def close(self) -> None:
        """Give the connection back."""
        with self._lock:
            self._data_version.close()

    async def _run(self) -> None:
        told = self.looks
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await run_in_threadpool(self.look)
            except (
                SQLAlchemyError,
                sqlite3.Error,
            ) as error:  # the next look may do better; without one nobody would hear anything again
                log.warning("the database could not be looked at for changes: %s", error)
            if self.looks != told:  # by this look, or by that of a stream which has just begun
                told = self.looks
                news, self._news = self._news, asyncio.Event()
                news.set()

    def _compare(self, session: Session, noun: _Noun) -> None:
        before = self._seen.get(noun.name)
        counted: Any = session.execute(_where(select(noun.account, func.count()), noun).group_by(noun.account))
        counts: dict[str, int] = dict(counted.all())
        newest = session.scalar(_where(select(func.max(noun.stamp)), noun)) or 0.0
        horizon = (before.newest if before else newest) - OVERLAP_SECONDS
        stamped = _where(select(noun.account, noun.key, noun.stamp), noun).where(noun.stamp >= horizon)
        rows: Any = session.execute(stamped)
        found = {(account, name): stamp for account, name, stamp in rows}
        newest = max(newest, before.newest) if before else newest  # the newest row may have been removed
        recent = {key: stamp for key, stamp in found.items() if stamp >= newest - OVERLAP_SECONDS}
        self._seen[noun.name] = _Seen(recent, newest, counts)
        if before is None:
            return
        for account in sorted({*counts, *before.counts}):
            names = [
                name
                for (owner, name), stamp in found.items()
                if owner == account and before.recent.get((owner, name)) != stamp
            ]
            if names or counts.get(account) != before.counts.get(account):
                self.number += 1
                named = tuple(sorted(names)) if len(names) <= MOST_NAMES else ()
                self._log.append(Change(self.number, account, noun.name, named))


def _where(query: Any, noun: _Noun) -> Any:
    return query if noun.only is True else query.where(noun.only)
