"""What a worker's beat has to know of the database, read only when it may be another than before.

What changes by itself, a lease that runs out or a delay that is over, is found by a read every `LOOK_SECONDS`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from tunesmith.db import jobs
from tunesmith.db.data_version import DataVersion
from tunesmith.db.session import reading
from tunesmith.db.tables import Job
from tunesmith.disk import free_bytes

LOOK_SECONDS = 2.0
"""The database is read this often even if nobody committed anything."""


@dataclass(frozen=True)
class Look:
    """What was found."""

    held: dict[str, tuple[bool, bool]]
    """Of each held job whether it is still this worker's, and whether it was asked to end."""
    claimable: set[str]
    """Kinds of which there may be a job to claim."""
    free: int
    """Bytes left on the disk."""


class Lookout:
    """Looks for one worker, in its event loop's thread."""

    def __init__(self, sessions: sessionmaker[Session], owner: str, data_dir: Path) -> None:
        self._sessions, self._owner, self._data_dir = sessions, owner, data_dir
        self._version = DataVersion(sessions)
        self._seen: tuple[object, ...] = ()
        """What the last look depended on."""
        self._looked = 0.0

    async def look(self, held: Sequence[str], kinds: Sequence[str], *, claims: bool) -> Look | None:
        """Look at the held jobs and for claimable ones of `kinds`; None when nothing can be other than at the last look.

        `claims`: whether what is found will be claimed; when that changes, it is looked anew.
        """
        now, seen = time.monotonic(), (self._version.read(), sorted(held), sorted(kinds), claims)
        if seen == self._seen and now - self._looked < LOOK_SECONDS:
            return None
        found = await asyncio.to_thread(self._read, held, kinds)
        self._seen, self._looked = seen, now  # not before it is read: a look that failed is repeated
        return found

    def close(self) -> None:
        """Give the connection back."""
        self._version.close()

    def _read(self, held: Sequence[str], kinds: Sequence[str]) -> Look:
        with reading(self._sessions) as session:
            columns = (Job.name, Job.lease_owner, Job.cancel_requested, Job.delete_requested)
            rows = session.execute(select(*columns).where(Job.name.in_(held))).all() if held else []
            found: dict[str, tuple[bool, bool]] = dict.fromkeys(held, (False, False))
            for row in rows:
                found[row.name] = row.lease_owner == self._owner, row.cancel_requested or row.delete_requested
            return Look(found, jobs.claimable_kinds(session, kinds), free_bytes(self._data_dir))
