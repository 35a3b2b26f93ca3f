"""The contract of a rollout processor. Subclassing it is the normal way to plug in an agent."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Protocol

from eval_protocol.models import CompletionParams, EvaluationRow
from eval_protocol.rollouts.retries import ExceptionHandlerConfig


class RowLogger(Protocol):
    """Takes a row at each change of its state."""

    def log(self, row: EvaluationRow) -> None:
        """Keep the row as it is now."""
        ...


@dataclass
class RolloutProcessorConfig:
    """What a processor gets with its rows."""

    completion_params: CompletionParams
    """Sampling parameters of the experiment, with keys."""
    semaphore: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(96))
    """`max_concurrent_rollouts` slots, shared by all runs of an experiment. A processor holds one while a rollout runs."""
    mcp_config_path: str | None = None
    server_script_path: str | None = None
    steps: int = 30
    """Step limit of environments and agent loops."""
    logger: RowLogger | None = None
    """For processors that show a trajectory while it grows."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """`rollout_processor_kwargs` of the decorator."""
    exception_handler_config: ExceptionHandlerConfig = field(default_factory=ExceptionHandlerConfig)


class RolloutProcessor:
    """Turns rows into trajectories.

    `setup` is called once before the first rollout, `__call__` with the rows of one run (and with a single row when a rollout is
    tried again), `acleanup` once at the end, in the same event loop. A failed rollout raises, or comes back with an error status.
    """

    def setup(self) -> None:
        """Prepare; nothing by default."""

    def __call__(self, rows: list[EvaluationRow], config: RolloutProcessorConfig) -> list[asyncio.Task[EvaluationRow]]:
        """Start one task per row, in the order of the rows."""
        raise NotImplementedError(f"{type(self).__name__} must implement __call__(rows, config) -> list of tasks.")

    async def acleanup(self) -> None:
        """Free what needs an event loop. Calls `cleanup` by default."""
        self.cleanup()

    def cleanup(self) -> None:
        """Free the rest; nothing by default."""
