"""When memory runs out in a step: half the tokens at a time, and the same batch again.

The gradients of micro-batches add up to the batch's however it is cut, so a smaller budget changes rounding and nothing else. Rounding
decides whether a killed and restarted learner ends with the same bits, so a budget is written down before it is computed with:
`budgets.jsonl` in the run directory, `{"step", "max_tokens_per_micro_batch"}` a line, in force from that step on. A restart reads it
and computes every step as it was computed before.
"""

from __future__ import annotations

import errno
import gc
import logging
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import torch

from tunesmith.errors import FailedPrecondition
from tunesmith.runs.files import BUDGETS_FILE, JsonLines, read_json_lines

log = logging.getLogger(__name__)

_WORDS = (
    "can't allocate memory",
    "not enough memory",
    "Cannot allocate memory",
    "STATUS_ALLOC_FAILED",
    "out of memory",
)
"""How torch's CPU allocator, the C library and CUDA's libraries say it."""
WHAT_TO_DO = (
    "Lower the longest completion or the max context length, choose a smaller base model, or free memory on this machine; "
    "then resume the job."
)
T = TypeVar("T")


class Budget:
    """Tokens of a micro-batch, step by step: what the run was configured with, halved wherever memory ran out."""

    def __init__(self, run_dir: Path, configured: int) -> None:
        self._path = run_dir / BUDGETS_FILE
        self._configured = configured
        self._halved = [(line["step"], line["max_tokens_per_micro_batch"]) for _, line in read_json_lines(self._path)]

    def at(self, step: int) -> int:
        """The budget that `step` is computed with."""
        return min([self._configured, *(tokens for since, tokens in self._halved if since <= step)])

    def fit(self, step: int, lengths: Sequence[int], work: Callable[[int], T]) -> T:
        """`work(budget)`; where memory runs out in it, the same with half the budget, down to one sequence at a time.

        Args:
            step: the optimizer step that is computed.
            lengths: tokens of the batch's sequences.
            work: computes the whole batch, from the beginning each time, in micro-batches of at most so many tokens.

        Raises FailedPrecondition, with what to do, when one sequence at a time is too much.
        """
        while True:
            budget = self.at(step)
            try:
                return work(budget)
            except (MemoryError, RuntimeError, OSError) as error:
                if not is_out_of_memory(error):
                    raise
                reason = first_line(error)
            # Behind the handler: the exception is gone, and with it the frames that held the attempt's tensors.
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            if budget < min(lengths):
                raise FailedPrecondition(
                    f"Step {step} does not fit into memory, not even one sequence at a time (the longest has {max(lengths)} "
                    f"tokens): {reason}. {WHAT_TO_DO}"
                )
            self._halve(step, max(1, min(budget, sum(lengths)) // 2))
            log.warning(
                "Step %d ran out of memory with %d tokens at a time (%s); from here on at most %d.",
                *(step, budget, reason, self.at(step)),
            )

    def _halve(self, step: int, tokens: int) -> None:
        with closing(JsonLines(self._path)) as lines:
            lines.append({"step": step, "max_tokens_per_micro_batch": tokens})
        self._halved.append((step, tokens))


def first_line(error: BaseException) -> str:
    """What an exception says, shortly; torch adds its C++ stack."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on the CPU or on a GPU."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(word in str(error) for word in _WORDS)
