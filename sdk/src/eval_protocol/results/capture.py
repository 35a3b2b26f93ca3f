"""Keeping what is logged while a rollout runs: a handler on the root logger for as long as an experiment runs.

It takes what the program's own logging settings let through; no level is changed. A record belongs to the rollout whose
`rollout_logging_context` it was made in; made outside of any, it is not kept.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from eval_protocol.results.logs import MOST_LINES, LogLine
from eval_protocol.tracing.filters import current_rollout
from eval_protocol.tracing.lines import line_of

LEFT_OUT = f"Only the first {MOST_LINES:,} lines of a rollout are kept; what follows is left out."


class LineKeeper(logging.Handler):
    """Hands the lines of rollouts to `keep`, at most MOST_LINES of each rollout."""

    def __init__(self, keep: Callable[[LogLine], None]) -> None:
        super().__init__()
        self._keep = keep
        self._kept: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the record, and let a warning be printed that nobody else would print."""
        try:
            if record.levelno >= logging.WARNING and logging.lastResort and self._is_alone(record.name):
                logging.lastResort.handle(record)
            context = current_rollout()
            for rollout_id in dict.fromkeys((context.rollout_id, *context.rollout_ids)) if context else ():
                self._kept[rollout_id] += 1
                if self._kept[rollout_id] <= MOST_LINES:
                    self._keep(_line(record, rollout_id, self.formatter))
                elif self._kept[rollout_id] == MOST_LINES + 1:
                    self._keep(
                        LogLine(rollout_id, record.created, "WARNING", logging.WARNING, "eval_protocol", LEFT_OUT)
                    )
        except Exception:  # noqa: BLE001 - the logging module's own contract: a handler reports and goes on
            self.handleError(record)

    def _is_alone(self, name: str) -> bool:
        """Whether no other handler gets what this logger logs: then Python prints its warnings, unless a handler such as this one is there."""
        logger: logging.Logger | None = logging.getLogger(name)
        while logger is not None:
            if any(handler is not self for handler in logger.handlers):
                return False
            logger = logger.parent if logger.propagate else None
        return True


@contextmanager
def keeping_lines(keep: Callable[[LogLine], None]) -> Iterator[None]:
    """Keep lines until the block ends."""
    handler, root = LineKeeper(keep), logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)


def _line(record: logging.LogRecord, rollout_id: str, formatter: logging.Formatter | None) -> LogLine:
    body = line_of(record, rollout_id, formatter)
    return LogLine(
        rollout_id, record.created, record.levelname, record.levelno, record.name, body["message"], body["status"]
    )
