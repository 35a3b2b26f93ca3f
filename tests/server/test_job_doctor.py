"""The doctor against made runs: each way for a reward to stay flat is named first, with a remedy; a run that learns is left in peace."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from tunesmith.db.jobs import enqueue
from tunesmith.db.rollouts import METRICS_FILE, add_events, add_rollouts
from tunesmith.server.job_doctor import HeldOut, Run, diagnose, repeated_answers
from tunesmith.server.reward_audit import AuditRow
from tunesmith.server.routes.rft_doctor import moved

from tests.server.conftest import Platform
from tests.server.test_rft_monitoring import spec
from tests.server.test_rft_rollouts import NAME, line


def chunk(step: int, **fields: Any) -> dict[str, Any]:
    healthy = {
        "mean_score": 0.4,
        "rollouts": 80,
        "invalid": 0,
        "stragglers": 0,
        "kept_groups": 8,
        "constant_groups": 2,
        "dropped_groups": 2,
        "solved_all": 0.1,
        "solved_none": 0.1,
        "truncated": 0.0,
    }
    return {"kind": "chunk", "chunk": step, "step": step, **healthy, **fields}


def metric(step: int, **fields: Any) -> dict[str, Any]:
    healthy = {"grad_norm": 0.5, "entropy": 0.6, "kl": 0.001, "clip_fraction": 0.0, "mismatch_mean": 1e-6, "ess": 1.0}
    return {"step": step, **healthy, "staleness_mean": 0.0, **fields}


def row(number: int, k: int, score: float, answer: str | None = None, tokens: int = 20) -> AuditRow:
    return AuditRow(f"r{number}-{k}", number, 0, score, tokens, answer if answer is not None else f"{number}/{k}")


def flat(chunks: dict[str, Any] | None = None, metrics: dict[str, Any] | None = None, **run: Any) -> Run:
    return Run(
        events=[chunk(step, **(chunks or {})) for step in range(12)],
        metrics=[metric(step, **(metrics or {})) for step in range(12)],
        **{"learning_rate": 1e-3, "default_learning_rate": 1e-3, "moved": 0.5, **run},
    )


CONSTANT = {"kept_groups": 0, "constant_groups": 10, "dropped_groups": 10}
NOISY = random.Random(1)
CAUSES: list[tuple[str, Run]] = [
    ("saturated", flat({**CONSTANT, "mean_score": 1.0, "solved_all": 1.0, "solved_none": 0.0})),
    ("never_solved", flat({**CONSTANT, "mean_score": 0.0, "solved_all": 0.0, "solved_none": 1.0})),
    ("no_variance", flat({**CONSTANT, "mean_score": 0.5, "solved_all": 0.0, "solved_none": 0.0})),
    ("learning_rate_small", flat(learning_rate=1e-6, moved=1e-4)),
    ("learning_rate_large", flat(metrics={"clip_fraction": 0.6, "kl": 2.0})),
    ("truncated", flat({"truncated": 0.6})),
    ("invalid", flat({"invalid": 30})),
    ("groups_too_small", flat({"kept_groups": 4, "constant_groups": 1, "dropped_groups": 6, "stragglers": 9})),
    ("same_prompts", flat(prompts=(1, 40))),
    ("mismatch", flat(metrics={"mismatch_mean": 0.3})),
    ("stale", flat(metrics={"staleness_mean": 4.0, "ess": 0.2})),
    (
        "nondeterministic",
        flat(
            rows=[
                row(i, k, float(k % 2) + NOISY.uniform(-0.2, 0.2) * (k > 3), f"{i}/{k % 4 % 2}")
                for i in range(10)
                for k in range(8)
            ]
        ),
    ),
    ("score_independent", flat(rows=[row(i, k, NOISY.random(), f"{k % 2}") for i in range(20) for k in range(8)])),
    ("length", flat(rows=[row(i, k, k / 8, tokens=10 + 10 * k) for i in range(10) for k in range(8)])),
]


@pytest.mark.parametrize(("code", "run"), CAUSES, ids=[code for code, _ in CAUSES])
def test_each_cause_comes_first(code: str, run: Run):
    found = diagnose(run)
    first = found["findings"][0]
    assert first["code"] == code
    assert found["flat"]
    assert "flat" in found["summary"]
    assert found["gain"] == 0
    assert first["evidence"]
    assert first["remedy"].endswith(".")


def test_entropy_that_collapses_is_told():
    run = Run(
        events=[chunk(step) for step in range(12)],
        metrics=[metric(step, entropy=0.6 if step < 4 else 0.001) for step in range(12)],
        moved=0.5,
    )
    assert diagnose(run)["findings"][0]["code"] == "entropy_collapse"


def test_a_run_that_learns_is_left_in_peace():
    rng = random.Random(2)
    found = diagnose(
        Run(
            events=[chunk(step, mean_score=0.2 + 0.05 * step) for step in range(12)],
            metrics=[metric(step) for step in range(12)],
            rows=[
                row(i, k, float(rng.random() < 0.5), tokens=rng.randint(10, 60)) for i in range(20) for k in range(8)
            ],
            learning_rate=1e-3,
            moved=0.5,
            prompts=(20, 20),
        )
    )
    assert found["findings"] == []
    assert "rose" in found["summary"]


def noisy(first: float, last: float, *, steps: int = 9, rows: int = 4, n: int = 8) -> Run:
    """A run whose rows differ: some are always solved, some never; the share of the others' solved rollouts goes from `first` to `last`."""
    rng = random.Random(1)
    rollouts = []
    for step in range(steps):
        chance = first + (last - first) * step / (steps - 1)
        for number in range(step * rows, (step + 1) * rows):
            level = rng.choice([0.0, chance, chance, 1.0])
            rollouts += [
                AuditRow(
                    f"{number}-{k}", number, step, float(rng.random() < level), 20 + rng.randrange(20), f"{number}/{k}"
                )
                for k in range(n)
            ]
    means = [[row.score for row in rollouts if row.step == step] for step in range(steps)]
    events = [chunk(step, mean_score=sum(scores) / len(scores)) for step, scores in enumerate(means)]
    return Run(events, [metric(step) for step in range(steps)], rollouts, 1e-3, moved=0.5, prompts=(9, 9))


def test_a_rise_that_noise_may_have_made_is_not_called_one():
    found = diagnose(noisy(0.4, 0.45))
    low, high = found["interval"]
    assert low < 0 < high
    assert found["gain"] > 0.02, "it looks like a rise"
    assert found["flat"]
    assert "shows no change that its noise would allow to tell" in found["summary"]
    assert f"95 % interval {low:+.3f} to {high:+.3f}" in found["summary"]
    risen = diagnose(noisy(0.05, 0.95, rows=24))
    assert risen["interval"][0] > 0
    assert (risen["flat"], "The reward rose" in risen["summary"]) == (False, True)
    alone = diagnose(Run(noisy(0.4, 0.45).events, []))
    assert alone["interval"][0] < 0 < alone["interval"][1], "from the chunks' means where no rollout is known"


@pytest.mark.parametrize(("rows", "rose"), [(2, False), (400, True)])
def test_rows_that_are_all_alike_are_no_certainty(rows: int, rose: bool):
    scores = [0.5, 0.55, 0.6]
    rollouts = [
        AuditRow(f"{step}-{number}-{k}", number, step, score, 20, f"{number}/{k}")
        for step, score in enumerate(scores)
        for number in range(rows)
        for k in range(2)
    ]
    found = diagnose(Run([chunk(step, mean_score=score) for step, score in enumerate(scores)], [], rollouts))
    low, high = found["interval"]
    assert low < found["gain"] < high
    assert ("The reward rose" in found["summary"], low > 0) == (rose, rose)


def test_held_out_rows_are_compared_in_pairs():
    before = {row: float(row % 4 == 0) for row in range(40)}
    after = {row: float(row % 2 == 0) for row in range(40)}
    found = diagnose(flat(held_out=HeldOut(0, 12, before, after)))
    assert found["heldOut"]["versions"] == [0, 12]
    assert (found["heldOut"]["gain"], found["heldOut"]["interval"][0] > 0) == (0.25, True)
    assert "On held-out rows it rose (0.250 at version 0, 0.500 at version 12: +0.250" in found["summary"]
    same = diagnose(flat(held_out=HeldOut(0, 12, before, {**before, 1: 1.0})))
    assert "On held-out rows it shows no change that its noise would allow to tell" in same["summary"]


def test_causes_are_ranked_and_a_failure_leads():
    run = flat(
        {"truncated": 0.6, **CONSTANT, "mean_score": 0.0, "solved_none": 1.0}, state="JOB_STATE_FAILED", message="boom"
    )
    found = diagnose(run)["findings"]
    assert [finding["code"] for finding in found[:3]] == ["failed", "never_solved", "truncated"]
    assert found[0]["evidence"] == "boom"


def test_without_anything_it_says_so():
    assert diagnose(Run(events=[], metrics=[])) == {
        "summary": "There is no course of the reward yet; nothing stands out in what the run wrote.",
        "gain": None,
        "interval": None,
        "heldOut": None,
        "flat": True,
        "steps": 0,
        "findings": [],
    }


def test_repeated_answers_of_a_deterministic_evaluator_agree():
    rows = [row(i, k, float(k % 2), f"{k % 2}") for i in range(5) for k in range(8)]
    assert repeated_answers(rows) == {"pairs": 30, "different": 0.0, "share": 0.0}
    assert repeated_answers([row(0, k, 1.0) for k in range(4)]) is None


def test_how_far_a_policy_moved(tmp_path: Path):
    def canary(version: int, logprobs: list[float]) -> None:
        folder = tmp_path / "adapters" / f"v{version:06d}"
        folder.mkdir(parents=True)
        (folder / "canary.json").write_text(json.dumps({"logprobs": logprobs}))

    assert moved(tmp_path) is None
    canary(0, [-1.0, -2.0])
    assert moved(tmp_path) is None
    canary(3, [-1.25, -2.5])
    canary(12, [-1.0, -2.125])
    assert moved(tmp_path) == 0.125


def test_the_api_tells(platform: Platform):
    with platform.control.sessions.begin() as session:
        enqueue(session, name=NAME, account="accounts/local", kind="rft", spec=spec())
        add_rollouts(session, NAME, "rollouts.jsonl", [(k, line(0, 0, k, score=1.0)) for k in range(4)])
        events = [chunk(step, **CONSTANT, mean_score=1.0) for step in range(3)]
        for version, score in ((0, 0.0), (3, 1.0)):
            by = {"evaluator_version": 1} if version else {}  # the first was written before events named it
            events.append({"kind": "evaluation", "step": version, "version": version, "score": score, **by})
            held_out = [
                line(version, row, 0, kind="evaluation", rollout_id=f"e{version}-{row}", score=score)
                for row in range(6)
            ]
            add_rollouts(session, NAME, "rollouts.jsonl", list(enumerate(held_out, start=10 * (version + 1))))
        add_events(session, NAME, "events.jsonl", list(enumerate(events)))
        add_events(session, NAME, METRICS_FILE, [(0, metric(0))])
    found = platform.ok("GET", "/reinforcementFineTuningJobs/j/doctor")
    assert [finding["code"] for finding in found["findings"]][0] == "saturated"
    assert (found["heldOut"]["versions"], found["heldOut"]["gain"]) == ([0, 3], 1.0)
    platform.fails(404, "GET", "/reinforcementFineTuningJobs/none/doctor")
