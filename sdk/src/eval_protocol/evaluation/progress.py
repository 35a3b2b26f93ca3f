"""Progress while an experiment runs: bars on a terminal, a few plain lines anywhere else."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Protocol, TextIO

UNKNOWN_WIDTH = 80
"""Columns of a terminal that does not say (containers, CI): tqdm would draw nothing."""
QUARTERS = 4
"""Lines about rollouts in a log file, per experiment."""


SHOWN_LOGGER = "eval_protocol"
"""Its lines (INFO and above) are shown while an experiment runs: how remote rollouts go."""


class Progress(Protocol):
    """What the runner tells while it works. Runs are numbered from 0."""

    def begin(self, runs: int, rows: int) -> None:
        """The experiment starts."""

    def rollout_done(self, run: int) -> None:
        """A rollout of this run has ended."""

    def evaluation_done(self, run: int, *, failed: bool = False) -> None:
        """A rollout of this run has been scored, or has failed."""

    def end(self) -> None:
        """The experiment is over; called whatever happened."""


class Silent:
    """Says nothing."""

    def begin(self, runs: int, rows: int) -> None:
        """Nothing."""

    def rollout_done(self, run: int) -> None:
        """Nothing."""

    def evaluation_done(self, run: int, *, failed: bool = False) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""


class _LogLines(logging.Handler):
    """Shows our own log lines between the progress, as `LEVEL:logger:message`; never through the root logger's handlers twice."""

    def __init__(self, write: Callable[[str], None]) -> None:
        super().__init__(logging.INFO)
        self.setFormatter(logging.Formatter("%(levelname)s:%(name)s:%(message)s"))
        self._write = write
        self._before = logging.NOTSET

    def emit(self, record: logging.LogRecord) -> None:
        """Show the record."""
        try:
            self._write(self.format(record))
        except Exception:  # noqa: BLE001 - the logging module's own contract: a handler reports and goes on
            self.handleError(record)

    def begin(self) -> None:
        """From now on."""
        logger = logging.getLogger(SHOWN_LOGGER)
        if self in logger.handlers:
            return
        self._before = logger.level
        if logger.getEffectiveLevel() > logging.INFO:
            logger.setLevel(logging.INFO)
        logger.addHandler(self)

    def end(self) -> None:
        """No longer; the logger's level is what it was."""
        logger = logging.getLogger(SHOWN_LOGGER)
        if self in logger.handlers:
            logger.removeHandler(self)
            logger.setLevel(self._before)


class Bars:
    """tqdm bars: one for the runs, and per run one for rollouts and one for evaluations."""

    def __init__(self, stream: TextIO) -> None:
        from tqdm import tqdm  # noqa: PLC0415 - only where a person watches

        self._tqdm = partial(tqdm, file=stream, ncols=None if _columns(stream) else UNKNOWN_WIDTH)
        self._lines = _LogLines(partial(tqdm.write, file=stream))
        self._left: list[int] = []

    def begin(self, runs: int, rows: int) -> None:
        """Draw the bars."""
        self._lines.begin()
        self._left = [rows] * runs
        self._runs = self._tqdm(total=runs, desc="Runs (Parallel)", unit="run", position=0)
        self._rollouts = [self._bar(f"Run {run + 1}", "rollout", rows, 1 + 2 * run) for run in range(runs)]
        self._evaluations = [self._bar(f"Eval {run + 1}", "eval", rows, 2 + 2 * run) for run in range(runs)]

    def _bar(self, label: str, unit: str, total: int, position: int):
        return self._tqdm(desc=label, unit=unit, total=total, position=position, leave=False)

    def rollout_done(self, run: int) -> None:
        """One step of the run's first bar."""
        self._rollouts[run].update()

    def evaluation_done(self, run: int, *, failed: bool = False) -> None:
        """One step of the run's second bar; the last one completes the run."""
        self._evaluations[run].update()
        self._left[run] -= 1
        if self._left[run] == 0:
            self._runs.update()

    def end(self) -> None:
        """Close the bars; that of the runs stays visible."""
        self._lines.end()
        for bar in [*reversed(self._evaluations), *reversed(self._rollouts), self._runs]:
            bar.close()


class Lines:
    """One line per quarter, for log files and CI."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lines = _LogLines(lambda text: print(text, file=stream, flush=True))

    def begin(self, runs: int, rows: int) -> None:
        """Remember the totals."""
        self._lines.begin()
        self._runs, self._total, self._done, self._failed, self._said = runs, runs * rows, 0, 0, 0
        self._started = time.monotonic()

    def rollout_done(self, run: int) -> None:
        """Counted when it is scored."""

    def evaluation_done(self, run: int, *, failed: bool = False) -> None:
        """Say so at each quarter."""
        self._done += 1
        self._failed += failed
        quarter = self._done * QUARTERS // self._total
        if quarter > self._said:
            self._said = quarter
            seconds = time.monotonic() - self._started
            outcome = f"rollouts, {self._failed} failed" if self._failed else "rollouts scored"
            noun = "run" if self._runs == 1 else "runs"
            print(
                f"Runs (Parallel): {self._done * 100 // self._total}% of {self._runs} {noun}: "
                f"{self._done}/{self._total} {outcome} [{seconds:.1f}s]",
                file=self._stream,
                flush=True,
            )

    def end(self) -> None:
        """Show no more log lines."""
        self._lines.end()


def _columns(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns
    except OSError:
        return 0


def for_stream(stream: TextIO | None = None) -> Progress:
    """Bars when the stream (standard error) is a terminal, else lines."""
    stream = stream or sys.stderr
    if stream is None:
        return Silent()
    return Bars(stream) if stream.isatty() else Lines(stream)
