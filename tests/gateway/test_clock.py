"""The gateway's time of day: forward with the machine's clock, never back."""

from __future__ import annotations

import time

import pytest
from tunesmith.gateway.clock import OnwardClock, record_id


class Machine:
    """A machine whose two clocks the test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall, self.monotonic = 1_000_000.0, 50.0
        monkeypatch.setattr(time, "time", lambda: self.wall)
        monkeypatch.setattr(time, "monotonic", lambda: self.monotonic)

    def pass_seconds(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds


def test_a_clock_that_is_set_back_does_not_turn_records_around(monkeypatch):
    machine = Machine(monkeypatch)
    clock = OnwardClock()
    begun = clock.now()
    machine.pass_seconds(2)
    machine.wall -= 86_400
    assert clock.now() == pytest.approx(begun + 2), "as if nothing had happened"
    machine.pass_seconds(3)
    assert clock.now() == pytest.approx(begun + 5)
    machine.wall += 86_400
    assert clock.now() == pytest.approx(begun + 5 + 86_400), "forward it follows"


def test_small_corrections_are_followed(monkeypatch):
    machine = Machine(monkeypatch)
    clock = OnwardClock()
    machine.pass_seconds(10)
    machine.wall -= 0.2
    assert clock.now() == machine.wall


def test_ids_of_records_grow_with_time_and_no_two_are_the_same():
    ids = [record_id() for _ in range(2000)]
    assert len(set(ids)) == 2000
    assert {len(id) for id in ids} == {32}
    times = [int(id[:12], 16) for id in ids]
    assert times == sorted(times)
    assert abs(times[0] / 1000 - time.time()) < 3600
