"""What changed in the store since one looked last, by ids that only grow."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

AT_ONCE = 1000
"""Changed rows, and lines, of one look; the next look has the rest."""


@dataclass(frozen=True)
class Place:
    """How far one has read: the highest id of `summaries` and of `logs`."""

    summary: int
    line: int

    def __str__(self) -> str:
        return f"{self.summary}.{self.line}"

    @classmethod
    def read(cls, text: str | None) -> Place | None:
        """The place that `str` wrote; None for anything else."""
        summary, _, line = (text or "").partition(".")
        return (
            cls(int(summary), int(line))
            if summary.isdecimal() and line.isdecimal() and len(summary + line) < 36
            else None
        )


@dataclass(frozen=True)
class Changes:
    """Rollouts written, and rollouts with new lines, between two places."""

    place: Place
    rollout_ids: tuple[str, ...]
    logged: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.rollout_ids or self.logged)


def now(connection: sqlite3.Connection) -> Place:
    """The place after everything that is committed."""
    sequences = dict(connection.execute("SELECT name, seq FROM sqlite_sequence").fetchall())
    return Place(sequences.get("summaries", 0), sequences.get("logs", 0))


def since(connection: sqlite3.Connection, place: Place) -> Changes:
    """What was committed after a place, oldest first; at most AT_ONCE of each."""
    rows = connection.execute(
        "SELECT id, rollout_id FROM summaries WHERE id > ? ORDER BY id LIMIT ?", (place.summary, AT_ONCE)
    ).fetchall()
    lines = connection.execute(
        "SELECT id, rollout_id FROM logs WHERE id > ? ORDER BY id LIMIT ?", (place.line, AT_ONCE)
    ).fetchall()
    reached = Place(rows[-1][0] if rows else place.summary, lines[-1][0] if lines else place.line)
    return Changes(
        reached,
        tuple(rollout_id for _, rollout_id in rows),
        tuple(dict.fromkeys(rollout_id for _, rollout_id in lines)),
    )
