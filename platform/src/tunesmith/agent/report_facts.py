"""What a report needs beside the session's document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tunesmith.agent.document import Estimate

TRAINING_CURVES, EVALUATION_CURVES = "training_loss.svg", "evaluation_loss.svg"
SCOREBOARD, HELD_OUT = "scoreboard.svg", "held_out.svg"


@dataclass(frozen=True)
class DatasetFacts:
    """A dataset that the session read or made."""

    role: str
    """`source`, `evaluation`, `tune`, `select`, `report`, `full`, `pairs`, ..."""
    name: str
    """Resource name."""
    rows: int
    sha256: str
    """Of its rows as the platform holds them."""


@dataclass(frozen=True)
class ReportFacts:
    """What the document does not hold."""

    session: str
    """Resource name."""
    instruction: str
    started: str
    """RFC 3339, UTC."""
    ended: str
    actual: Estimate
    datasets: Sequence[DatasetFacts] = ()
    metrics: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    """Lines of `metrics.jsonl` by what they are of (`candidate 1`, `final run`)."""
    costs: Mapping[int, float] = field(default_factory=dict)
    """Of training, by number of the candidate; empty where no price is set."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Package or program -> version."""
    scored: Sequence[str] = ()
    """Ids of the datasets that its evaluations wrote: every answer with its score."""
    notes: Sequence[str] = ()
    """Of how the rows were split, and what else should be said."""


def points(records: Sequence[Mapping[str, Any]], key: str) -> list[tuple[float, float]]:
    """(step, value) of the lines of a `metrics.jsonl` that have this value."""
    return [(float(one["step"]), float(one[key])) for one in records if one.get(key) is not None and "step" in one]
