"""What an RFT job has cost: tokens and the time that workers had it, whatever the machine's clock was set to."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from tunesmith.jobs.handler import ClaimedJob
from tunesmith.jobs.rft_cost import RunCost

DAY = 86_400.0
EURO_A_SECOND = {"currency": "EUR", "machine_hour": 3600.0, "default": {"inference_per_million": 1e6}}
"""And as much for each sampled token."""


def claim(data_dir: Path, **run: Any) -> RunCost:
    """A claim of a job that was taken up first a day ago, with what its run showed until now."""
    started = time.time() - DAY
    job = ClaimedJob(
        "n", "accounts/a", "rft", {}, "JOB_STATE_RUNNING", {"run": run}, 1, started, started, delete_requested=False
    )
    return RunCost(data_dir, "base", job)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    (tmp_path / "prices.json").write_text(json.dumps(EURO_A_SECOND))
    return tmp_path


def test_a_clock_that_is_set_changes_no_cost(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cost, now = claim(data_dir), time.time
    for days in (1, -1):
        monkeypatch.setattr(time, "time", lambda days=days: now() + days * DAY)
        tokens = 5000 + days, 7
        found = cost.so_far(tokens)
        assert (found["sampled_tokens"], found["trained_tokens"], found["currency"]) == (*tokens, "EUR")
        assert tokens[0] <= found["cost"] < tokens[0] + DAY / 2


def test_a_claim_goes_on_from_the_time_of_the_one_before(data_dir: Path) -> None:
    found = claim(data_dir, sampled_tokens=1, seconds=7200.0).so_far((2, 0))
    assert 7200.0 <= found["seconds"] < DAY / 2
    assert found["cost"] == pytest.approx(2 + found["seconds"])
    found = claim(data_dir, sampled_tokens=1).so_far((2, 0))
    assert found["seconds"] >= DAY, "a claim of an earlier version did not measure"


def test_time_counts_to_the_last_token(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cost, now = claim(data_dir), time.monotonic
    found = cost.so_far((1, 0))
    monkeypatch.setattr(time, "monotonic", lambda: now() + 100.0)
    assert cost.so_far((1, 0)) == found
    assert cost.so_far((2, 0))["seconds"] >= found["seconds"] + 100.0


def test_without_prices_nothing_costs(tmp_path: Path) -> None:
    assert set(claim(tmp_path).so_far((1, 0))) == {"sampled_tokens", "trained_tokens", "seconds"}
    estimate = {"seconds": {"low": 10.0, "high": 30.0}, "sampled_tokens": 4}
    assert claim(tmp_path).expected({"estimate": estimate})["preflight"]["estimate"]["cost"] is None


def test_a_preflights_estimate_is_priced(data_dir: Path) -> None:
    estimate = {"seconds": {"low": 10.0, "high": 30.0}, "sampled_tokens": 4}
    found = claim(data_dir).expected({"verdict": "fine", "estimate": estimate})["preflight"]
    assert found == {
        "verdict": "fine",
        "estimate": {**estimate, "cost": {"low": 14.0, "high": 34.0, "currency": "EUR"}},
    }
    assert claim(data_dir).expected(None) == {}
