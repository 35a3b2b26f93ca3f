"""What a job says whose files a collection removed."""

from __future__ import annotations

import time
from typing import Any

from tunesmith.db.tables import Job
from tunesmith.errors import FailedPrecondition

_KEY = "removed"


def mark_removed(progress: dict[str, Any], by: str) -> dict[str, Any]:
    """The progress of a job whose run directory is thinned now, and who did it (the command, or the setting)."""
    return {**progress, "checkpoints": [], _KEY: {"at": time.time(), "by": by}}


def check_not_removed(job: Job, done: str) -> None:
    """Raise FailedPrecondition when the files that it takes for a job to be `done` ("extended") were removed by a collection."""
    removed = job.progress.get(_KEY)
    if not removed:
        return
    day = time.strftime("%Y-%m-%d", time.gmtime(removed["at"]))
    raise FailedPrecondition(
        f"{job.name} cannot be {done}: its batches, adapters and checkpoints were removed on {day} by {removed['by']}. Its figures and "
        "its model are still there: `tunesmith model export` saves the model, a new job goes on from it (trainingConfig.warmStartFrom), "
        "and `tunesmith rftj clone` runs the same job again."
    )
