"""Scores: what an evaluator gives a rollout."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from typing import Any

from pydantic import BaseModel


class _DictLike(BaseModel):
    """Read access like a dict, as the published models have it: `result["score"]`, `"reason" in result`, `result.get(...)`."""

    def __getitem__(self, key: str) -> Any:
        if key not in type(self).model_fields:
            raise KeyError(key)
        return getattr(self, key)

    def __contains__(self, key: object) -> bool:
        return key in type(self).model_fields

    def get(self, key: str, default: Any = None) -> Any:
        """The field, or `default` when there is no such field."""
        return getattr(self, key) if key in type(self).model_fields else default

    def keys(self) -> KeysView[str]:
        """Field names."""
        return self._as_dict().keys()

    def values(self) -> ValuesView[Any]:
        """Field values."""
        return self._as_dict().values()

    def items(self) -> ItemsView[str, Any]:
        """Pairs."""
        return self._as_dict().items()

    def _as_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in type(self).model_fields}

    def __iter__(self) -> Iterator[str]:  # type: ignore[override]
        return iter(type(self).model_fields)


class MetricResult(_DictLike):
    """One named part of a score."""

    score: float
    is_score_valid: bool = True
    reason: str
    data: dict[str, Any] = {}


class StepOutput(_DictLike):
    """Reward of one step of a trajectory."""

    step_index: int | str
    base_reward: float
    terminated: bool = False
    control_plane_info: dict[str, Any] | None = None
    metrics: dict[str, Any] = {}
    reason: str | None = None


class EvaluateResult(_DictLike):
    """The score of one rollout: 0 (worst) to 1 (best)."""

    score: float
    is_score_valid: bool = True
    """False leaves the rollout out of every average."""
    reason: str | None = None
    metrics: dict[str, MetricResult] = {}
    step_outputs: list[StepOutput] | None = None
    error: str | None = None
    trajectory_info: dict[str, Any] | None = None
    final_control_plane_info: dict[str, Any] | None = None
    agg_score: float | None = None
    """Aggregate of the whole experiment, written back at its end."""
    standard_error: float | None = None
    """Standard error of `agg_score`."""
