"""Estimates before a job is created: counted where it can be counted, wide where nothing is known, narrow where jobs ran before."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from tunesmith.catalog.prices import Price, Prices
from tunesmith.db import throughputs
from tunesmith.db.jobs import enqueue
from tunesmith.db.rollouts import add_events, add_rollouts
from tunesmith.orchestrator.schedule import chunks
from tunesmith.server.estimates import Machine, RftWork, estimate_rft, steps_of

from tests.server.conftest import BASE_MODEL, Platform, jsonl
from tests.server.test_rft_jobs import body
from tests.server.test_rft_monitoring import spec
from tests.server.test_rft_rollouts import line

JOBS = "/reinforcementFineTuningJobs"


def test_steps_are_those_that_the_schedule_cuts() -> None:
    rng = random.Random(3)
    for _ in range(500):
        rows, epochs = rng.randint(1, 60), rng.randint(1, 3)
        size = rng.choice([None, rng.randint(1, 70)])
        cut = chunks(rows, epochs=epochs, chunk_size=size, shuffle=True, seed=0)
        assert steps_of(rows, epochs, size) == len(cut), (rows, epochs, size)


@pytest.fixture
def ready(platform: Platform) -> Platform:
    platform.dataset("d", jsonl(20))
    platform.evaluator("e")
    return platform


def test_a_job_on_a_model_that_nothing_is_known_of(ready: Platform) -> None:
    found = ready.ok("POST", f"{JOBS}:estimate", json=body(chunkSize=5))
    assert (found["steps"], found["rollouts"]) == (4, 20 * 8)
    prompt = len("What is 2 + 2?")
    assert 160 * 5 < found["promptTokens"]["low"] <= found["promptTokens"]["high"] < 160 * (prompt + 30)
    assert found["sampledTokens"] == {"low": 1200, "high": 13000}, "a tenth of 80 tokens to all of them"
    assert found["trainedTokens"]["low"] < found["trainedTokens"]["high"] <= found["sampledTokens"]["high"]
    assert 0 < found["seconds"]["low"] < found["seconds"]["high"]
    assert found["cost"] is None
    assert any("guessed" in text for text in found["assumptions"])


def observed(platform: Platform, identity: str, tokens: int, seconds: float) -> None:
    name = f"accounts/local/reinforcementFineTuningJobs/{identity}"
    chunk = {"kind": "chunk", "seconds": seconds, "step": 0, "sealed": 1}
    lines = [line(0, n, 0, rollout_id=f"{identity}{n}", completion_tokens=tokens) for n in range(10)]
    with platform.control.sessions.begin() as session:
        fields = {**spec(), "base_model": BASE_MODEL, "evaluator": "accounts/local/evaluators/e"}
        enqueue(session, name, "accounts/local", "rft", fields, state="JOB_STATE_COMPLETED")
        add_events(session, name, "events.jsonl", [(1, {**chunk, "time": 100.0 + seconds})])
        add_events(session, name, "metrics.jsonl", [(1, {"step": 0, "trained_tokens": 5 * tokens})])
        add_rollouts(session, name, "rollouts.jsonl", list(enumerate(lines)))


def test_earlier_jobs_narrow_it(ready: Platform) -> None:
    wide = ready.ok("POST", f"{JOBS}:estimate", json=body())
    observed(ready, "first", tokens=30, seconds=3.0)  # 100 sampled tokens a second
    observed(ready, "second", tokens=40, seconds=4.0)
    found = ready.ok("POST", f"{JOBS}:estimate", json=body())
    assert 160 * 20 < found["sampledTokens"]["low"] <= 160 * 30
    assert 160 * 40 <= found["sampledTokens"]["high"] < 160 * 60
    assert 160 * 30 / 100 < found["seconds"]["high"] < 160 * 60 / 100 * 1.5 + 70
    width = found["sampledTokens"]["high"] / found["sampledTokens"]["low"]
    assert width < wide["sampledTokens"]["high"] / wide["sampledTokens"]["low"]
    assert any("2 earlier jobs of this evaluator" in text for text in found["assumptions"])


def test_money_where_prices_are_set(ready: Platform) -> None:
    prices = {"currency": "EUR", "default": {"training_per_million": 2.0, "inference_per_million": 0.5}}
    (ready.control.settings.data_dir / "prices.json").write_text(json.dumps(prices))
    found = ready.ok("POST", f"{JOBS}:estimate", json=body())
    low = (
        2.0 * found["trainedTokens"]["low"] + 0.5 * (found["promptTokens"]["low"] + found["sampledTokens"]["low"])
    ) / 1e6
    assert found["cost"]["currency"] == "EUR"
    assert found["cost"]["low"] == pytest.approx(low, rel=0.1)


def test_an_estimate_is_refused_as_the_create_would_be(ready: Platform) -> None:
    assert "outside valid range" in ready.fails(
        400, "POST", f"{JOBS}:estimate", json=body(trainingConfig={"learningRate": 9})
    )
    ready.fails(404, "POST", f"{JOBS}:estimate", json=body(dataset="none"))
    ready.fails(400, "POST", f"{JOBS}:estimate", json={"dataset": "d"})


def test_sft_and_dpo(ready: Platform) -> None:
    rows = [
        {"messages": [{"role": "user", "content": "Say A."}, {"role": "assistant", "content": "A " * n}]}
        for n in range(1, 21)
    ]
    ready.dataset("sft", b"".join(json.dumps(row).encode() + b"\n" for row in rows))
    job: dict[str, Any] = {"dataset": "sft", "baseModel": BASE_MODEL, "epochs": 2, "batchSizeSamples": 4}
    wide = ready.ok("POST", "/supervisedFineTuningJobs:estimate", json=job)
    assert (wide["steps"], wide["rollouts"], wide["sampledTokens"]) == (10, 0, {"low": 0, "high": 0})
    with ready.control.sessions.begin() as session:
        throughputs.record(session, BASE_MODEL, "sft", 1000.0, "accounts/local/supervisedFineTuningJobs/x")
    found = ready.ok("POST", "/supervisedFineTuningJobs:estimate", json=job)
    assert found["trainedTokens"] == wide["trainedTokens"]
    read = found["trainedTokens"]["high"] + found["promptTokens"]["high"]
    assert found["seconds"]["high"] < read / 1000 * 2 + 62
    pair = {"input": {"messages": [{"role": "user", "content": "Say A."}]}}
    pair |= {
        "preferred_output": [{"role": "assistant", "content": "A"}],
        "non_preferred_output": [{"role": "assistant", "content": "B"}],
    }
    ready.dataset("dpo", b"".join(json.dumps(pair).encode() + b"\n" for _ in range(8)))
    dpo = {
        "dataset": "dpo",
        "trainingConfig": {"baseModel": BASE_MODEL, "batchSizeSamples": 4},
        "lossConfig": {"method": "DPO"},
    }
    assert ready.ok("POST", "/dpoJobs:estimate", json=dpo)["steps"] == 2


def test_a_model_that_is_not_here_has_no_time_and_a_machine_that_costs_no_price() -> None:
    work = RftWork(rows=10, epochs=1, chunk_size=None, n=4, max_tokens=100, prompt_tokens=20.0, prompt_tokens_known=False,
                   evaluated_rollouts=0, evaluator="e")  # fmt: skip
    by_hour = Prices(currency="USD", machine_hour=1.0)
    found = estimate_rft(work, "m", [], Machine(), by_hour)
    assert (found["seconds"], found["cost"]) == (None, None)
    by_token = Prices(currency="USD", default=Price(training_per_million=1.0))
    assert estimate_rft(work, "m", [], Machine(), by_token)["cost"] is not None
