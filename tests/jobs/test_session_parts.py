"""What a session decides without asking anybody: defaults, candidates, losses of pairs, and calls that are repeated."""

from __future__ import annotations

import asyncio
import math
import socket

import pytest
import torch
from aiohttp import web
from tunesmith.agent.plan import Evaluation, EvaluationPath, Grid, GridPoint, Method, Plan
from tunesmith.agent.statistics import compare_losses, loss_interval
from tunesmith.db.sessions import is_child
from tunesmith.errors import FailedPrecondition
from tunesmith.jobs.session import evaluations, held_out, staging
from tunesmith.jobs.session.api import Api
from tunesmith.jobs.session.comparing import row_loss
from tunesmith.jobs.session.decide import candidates, decide, default_epochs, points
from tunesmith.jobs.session.deployment import snippet
from tunesmith.jobs.session.evaluators import SHUFFLED, archive
from tunesmith.jobs.session.losses import PairLogprobs, RowLoss, dpo, orpo
from tunesmith.schemas.names import check_id, check_job_id
from tunesmith.server.routes.sessions import LONGEST_ID
from tunesmith.training import preferences


@pytest.mark.parametrize(
    ("rows", "epochs"), [(1, 5), (500, 5), (501, 5), (625, 4), (1000, 3), (2499, 2), (2500, 1), (90_000, 1)]
)
def test_epochs_default_to_the_documented_number(rows: int, epochs: int) -> None:
    assert default_epochs(rows) == epochs


def test_default_plan_is_the_documented_one() -> None:
    plan = decide(Plan(base_models=["m", "n"]), rows=4000, method=Method.SFT)
    assert [(each.lora_rank, each.learning_rate) for each in plan.grid.points] == [(8, 1.5e-4), (16, 1e-4), (32, 5e-5)]
    assert (plan.epochs, plan.subsample, plan.parallel, plan.final_run, plan.deploy) == (1, 1000, 6, True, True)
    assert plan.evaluation.path is EvaluationPath.VALIDATION_LOSS
    assert [each.base_model for each in candidates(plan)] == ["m"] * 3 + ["n"] * 3


def test_what_was_said_wins_over_every_default_and_deciding_twice_changes_nothing() -> None:
    said = Plan(epochs=7, subsample=0, parallel=10, final_run=False, deploy=False, method=Method.ORPO)
    plan = decide(said, rows=4000, method=Method.SFT)
    assert (plan.epochs, plan.subsample, plan.parallel, plan.final_run, plan.deploy) == (7, 0, 10, False, False)
    assert decide(plan, rows=4000, method=Method.SFT) == plan


def test_preference_training_has_no_final_run_and_a_classification_is_scored() -> None:
    assert decide(Plan(), rows=10, method=Method.DPO).final_run is False
    assert decide(Plan(), rows=10, method=Method.CLASSIFICATION).evaluation.path is EvaluationPath.GENERATED


@pytest.mark.parametrize(
    ("grid", "expected"),
    [
        (Grid(lora_ranks=[8, 16], learning_rates=[1e-4, 5e-5]), [(8, 1e-4), (8, 5e-5), (16, 1e-4), (16, 5e-5)]),
        (Grid(learning_rates=[1e-3]), [(8, 1e-3)]),
        (Grid(lora_ranks=[32, 4]), [(32, 5e-5), (4, 1.5e-4)]),
        (Grid(points=[GridPoint(lora_rank=2, learning_rate=1e-5)] * 2), [(2, 1e-5)]),
    ],
)
def test_grid_is_spelled_out(grid: Grid, expected: list[tuple[int, float]]) -> None:
    assert [(each.lora_rank, each.learning_rate) for each in points(grid, preference=False)] == expected


def test_betas_multiply_the_grid() -> None:
    found = points(Grid(lora_ranks=[8], learning_rates=[1e-4], betas=[0.1, 0.3]), preference=True)
    assert [each.beta for each in found] == [0.1, 0.3]


def test_dpo_loss_of_a_model_beside_itself_is_ln_2_and_falls_as_the_margin_grows() -> None:
    reference = PairLogprobs(-10.0, 5, -12.0, 6)
    assert dpo(reference, reference, 0.1).nats == pytest.approx(math.log(2))
    better = PairLogprobs(-8.0, 5, -13.0, 6)
    assert dpo(better, reference, 0.1).nats == pytest.approx(math.log(1 + math.exp(-0.1 * 3.0)))


def test_orpo_loss_is_the_formula_of_the_paper() -> None:
    policy = PairLogprobs(-2.0, 4, -9.0, 6)
    chosen, rejected = math.exp(-0.5), math.exp(-1.5)
    odds = math.log(chosen / (1 - chosen)) - math.log(rejected / (1 - rejected))
    expected = 0.5 + 0.1 * math.log(1 + math.exp(-odds))
    assert orpo(policy, 0.1).nats == pytest.approx(expected)


def test_archive_is_the_same_bytes_for_the_same_files() -> None:
    assert archive({"b.py": "2", "a.md": "1"}) == archive({"a.md": "1", "b.py": "2"})


def test_snippet_is_python_whatever_a_row_says() -> None:
    row = {
        "messages": [
            {"role": "user", "content": 'a "quote", {braces}, \\ and\na line'},
            {"role": "assistant", "content": "x"},
        ]
    }
    text = snippet("http://127.0.0.1:1", "accounts/local/deployments/d", row)
    compile(text, "snippet", "exec")
    assert "'x'" not in text


async def test_calls_are_repeated_until_the_web_process_answers(unused_port: int) -> None:
    told: list[str] = []
    asked = 0

    async def answer(_request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        return web.json_response({"ok": True}) if asked > 1 else web.json_response({"message": "starting"}, status=503)

    async def away(reason: str) -> None:
        told.append(reason)

    async def rest(_seconds: float) -> None:
        if told and not server:  # it was said that nobody answers: now somebody does
            await start()
        await asyncio.sleep(0)

    server: list[web.AppRunner] = []

    async def start() -> None:
        app = web.Application()
        app.router.add_get("/v1/accounts/local/models/m", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", unused_port).start()
        server.append(runner)

    api = Api(f"http://127.0.0.1:{unused_port}", "local", "key", away, rest)
    assert await api.get("models/m") == {"ok": True}
    assert len(told) == 2
    assert told[0]
    assert told[1] == ""
    await api.close()
    await server[0].cleanup()


async def test_refusals_keep_their_words(unused_port: int) -> None:
    async def refuse(_request: web.Request) -> web.Response:
        return web.json_response({"code": 9, "message": "not yet", "details": []}, status=400)

    async def nothing(_: object) -> None:
        return None

    app = web.Application()
    app.router.add_get("/v1/accounts/local/models/m", refuse)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", unused_port).start()
    api = Api(f"http://127.0.0.1:{unused_port}", "local", "key", nothing, nothing)
    with pytest.raises(FailedPrecondition, match="not yet"):
        await api.get("models/m")
    await api.close()
    await runner.cleanup()


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_pair_of_which_nothing_could_be_compared_counts_for_nothing() -> None:
    compared, cut = row_loss({"loss": 0.5, "margin": 0.1}), row_loss({"loss": None, "margin": None})
    assert loss_interval([compared, cut]).mean == 0.5
    assert not compare_losses([compared, cut], [RowLoss(0.4), cut]).difference.mean > 0


def test_orpo_of_held_out_pairs_is_that_of_the_learner() -> None:
    for policy in (PairLogprobs(-2.0, 4, -9.0, 6), PairLogprobs(-1e-9, 4, -0.5, 1)):
        ours = orpo(policy, 0.3)
        given = (torch.tensor([value], dtype=torch.float64) for value in (policy.chosen, policy.rejected))
        lengths = (torch.tensor([value]) for value in (policy.chosen_tokens, policy.rejected_tokens))
        theirs = preferences.orpo(preferences.PairInput(*given, *lengths, batch_pairs=1), 0.3)
        assert ours.nats == pytest.approx(float(theirs.loss_P))
        assert ours.margin == pytest.approx(float(theirs.margin_P))


@pytest.mark.parametrize("suffix", ["c1", "base1-t3", "report-base-t10", "report-final", "gold", "shuffled"])
def test_a_session_knows_its_evaluations_from_those_of_a_longer_id(suffix: str) -> None:
    job = f"accounts/local/evaluationJobs/eval-a-b-{suffix}"
    assert is_child(job, "accounts/local/sessions/a-b")
    assert not is_child(job, "accounts/local/sessions/a")
    assert not is_child(job, "accounts/local/sessions/b")


def test_every_id_that_is_derived_from_the_longest_session_id_is_valid() -> None:
    identity = "x" * LONGEST_ID
    scored = [*evaluations.base_runs(held_out.BASE, "", "", ""), *evaluations.base_runs("base99", "", "", "")]
    for suffix in [held_out.FINAL, "c99", "gold", "shuffled", *(asked.suffix for asked in scored)]:
        check_job_id(f"eval-{identity}-{suffix}", suffix)
        check_id(f"ds-{identity}-scored-{suffix}", suffix)
    for suffix in ("c99", "final"):
        check_job_id(f"sft-{identity}-{suffix}", suffix)
    for part in (staging.SELECT_PROMPTS, staging.REPORT_PROMPTS, SHUFFLED):
        check_id(f"ds-{identity}-{part}", part)


@pytest.mark.parametrize("path", [EvaluationPath.EVALUATOR, EvaluationPath.GENERATED])
def test_evaluators_find_the_answer_of_a_row_that_loses_it(path: EvaluationPath) -> None:
    row = {"messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]}
    plan = Plan(evaluation=Evaluation(path=path))
    assert staging.shaped(row, plan) == {**row, "ground_truth": "4"}
    assert staging.shaped({**row, "ground_truth": "four"}, plan)["ground_truth"] == "four"
    assert staging.shaped(row, Plan()) == row
