"""The lines of a rollout: those that its process logged here, and those that its agent posted to a tracing gateway."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from eval_protocol.results.logs import LogLine, level_number, lines_of
from eval_protocol.tracing.route import TracingGateway
from eval_protocol.ui.reader import Reader


class RolloutLogs:
    """Answers `GET /api/logs/{rollout_id}`.

    Args:
        gateway: where agents of remote rollouts post their lines; None: only what was logged on this machine is shown.
    """

    def __init__(self, reader: Reader, gateway: TracingGateway | None = None) -> None:
        self._reader = reader
        self.gateway = gateway

    async def lines(self, rollout_id: str, level: str | None, limit: int) -> dict[str, Any]:
        """The last `limit` lines of at least `level`, oldest first, in the published shape."""
        local = await self._reader.run(lines_of, rollout_id, level=level_number(level), limit=limit)
        answer: dict[str, Any] = {
            "logs": [_wire(line) for line in local],
            "total": len(local),
            "rollout_id": rollout_id,
        }
        if level:
            answer["filtered_by_level"] = level
        return answer


def _wire(line: LogLine) -> dict[str, Any]:
    wire: dict[str, Any] = {
        "@timestamp": datetime.fromtimestamp(line.time, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": line.level,
        "message": line.message,
        "logger_name": line.logger,
        "rollout_id": line.rollout_id,
    }
    if line.status:
        wire["status_code"] = line.status.get("code")
        wire["status_message"] = line.status.get("message")
        wire["status_details"] = line.status.get("details")
    return wire
