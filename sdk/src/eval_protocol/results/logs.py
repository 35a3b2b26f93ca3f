"""What was logged while a rollout ran: lines of Python's logging, kept beside the rollouts."""

from __future__ import annotations

import json
import logging
import sqlite3
from dataclasses import dataclass
from typing import Any

MOST_LINES = 1000
"""Lines kept of one rollout; what follows is left out, and that is said."""
LONGEST_MESSAGE = 20_000
"""Characters kept of one line."""


@dataclass(frozen=True)
class LogLine:
    """One line."""

    rollout_id: str
    time: float
    """Unix seconds."""
    level: str
    """DEBUG, INFO, WARNING, ERROR, CRITICAL, or a name of the program's own."""
    number: int
    """The level as `logging` counts it."""
    logger: str
    message: str
    status: dict[str, Any] | None = None
    """Code, message and details, where the line carried a status."""

    def record(self) -> tuple[Any, ...]:
        """The values that the store keeps."""
        message = self.message
        if len(message) > LONGEST_MESSAGE:
            message = f"{message[:LONGEST_MESSAGE]}… (cut: {len(message):,} characters)"
        status = json.dumps(self.status, ensure_ascii=False, default=str) if self.status else None
        message = message.encode(errors="replace").decode()
        return self.rollout_id, self.time, self.level, self.number, self.logger, message, status


def level_number(level: str | None) -> int:
    """The number of a level's name; 0 for none, and for a name that nobody knows."""
    number = logging.getLevelName((level or "").upper())
    return number if isinstance(number, int) else 0


def lines_of(connection: sqlite3.Connection, rollout_id: str, *, level: int = 0, limit: int = 100) -> list[LogLine]:
    """The last `limit` lines of a rollout at `level` and above, oldest first."""
    found = connection.execute(
        "SELECT rollout_id, time, level, number, logger, message, status FROM logs WHERE rollout_id = ? AND number >= ? "
        "ORDER BY id DESC LIMIT ?",
        (rollout_id, level, limit),
    ).fetchall()
    return [_line(record) for record in reversed(found)]


def _line(record: tuple[Any, ...]) -> LogLine:
    rollout_id, time, level, number, logger, message, status = record
    return LogLine(rollout_id, time, level, number, logger, message, json.loads(status) if status else None)
