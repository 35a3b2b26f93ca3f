"""When the supervisor starts a child again."""

from __future__ import annotations

import itertools

from tunesmith.cli.supervisor import delay_after


def delays(*ran: float) -> list[float]:
    """Delays before each start of a child that ran so many seconds each time."""
    return [*itertools.accumulate(ran, delay_after, initial=0.0)][1:]


def test_a_child_that_keeps_failing_is_started_ever_later():
    assert delays(*[0.1] * 8) == [0.5, 1, 2, 4, 8, 16, 30, 30]


def test_one_that_ran_well_for_a_minute_is_started_at_once_again():
    assert delays(*[0.1] * 7, 61.0, 0.1, 59.0) == [0.5, 1, 2, 4, 8, 16, 30, 0.5, 1, 2]
