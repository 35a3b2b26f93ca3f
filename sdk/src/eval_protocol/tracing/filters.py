"""Which rollout a log record belongs to: by a logger's filter, or by the context that the record was made in."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class RolloutContext:
    """The rollout, or the group of rollouts, that code is working for."""

    rollout_id: str
    experiment_id: str | None = None
    run_id: str | None = None
    rollout_ids: tuple[str, ...] = ()
    """All of a group."""


_CURRENT: ContextVar[RolloutContext | None] = ContextVar("eval_protocol_rollout", default=None)


def current_rollout() -> RolloutContext | None:
    """The active context, or None outside of any rollout."""
    return _CURRENT.get()


@contextmanager
def rollout_logging_context(
    rollout_id: str,
    *,
    experiment_id: str | None = None,
    run_id: str | None = None,
    rollout_ids: Sequence[str] | None = None,
) -> Iterator[RolloutContext]:
    """Log records made inside belong to this rollout, in the tasks started inside, too.

    Args:
        rollout_ids: all rollouts of a group; the records then carry each of them.
    """
    context = RolloutContext(rollout_id, experiment_id, run_id, tuple(rollout_ids or ()))
    token = _CURRENT.set(context)
    try:
        yield context
    finally:
        _CURRENT.reset(token)


class RolloutIdFilter(logging.Filter):
    """Marks every record that passes with a rollout id. For a logger, or a handler, of one rollout."""

    def __init__(self, rollout_id: str) -> None:
        super().__init__()
        self.rollout_id = rollout_id

    def filter(self, record: logging.LogRecord) -> bool:
        """Mark it; all pass."""
        record.rollout_id = self.rollout_id
        return True


class ContextRolloutIdFilter(logging.Filter):
    """Marks records with the ids of the active `rollout_logging_context`, and drops those made outside of any."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Mark it, or drop it."""
        context = _CURRENT.get()
        if context is None:
            return False
        record.rollout_id = context.rollout_id
        if context.rollout_ids:
            record.rollout_ids = list(context.rollout_ids)
        if context.experiment_id:
            record.experiment_id = context.experiment_id
        if context.run_id:
            record.run_id = context.run_id
        return True
