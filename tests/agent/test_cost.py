"""What a plan is said to take: tokens counted by hand, ranges that narrow, money only where prices are set."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tunesmith.agent.cost import (
    Answered,
    BaseFacts,
    PlanFacts,
    actual,
    breakdown,
    estimate,
    estimate_delta,
    training_costs,
)
from tunesmith.agent.document import CandidateResult, Document, Estimate, Range, Run
from tunesmith.agent.durations import duration
from tunesmith.agent.plan import Candidate, Evaluation, EvaluationPath, Grid, GridPoint, Method, Plan
from tunesmith.catalog.prices import Price, Prices, load_prices
from tunesmith.errors import FailedPrecondition, InvalidArgument

BASE = "accounts/tunesmith/models/tiny-math-v1"
NUMBERS = BaseFacts(
    tune_tokens=10_000,
    full_tokens=15_000,
    tune_read=20_000,
    full_read=30_000,
    select_tokens=3_000,
    report_tokens=4_000,
    answer_tokens=Range(low=10, high=50),
)
POINTS = [GridPoint(lora_rank=rank, learning_rate=1e-4) for rank in (8, 16, 32)]
PLAN = Plan(
    method=Method.SFT,
    grid=Grid(points=POINTS),
    epochs=2,
    parallel=6,
    final_run=True,
    deploy=True,
    evaluation=Evaluation(path=EvaluationPath.VALIDATION_LOSS),
)
MEASURED = {(BASE, "sft"): [(1000.0, "measured")], (BASE, "score"): [(4000.0, "measured")]}
SCORED = PLAN.model_copy(update={"evaluation": Evaluation(path=EvaluationPath.GENERATED)})


def facts(plan: Plan = PLAN, **changes) -> PlanFacts:
    values = {"select_rows": 100, "report_rows": 120, "tuning_jobs": 2, "evaluation_jobs": 2, "cores": 4, "threads": 3}
    return PlanFacts(plan, {BASE: NUMBERS}, **{**values, **changes})


def width(found: Estimate) -> float:
    return found.total_seconds.high / found.total_seconds.low


def test_tokens_are_those_of_candidates_epochs_and_rows():
    found = estimate(facts(), MEASURED, Prices())
    assert found.training_tokens == 3 * 2 * 10_000 + 2 * 15_000
    assert found.inference_tokens == 2 * 4_000  # both models read the report rows once
    assert set(found.by_phase) == {"sweep", "final_run", "evaluation", "deployment"}
    assert found.total_seconds.low == pytest.approx(sum(phase.low for phase in found.by_phase.values()))
    assert (
        found.training_seconds.low < 180 < found.training_seconds.high
    )  # prompts are read, too: 180,000 tokens at 1000/s
    scored = estimate(facts(SCORED), MEASURED, Prices())
    assert scored.inference_tokens == 7 * (3_000 + 100 * 50) + 5 * (4_000 + 120 * 50)


def test_pairs_are_scored_once_by_each_model():
    pairs = PLAN.model_copy(update={"method": Method.DPO, "final_run": False})
    found = estimate(facts(pairs), {(BASE, "dpo"): [(1000.0, "measured")], **MEASURED}, Prices())
    assert found.inference_tokens == 2 * 4_000  # a pair's tokens are those of both its sequences


def test_what_jobs_were_seen_to_do_narrows_the_range():
    seen = {key: [(rate * factor, f"job-{factor}") for factor in (1.0, 1.05)] for key, [(rate, _)] in MEASURED.items()}
    wide, narrow = estimate(facts(), MEASURED, Prices()), estimate(facts(), seen, Prices())
    assert width(narrow) < width(wide)
    assert "training speed from 2 earlier jobs on this machine" in narrow.basis
    assert "a short measurement" in wide.basis
    mixed = {(BASE, "sft"): [(50.0, "measured"), *seen[BASE, "sft"]], (BASE, "score"): seen[BASE, "score"]}
    assert estimate(facts(), mixed, Prices()).total_seconds == narrow.total_seconds


def test_time_is_that_of_the_tokens_that_are_read_and_money_that_of_those_that_are_trained():
    prices = Prices(currency="EUR", default=Price(training_per_million=10))
    short = estimate(facts(), MEASURED, prices)
    longer = {BASE: replace(NUMBERS, tune_read=200_000, full_read=300_000)}
    long = estimate(replace(facts(), bases=longer), MEASURED, prices)
    assert long.training_seconds.low > 8 * short.training_seconds.low
    assert (long.training_tokens, long.training_cost) == (short.training_tokens, short.training_cost)


def test_jobs_side_by_side_share_the_cores():
    one_core = estimate(facts(cores=1, threads=1), MEASURED, Prices()).by_phase["sweep"]
    many = estimate(facts(cores=64, threads=1), MEASURED, Prices()).by_phase["sweep"]
    assert many.low < one_core.low
    assert many.high == one_core.high


def test_a_generation_never_seen_is_a_wide_guess_and_said_to_be_one():
    found = estimate(facts(SCORED), MEASURED, Prices())
    assert "generation speed guessed" in found.basis
    known = estimate(facts(SCORED), {**MEASURED, (BASE, "generate"): [(500.0, "eval-1")]}, Prices())
    assert width(known) < width(found)


def test_without_any_speed_there_is_no_estimate():
    with pytest.raises(FailedPrecondition, match="Nothing is known of how fast this machine runs"):
        estimate(facts(), {}, Prices())


def test_no_final_run_no_deployment_no_cost_of_them():
    found = estimate(facts(PLAN.model_copy(update={"final_run": False, "deploy": False})), MEASURED, Prices())
    assert set(found.by_phase) == {"sweep", "evaluation"}
    assert found.training_tokens == 60_000


def test_money_is_shown_where_prices_are_set():
    assert estimate(facts(), MEASURED, Prices()).total_cost is None
    prices = Prices(currency="EUR", models={BASE: Price(training_per_million=10, inference_per_million=1)})
    found = estimate(facts(), MEASURED, prices)
    assert found.training_cost is not None
    assert (found.training_cost.low, found.training_cost.high) == pytest.approx((0.9, 0.9))
    assert found.inference_cost is not None
    assert found.inference_cost.high == pytest.approx(0.008)
    hourly = estimate(facts(), MEASURED, Prices(currency="EUR", machine_hour=3600))
    assert hourly.training_cost is not None
    assert hourly.training_cost.high == pytest.approx(hourly.training_seconds.high)
    text = breakdown(found, spent_seconds=61)
    assert [line.split()[0] for line in text.splitlines()[1:4]] == ["Training", "Inference", "Total"]
    assert "0.90 EUR" in text.splitlines()[1]
    assert "Spent so far: 1 min 1 s." in text
    assert "No prices are set" in breakdown(estimate(facts(), MEASURED, Prices()))


def test_what_it_took_is_counted_from_the_jobs():
    one = Candidate(base_model=BASE, lora_rank=8, learning_rate=1e-4)
    done = [
        CandidateResult(number=0, candidate=one),
        CandidateResult(number=1, candidate=one, run=Run(job="c1", seconds=10, tokens=20_000)),
        CandidateResult(number=2, candidate=one, failed="no disk"),
    ]
    document = Document(candidates=done, winner=1, final=Run(job="f", seconds=30, tokens=30_000))
    document.spent = {"sweep": 12.0, "final_run": 31.0, "evaluation": 7.0}
    prices = Prices(currency="EUR", default=Price(training_per_million=10, inference_per_million=2))
    found = actual(document, prices, inference_tokens=500_000)
    assert (found.training_tokens, found.total_seconds.low, found.training_seconds.high) == (50_000, 50.0, 40.0)
    assert found.training_cost == Range(low=0.5, high=0.5)
    assert found.total_cost == Range(low=1.5, high=1.5)
    assert training_costs(document, prices) == {1: 0.2}
    assert training_costs(document, Prices()) == {}


def test_prices_come_from_a_file_of_the_data_folder(tmp_path: Path):
    assert load_prices(tmp_path) == Prices()
    file = tmp_path / "prices.json"
    file.write_text(json.dumps({"currency": "USD", "default": {"training_per_million": 0.5}, "machine_hour": 2}))
    prices = load_prices(tmp_path)
    assert (prices.currency, prices.of(BASE).training_per_million, prices.machine_hour) == ("USD", 0.5, 2)
    for wrong in (
        '{"currency": "USD", "defualt": {}}',
        '{"currency": "USD", "machine_hour": -1}',
        "{",
        '{"machine_hour": 1}',
    ):
        file.write_text(wrong)
        with pytest.raises(InvalidArgument, match=r"prices\.json"):
            load_prices(tmp_path)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.0 s"), (9.96, "10 s"), (59.6, "1 min"), (200, "3 min 20 s"), (3599.7, "1 h"), (7500, "2 h 5 min"), (300_000, "3 d 11 h")],
)  # fmt: skip
def test_durations_read_well(seconds: float, words: str):
    assert duration(seconds) == words


def test_pairs_that_are_to_be_made_cost_both_models_answers_and_training_on_them():
    plan = PLAN.model_copy(update={"method": Method.DPO, "final_run": False})
    numbers = replace(NUMBERS, tune_rows=100, tune_read=2_000, report_tokens=500)
    before = replace(facts(plan, select_rows=10, report_rows=20), bases={BASE: numbers})
    answers = Range(low=4, high=40)
    speeds = {**MEASURED, (BASE, "dpo"): [(1000.0, "measured")], (BASE, "generate"): [(100.0, "job")]}
    made = [Answered(BASE, 130, 2_600, answers), Answered(BASE, 130, 2_600, answers)]
    prices = Prices(currency="USD", default=Price(inference_per_million=1.0))
    found = estimate_delta(before, made, speeds, prices)
    assert found.training_tokens == 3 * 2 * 100 * (40 + 40)  # candidates, epochs, rows, both answers at their longest
    assert found.inference_tokens == 2 * (2_600 + 130 * 40) + 4 * (500 + 20 * 40)
    alone = estimate_delta(before, [], speeds, prices)
    assert found.inference_seconds.high > alone.inference_seconds.high + 2 * 130 * 40 / 120
    assert found.inference_cost is not None
    assert found.inference_cost.high == pytest.approx(found.inference_tokens / 1e6)
    assert found.total_seconds.low == pytest.approx(sum(phase.low for phase in found.by_phase.values()))
    assert found.total_seconds.high == pytest.approx(sum(phase.high for phase in found.by_phase.values()))
