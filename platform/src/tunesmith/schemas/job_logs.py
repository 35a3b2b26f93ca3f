"""One line of a job's log on the wire."""

from __future__ import annotations

from tunesmith.schemas.wire import Time, Wire


class LogLine(Wire):
    """What a process wrote, what an agent posted, or what happened to the job."""

    time: Time
    level: str
    """`DEBUG`, `INFO`, `WARNING` or `ERROR`."""
    source: str
    """`orchestrator`, `learner`, `evaluator-host`, `agent` or `job`."""
    rollout_id: str | None = None
    """Of a line that an agent posted."""
    message: str
    position: str
    """Given back as `pageToken`, the log goes on behind this line."""
