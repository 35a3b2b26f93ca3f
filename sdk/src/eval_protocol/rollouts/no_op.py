"""No rollout: the rows carry their outputs already, or the evaluator makes them itself."""

from __future__ import annotations

import asyncio

from eval_protocol.models import EvaluationRow
from eval_protocol.rollouts.processor import RolloutProcessor, RolloutProcessorConfig


class NoOpRolloutProcessor(RolloutProcessor):
    """Hands the rows back unchanged."""

    def __call__(self, rows: list[EvaluationRow], config: RolloutProcessorConfig) -> list[asyncio.Task[EvaluationRow]]:
        """One finished task per row."""

        async def same(row: EvaluationRow) -> EvaluationRow:
            return row

        return [asyncio.create_task(same(row)) for row in rows]
