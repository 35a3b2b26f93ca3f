"""One collection: apply the rules, remove what they found, give the space of the databases back."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.orm import Session, sessionmaker

from tunesmith.db.captured_retention import forget_captured, give_back
from tunesmith.db.evaluators import BUILD_FAILED
from tunesmith.db.session import reading
from tunesmith.db.tables import EvaluatorVersion, Job
from tunesmith.jobs.retention.files import empty, remove
from tunesmith.jobs.retention.removed import mark_removed
from tunesmith.jobs.retention.rules import Leftover, Rules, still_past
from tunesmith.settings import Settings


@dataclass
class Collected:
    """What a collection found, and removed unless it was a dry run."""

    before: float
    """What ended before (Unix seconds) was past its retention."""
    leftovers: list[Leftover] = field(default_factory=list)
    database_bytes: int = 0
    """What the databases shrank by."""

    @property
    def keys(self) -> set[tuple[str, str]]:
        """(category, name) of each."""
        return {(each.category, each.name) for each in self.leftovers}

    @property
    def total_bytes(self) -> int:
        """All of it. Rows of a database count as what they hold; how much of that the file gives back is `database_bytes`."""
        return sum(leftover.bytes for leftover in self.leftovers)

    def by_category(self) -> dict[str, tuple[int, int]]:
        """(how many, bytes) by category."""
        table: dict[str, tuple[int, int]] = {}
        for each in self.leftovers:
            count, size = table.get(each.category, (0, 0))
            table[each.category] = count + 1, size + each.bytes
        return table

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        items = [{"category": each.category, "name": each.name, "bytes": each.bytes} for each in self.leftovers]
        return {"items": items, "bytes": self.total_bytes, "databaseBytes": self.database_bytes}


def collect(
    settings: Settings,
    sessions: sessionmaker[Session],
    *,
    older_than: float,
    models: bool = False,
    dry_run: bool = False,
    alone: bool = False,
    by: str = "`tunesmith gc`",
    told: Callable[[Leftover], None] = lambda leftover: None,
    only: Collected | None = None,
) -> Collected:
    """Remove what is not needed any more. Killed in the middle, it can simply be run again.

    Args:
        settings: of the platform.
        sessions: its open database.
        older_than: seconds since the end of a job, after which what it left is past its retention.
        models: also base models that nothing uses; they are downloaded again when they are.
        dry_run: only find it.
        alone: nobody else uses the data folder.
        by: who removes, for jobs to tell whose files they were: the command, or the setting.
        told: called for each thing before it is removed.
        only: what an earlier dry run found and somebody agreed to: nothing else goes, its retention counts, and what came into use since
            then stays.
    """
    before = only.before if only else time.time() - older_than
    collected = Collected(before)
    trash = settings.data_dir / ".trash"
    if not dry_run:
        empty(trash)
    with reading(sessions) as session:
        found = Rules(settings, session, before, models=models).leftovers()
        collected.leftovers = [each for each in found if only is None or (each.category, each.name) in only.keys]
    if dry_run:
        return collected
    kept = []
    for leftover in collected.leftovers:
        told(leftover)
        if _release(settings, sessions, leftover, before, by):
            for path in leftover.paths:
                remove(path, trash)
            kept.append(leftover)
    collected.leftovers = kept
    empty(trash)
    for name in ("completions.db", "tunesmith.db"):
        collected.database_bytes += give_back(settings.path(name), alone=alone)
    return collected


def _release(settings: Settings, sessions: sessionmaker[Session], leftover: Leftover, before: float, by: str) -> bool:
    """Have the database name it no more; False when it has come into use since it was found."""
    if leftover.captured is not None:
        forget_captured(settings.path("completions.db"), leftover.captured)
    if leftover.job is not None:
        with sessions.begin() as session:
            if not still_past(session, leftover.job, before):
                return False
            job = session.get_one(Job, leftover.job)
            job.progress = mark_removed(job.progress, by)
    if leftover.version is not None:
        with sessions.begin() as session:
            version = session.get(EvaluatorVersion, leftover.version)
            if version is not None:
                version.state, version.build_dir = BUILD_FAILED, None
                message = "Its build was removed after the retention; its source is kept. Edit or upload it to have it built again."
                version.status = {"code": "FAILED_PRECONDITION", "message": message}
    return True
