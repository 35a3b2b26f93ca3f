"""Scoring rows as they are: the answer that a row ends in takes the place of a rollout."""

from __future__ import annotations

import asyncio

from eval_protocol.models import EvaluationRow, Status
from eval_protocol.models.status import Code
from eval_protocol.rollouts import NoOpRolloutProcessor, RolloutProcessorConfig


class AsTheyAre(NoOpRolloutProcessor):
    """Hands rows back that end in an answer; the others cannot be scored."""

    def __call__(self, rows: list[EvaluationRow], config: RolloutProcessorConfig) -> list[asyncio.Task[EvaluationRow]]:
        """One finished task per row."""
        for row in rows:
            if not row.messages or row.messages[-1].role != "assistant":
                reason = "The row does not end in an assistant message: there is no answer to score. Name a model that answers."
                row.rollout_status = Status.of(Code.INVALID_ARGUMENT, reason)
        return super().__call__(rows, config)
