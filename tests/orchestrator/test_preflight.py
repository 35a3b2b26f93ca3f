"""The preflight: what it says of scores that are known, and that it neither changes the training nor costs a restart anything."""

from __future__ import annotations

import pytest
from tunesmith.orchestrator.groups import ScoredRollout
from tunesmith.orchestrator.preflight import Baseline, chosen_rows, figures, no_valid_score
from tunesmith.orchestrator.samples import Calls
from tunesmith.runs.config import RunConfig

from tests.orchestrator.world import World, default_score

ON = {"preflight": {"rows": 4}}


def rolled(scores: list[list[float | None]], truncated: bool = False) -> list[ScoredRollout]:
    return [
        ScoredRollout(
            row_index=row,
            k=k,
            attempt=0,
            rollout_id=f"r{row}-{k}",
            version=0,
            score=score,
            is_score_valid=score is not None,
            reason="" if score is not None else "boom",
            calls=Calls(turns=1, completion_tokens=10, truncated=truncated),
        )
        for row, group in enumerate(scores)
        for k, score in enumerate(group)
    ]


def said(scores: list[list[float | None]], n: int = 4, seconds: float | None = 8.0, truncated: bool = False, **more):
    config = RunConfig.model_validate(
        {
            "job": "job",
            "base_model": {"name": "base", "path": "/nowhere"},
            "dataset": "/rows",
            "gateway_url": "",
            "host_socket": "/h",
            "n": n,
        }
    )
    options = {"threshold": 1.0, "total_rollouts": 160, **more}
    return figures(rolled(scores, truncated), config, seconds=seconds, **options)


def test_the_figures_of_known_scores():
    found = said([[1.0, 0.0, 0.0, 0.0], [0.0] * 4, [1.0] * 4, [1.0, 1.0, 0.0, None]])
    assert found["pass_at_1"] == pytest.approx((1 / 4 + 0 + 1 + 2 / 3) / 4, abs=1e-6)
    assert (found["pass_at_8_k"], found["pass_at_8"]) == (4, pytest.approx((1 + 0 + 1) / 3, abs=1e-6))
    assert (found["groups"], found["varying_groups"], found["solved_groups"], found["unsolved_groups"]) == (4, 2, 1, 1)
    assert found["mean_score"] == pytest.approx(7 / 15, abs=1e-6)
    assert found["low"] < found["mean_score"] < found["high"]
    assert (found["invalid"], found["completion_tokens_mean"]) == (1, 10.0)
    assert found["estimate"]["seconds"] == {"low": 80, "high": 240}
    assert found["estimate"]["sampled_tokens"] == 1600
    assert {name: found["estimate"][name] for name in ("rollouts", "rows", "n", "epochs")} == {
        "rollouts": 160,
        "rows": 40,
        "n": 4,
        "epochs": 1,
    }
    assert [row["pass_at_1"] for row in found["by_row"]] == [0.25, 0.0, 1.0, pytest.approx(2 / 3, abs=1e-6)]
    assert found["warnings"] == []
    assert found["verdict"].startswith("Trainable: 2 of 4 groups")
    assert "pass@1 0.48, pass@4 0.67" in found["verdict"]


def test_scores_that_differ_below_the_threshold_are_told_by_their_mean():
    found = said([[0.2, 0.4, 0.2, 0.4]] * 6)
    assert found["verdict"].endswith("(mean score 0.30; none reaches 1 yet).")


def test_a_threshold_of_the_evaluator_counts_as_solved():
    found = said([[0.5, 0.7, 0.9, 0.6]], threshold=0.6)
    assert (found["pass_at_1"], found["solved_groups"]) == (0.75, 0)


@pytest.mark.parametrize(
    ("scores", "words", "remedy"),
    [
        ([[0.0] * 4] * 12, "the model never gets it", "partial credit"),
        ([[1.0] * 4] * 12, "nothing is left to learn", "harder rows"),
        ([[0.4] * 4] * 12, "0 of 12 groups", "raise the temperature"),
    ],
)
def test_it_warns_where_nothing_varies(scores, words, remedy):
    found = said(scores)
    assert words in found["verdict"]
    assert remedy in found["advice"]
    assert found["warnings"][0].startswith("Only 0 of 12 groups")


def test_it_warns_of_cut_answers_invalid_scores_and_long_jobs():
    found = said([[1.0, 0.0, None, None]] * 3, truncated=True, seconds=3600.0, total_rollouts=1200)
    assert ["cut at their token limit" in each for each in found["warnings"]] == [True, False, False]
    assert "6 of 12 rollouts have no valid score" in found["warnings"][1]
    assert "about 4.2 days" in found["warnings"][2]
    assert said([[1.0, 0.0]] * 3, seconds=None)["estimate"]["seconds"] is None


def test_baselines_have_intervals():
    found = said([[1.0, 0.0]] * 6, baselines=[Baseline(0.0, rolled([[1.0]] * 5 + [[0.0]]))])
    (base,) = found["baselines"]
    assert base["pass_at_1"] == pytest.approx(5 / 6, abs=1e-6)
    assert (base["temperature"], base["rollouts"], base["mean_score"]) == (0.0, 6, pytest.approx(5 / 6, abs=1e-6))
    assert 0 < base["low"] < 5 / 6 < base["high"] < 1


def test_rows_are_drawn_from_the_seed():
    assert chosen_rows(5, 9, 0) == [0, 1, 2, 3, 4]
    assert chosen_rows(500, 16, 1) == chosen_rows(500, 16, 1) != chosen_rows(500, 16, 2)


def test_without_a_valid_score_it_says_why():
    assert no_valid_score(rolled([[None, 1.0]])) is None
    assert "boom (2x)" in (no_valid_score(rolled([[None, None]])) or "")


async def test_it_changes_nothing_of_the_training(tmp_path):
    async with World(tmp_path / "without") as world:
        world.configure()
        await world.run()
        expected = world.batches()
    async with World(tmp_path / "with") as world:
        world.configure(**ON)
        code, status, said = await world.run()
        assert code == 0, said
        assert world.batches() == expected
        (event,) = [event for event in world.lines("events.jsonl") if event["kind"] == "preflight"]
        assert (event["rows"], event["rollouts"], len(event["by_row"])) == (4, 16, 4)
        assert status["preflight"] == {
            name: value for name, value in event.items() if name not in ("kind", "by_row", "time")
        }
        assert status["message"] == ""
        kinds = [line["kind"] for line in world.lines("rollouts.jsonl")]
        assert (kinds.count("preflight"), kinds.count("train")) == (16, 24)


async def test_killed_it_goes_on_with_what_was_recorded(tmp_path):
    async with World(tmp_path, delay=0.02) as world:
        world.configure(preflight={"rows": 6})
        landed = await world.run_with_kills(5, kills=3)
        assert landed
        events = [event for event in world.lines("events.jsonl") if event["kind"] == "preflight"]
        assert len(events) == 1
        recorded = [line["rollout_id"] for line in world.lines("rollouts.jsonl") if line["kind"] == "preflight"]
        assert len(recorded) == len(set(recorded)) == 24, "recorded rollouts are reused"


async def test_only_a_preflight_takes_no_step(tmp_path):
    async with World(tmp_path) as world:
        world.configure(preflight={"rows": 3, "only": True, "temperatures": [0.0, 0.5, 1.0]})
        code, status, said = await world.run()
        assert code == 0, said
        assert (status["state"], status["step"], status["best_version"]) == ("COMPLETED", 0, None)
        baselines = status["preflight"]["baselines"]
        assert [(each["temperature"], each["rollouts"]) for each in baselines] == [(0.0, 3), (0.5, 12), (1.0, 12)]
        assert {world.models[id] for id in world.asked if id.startswith("job-b")} == {"base"}
        assert world.batches() == []


async def test_no_valid_score_at_all_fails_before_training(tmp_path):
    def score(rollout_id: str):
        return {**default_score(rollout_id), "is_score_valid": False, "reason": "the judge is away"}

    async with World(tmp_path, score=score) as world:
        world.configure(**ON)
        code, status, _ = await world.run()
        assert (code, status["state"]) == (1, "FAILED")
        assert (
            "None of the 16 rollouts of the preflight has a valid score: the judge is away (16x)" in status["message"]
        )
