"""How a job's score went, with the noise it has: the first third of its chunks against the last, and held-out rows in pairs. Pure functions.

The 95 % interval of the training score's change comes from the rollouts of both thirds, clustered by row, where they are known: the
interval of each (`runs.intervals.bounded`), put together by Newcombe's method 10 (1998, "Interval estimation for the difference between
independent proportions"), which leaves room also where all rows of a third are alike. Else it comes from the mean square of successive
differences of the chunks' means (von Neumann 1941), which a trend hardly touches. Chunks have different rows, so that the change of a few
of them is mostly a change of rows: held-out rows, scored at the first and the newest version, say more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tunesmith.runs.intervals import bounded, clustered_standard_error, mean, t_quantile
from tunesmith.runs.paired import paired
from tunesmith.server.reward_audit import AuditRow

NEGLIGIBLE = 0.02
"""A change of the mean score below which a curve is called flat, if it is known so well."""
_FEWEST_ROWS = 2


@dataclass(frozen=True)
class Course:
    """A score before and after."""

    first: float
    last: float
    change: float
    low: float
    """95 % interval of the change, in -1..1."""
    high: float

    @property
    def rose(self) -> bool:
        """Whether it rose beyond doubt, and by more than nothing."""
        return self.low > 0 and self.change >= NEGLIGIBLE

    @property
    def fell(self) -> bool:
        """The same of a fall."""
        return self.high < 0 and self.change <= -NEGLIGIBLE

    def verb(self) -> str:
        """What it did, in words."""
        if self.rose or self.fell:
            return "rose" if self.rose else "fell"
        if -NEGLIGIBLE < self.change < NEGLIGIBLE and max(-self.low, self.high) < 2 * NEGLIGIBLE:
            return "is flat"
        return "shows no change that its noise would allow to tell"

    def figures(self) -> str:
        """`+0.130, 95 % interval -0.020 to +0.280`."""
        return f"{self.change:+.3f}, 95 % interval {self.low:+.3f} to {self.high:+.3f}"


def training_course(chunks: Sequence[tuple[int, float]], rows: Sequence[AuditRow]) -> Course | None:
    """Mean score of the last third of the chunks against that of the first; None with fewer than two chunks.

    Args:
        chunks: (step, mean score) of each, in order.
        rows: scored training rollouts; older ones may be missing.
    """
    if len(chunks) < 2:
        return None
    third = max(1, len(chunks) // 3)
    begin, end = chunks[:third], chunks[-third:]
    first, last = (mean([score for _, score in part]) for part in (begin, end))
    change = last - first
    before, after = (_interval_of_rollouts(part, score, rows) for part, score in ((begin, first), (end, last)))
    if before is None or after is None:
        down = up = _half_of_chunks([score for _, score in chunks], third)
    else:
        down = math.hypot(last - after[0], before[1] - first)
        up = math.hypot(after[1] - last, first - before[0])
    return Course(first, last, change, max(-1.0, change - down), min(1.0, change + up))


def held_out_course(first: Mapping[int, float], last: Mapping[int, float]) -> Course | None:
    """Scores by row of two versions, in pairs; None with fewer than two rows that both have."""
    both = sorted(first.keys() & last.keys())
    if len(both) < _FEWEST_ROWS:
        return None
    before, after = [first[row] for row in both], [last[row] for row in both]
    found = paired(before, after)
    return Course(mean(before), mean(after), found.difference, found.low, found.high)


def _interval_of_rollouts(
    part: Sequence[tuple[int, float]], center: float, rows: Sequence[AuditRow]
) -> tuple[float, float] | None:
    """95 % interval of a part's mean score, from its rollouts; None where some are not known, or too few rows are."""
    steps = {step for step, _ in part}
    if not steps <= {row.step for row in rows}:
        return None
    groups: dict[int, list[float]] = {}
    for row in rows:
        if row.step in steps:
            groups.setdefault(row.row, []).append(row.score)
    error = clustered_standard_error(list(groups.values()))
    return None if error is None else bounded(center, error, len(groups))


def _half_of_chunks(scores: Sequence[float], third: int) -> float:
    """Half the width of the change's interval, from the chunks' means alone."""
    pairs = len(scores) - 1
    variance = math.fsum((b - a) ** 2 for a, b in zip(scores, scores[1:], strict=False)) / (2 * pairs)
    # Successive differences share values: they have about two thirds of the degrees of freedom that they seem to have.
    return t_quantile(max(1, 2 * pairs // 3)) * math.sqrt(variance * 2 / third)
