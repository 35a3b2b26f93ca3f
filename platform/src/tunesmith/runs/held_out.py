"""Which evaluations of held-out rows can be compared. Pure, of the `evaluation` events in `events.jsonl`.

A running job's evaluator can be replaced by another version of it, whose scores mean something else; what the newest evaluation was scored
by is what counts. Events of runs that are older than evaluator versions name none: they were scored by the only one that the run had.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def comparable(evaluations: Iterable[Mapping[str, Any]]) -> dict[int, Mapping[str, Any]]:
    """Events by policy version, ascending: those that the evaluator version of the newest policy version's gave, or that name none."""
    found = {event["version"]: event for event in evaluations}
    by = found[max(found)].get("evaluator_version") if found else None
    return {version: found[version] for version in sorted(found) if found[version].get("evaluator_version", by) == by}
