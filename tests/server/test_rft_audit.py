"""The reward audit, against constructed runs: each way to cheat is told, an honest run is left in peace."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest
from tunesmith.db.jobs import enqueue
from tunesmith.db.rollouts import add_events, add_rollouts
from tunesmith.server.correlation import Correlation, spearman
from tunesmith.server.reward_audit import (
    AuditRow,
    SecondOpinion,
    audit,
    auroc_of,
    dominance,
    duplicates,
    second_opinion,
)

from tests.server.conftest import Platform
from tests.server.test_rft_monitoring import spec
from tests.server.test_rft_rollouts import NAME, line

Make = Callable[[random.Random, int, int, int], dict[str, object]]


def run(make: Make, steps: int = 12, rows: int = 10, n: int = 8, seed: int = 1) -> list[AuditRow]:
    rng = random.Random(seed)
    found = []
    for step in range(steps):
        for row in range(rows):
            for k in range(n):
                fields = {"tokens": 20, "answer": f"{step}/{row}/{k}", "metrics": {}, **make(rng, step, row, k)}
                found.append(AuditRow(rollout_id=f"s{step}-r{row}-k{k}", row=row, step=step, **fields))  # pyright: ignore
    return found


def titles(rows: list[AuditRow]) -> list[str]:
    return [finding["title"] for finding in audit(rows)["findings"] if finding["severity"] == "warning"]


def honest(rng: random.Random, step: int, row: int, k: int) -> dict[str, object]:
    """A policy that learns: scores rise, hard rows score less, length is noise."""
    right = rng.random() < 0.2 + 0.05 * step - 0.03 * row
    return {"score": float(right), "tokens": rng.randint(20, 60), "metrics": {"a": rng.random(), "b": rng.random()}}


def length_hacking(rng: random.Random, step: int, row: int, k: int) -> dict[str, object]:
    tokens = rng.randint(20, 40) + 8 * step
    return {"score": min(1.0, tokens / 150 + rng.uniform(-0.05, 0.05)), "tokens": tokens}


def shrinking(rng: random.Random, step: int, row: int, k: int) -> dict[str, object]:
    tokens = max(1, rng.randint(100, 140) - 9 * step)
    return {"score": max(0.0, 1 - tokens / 150), "tokens": tokens}


def one_answer(rng: random.Random, step: int, row: int, k: int) -> dict[str, object]:
    cheats = rng.random() < 0.4
    score = 0.9 if cheats else rng.random() * 0.5
    return {"score": score, "tokens": rng.randint(20, 60), **({"answer": "  I DON'T know.\n"} if cheats else {})}


def one_metric(rng: random.Random, step: int, row: int, k: int) -> dict[str, object]:
    form, content = float(rng.random() < 0.5), rng.random()
    return {"score": 0.95 * form + 0.05 * content, "metrics": {"form": form, "content": content, "still": 1.0}}


def constant(rng: random.Random, step: int, row: int, k: int) -> dict[str, object]:
    return {"score": 1.0, "tokens": rng.randint(20, 60)}


@pytest.mark.parametrize("seed", range(10))
def test_an_honest_run_is_left_in_peace(seed: int) -> None:
    assert titles(run(honest, seed=seed)) == []


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (length_hacking, "Longer answers score higher, and answers grow"),
        (shrinking, "Shorter answers score higher, and answers shrink"),
        (one_answer, "One answer to different rows is rewarded"),
        (one_metric, "The score is decided by form alone"),
        (constant, "Every rollout has the same score"),
    ],
)
def test_each_way_to_cheat_is_told(make: Make, said: str) -> None:
    for seed in range(3):
        assert titles(run(make, seed=seed)) == [said]


def test_the_same_answer_to_the_same_row_is_no_duplicate() -> None:
    right = run(lambda rng, step, row, k: {"score": float(rng.random() < 0.5), "answer": f"The answer is {row}."})
    assert duplicates(right) == []
    assert audit(right)["duplicateShare"] == 0


def test_duplicates_are_counted_whatever_case_and_white_space() -> None:
    rows = [
        AuditRow(str(number), number % 3, 0, score, 5, answer)
        for number, (answer, score) in enumerate(
            [("Yes", 1.0), (" yes ", 0.0), ("YES\n", 0.5), ("no", 1.0), ("", 0.0), ("", 0.0)]
        )
    ]
    (found,) = duplicates(rows)
    assert (found.rollout_ids, found.share, found.mean_score) == (["0", "1", "2"], 0.5, 0.5)


def naive_spearman(x: list[float], y: list[float]) -> float:
    def ranks(values: list[float]) -> list[float]:
        return [
            sum(other < value for other in values) + (sum(other == value for other in values) + 1) / 2
            for value in values
        ]

    a, b = ranks(x), ranks(y)
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    top = sum((p - mean_a) * (q - mean_b) for p, q in zip(a, b, strict=True))
    return top / math.sqrt(sum((p - mean_a) ** 2 for p in a) * sum((q - mean_b) ** 2 for q in b))


def test_spearman_is_the_textbooks_and_its_interval_covers_the_truth() -> None:
    rng = random.Random(5)
    covered = 0
    for trial in range(60):
        clusters = [number // 8 for number in range(320)]
        lift = [rng.gauss(0, 1) for _ in range(40)]  # rows differ: their rollouts are not independent
        x = [round(lift[c] + rng.gauss(0, 1), 1) for c in clusters]
        other = [rng.gauss(0, 1) for _ in range(40)]
        y = [round(other[c] + rng.gauss(0, 1), 1) for c in clusters]  # unrelated to x: the truth is 0
        found = spearman(x, y, clusters, seed=trial)
        assert found.value == pytest.approx(naive_spearman(x, y), abs=1e-9)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 0 <= found.high
    assert covered >= 52, "a 95 % interval holds the truth in about 57 of 60"


def test_what_does_not_vary_has_no_correlation() -> None:
    assert spearman([1, 1, 1], [1, 2, 3], [0, 1, 2]) == Correlation(None, None, None)
    assert spearman([], [], []) == Correlation(None, None, None)
    assert spearman([1, 2, 3], [1, 2, 3], [7, 7, 7]) == Correlation(1.0, -1.0, 1.0)


def test_dominance_is_the_share_of_variance_that_a_line_explains() -> None:
    rows = [
        AuditRow(str(n), n, 0, score, 1, "", {"linear": 2 * score + 1, "against": -score, "still": 3.0, **rare})
        for n, (score, rare) in enumerate([(0.1, {"rare": 1.0}), (0.5, {}), (0.7, {}), (0.2, {}), (0.9, {})])
    ]
    assert dominance(rows) == [
        {"metric": "against", "correlation": -1.0, "share": 1.0},
        {"metric": "linear", "correlation": 1.0, "share": 1.0},
    ]


def test_the_route_tells_it_with_the_rollouts_that_it_is_about(platform: Platform) -> None:
    path = "/reinforcementFineTuningJobs/j/audit"
    lines = [line(step, row, k, score=min(1.0, 0.1 * step + 0.02 * k), completion_tokens=10 + 20 * step + k)
             for step in range(6) for row in range(4) for k in range(4)]  # fmt: skip
    odd = [
        line(9, 0, 0, kind="evaluation", rollout_id="e"),
        line(9, 1, 0, score=None, is_score_valid=False, rollout_id="i"),
    ]
    with platform.control.sessions.begin() as session:
        enqueue(session, NAME, "accounts/local", "rft", spec(), state="JOB_STATE_RUNNING")
    empty = platform.ok("GET", path)
    assert (empty["rollouts"], empty["topScored"], empty["bySteps"]) == (0, [], [])
    with platform.control.sessions.begin() as session:
        add_rollouts(session, NAME, "rollouts.jsonl", [*enumerate(lines), *enumerate(odd, start=1000)])
    found = platform.ok("GET", path)
    assert found["rollouts"] == len(lines), "training rollouts with a valid score"
    assert found["lengthCorrelation"]["spearman"] > 0.9
    assert len(found["lengthCorrelation"]["points"]) == len(lines)
    assert [step["step"] for step in found["bySteps"]] == list(range(6))
    assert found["topScored"][0]["score"] == max(each["score"] for each in lines)
    assert [finding["severity"] for finding in found["findings"]][0] == "warning"
    assert platform.ok("GET", path, params={"rollouts": 16})["bySteps"] == found["bySteps"][-1:]
    platform.fails(404, "GET", "/reinforcementFineTuningJobs/none/audit")
    platform.fails(400, "GET", path, params={"rollouts": 0})


def opinions(audit_gain: float, seed: int = 3, steps: int = 9, rows: int = 40) -> list[SecondOpinion]:
    """A run whose score rises by 0.4, and a second evaluator's by `audit_gain`; both see the same answers, through noise."""
    rng = random.Random(seed)
    found = []
    for step in range(steps):
        for row in range(rows):
            quality = rng.gauss(0, 0.15)
            score = min(1.0, max(0.0, 0.3 + 0.4 * step / (steps - 1) + quality + rng.gauss(0, 0.05)))
            second = min(1.0, max(0.0, 0.3 + audit_gain * step / (steps - 1) + quality + rng.gauss(0, 0.05)))
            found.append(SecondOpinion(f"s{step}-r{row}", row, step, score, second))
    return found


@pytest.mark.parametrize("gain", [0.0, -0.1])
def test_a_score_that_the_second_evaluator_does_not_follow_is_told(gain: float) -> None:
    found = second_opinion(opinions(gain))
    assert [finding["title"] for finding in found["findings"]] == [
        "The score rises, and the second evaluator does not follow"
    ]
    assert (found["rollouts"], len(found["bySteps"])) == (360, 9)


def test_a_second_evaluator_that_follows_is_no_finding() -> None:
    found = second_opinion(opinions(0.4))
    assert found["findings"] == []
    assert found["agreement"]["low"] > 0.6


def test_a_second_evaluator_that_does_not_agree_is_told() -> None:
    rng = random.Random(4)
    pairs = [SecondOpinion(str(i), i % 40, i // 40, rng.random(), rng.random()) for i in range(240)]
    assert [finding["title"] for finding in second_opinion(pairs)["findings"]] == [
        "The second evaluator does not agree"
    ]
    assert second_opinion(pairs[:10])["findings"] == []
    assert second_opinion([], "its host died")["findings"][0]["detail"] == "its host died"


def test_auroc_counts_pairs() -> None:
    rng = random.Random(6)
    scores = [round(rng.random(), 1) for _ in range(60)]
    passed = [float(rng.random() < score) for score in scores]
    pairs = [
        (a, b) for a, p in zip(scores, passed, strict=True) if p for b, q in zip(scores, passed, strict=True) if not q
    ]
    expected = sum((a > b) + (a == b) / 2 for a, b in pairs) / len(pairs)
    assert auroc_of(scores, passed) == pytest.approx(expected)
    assert auroc_of(scores, [1.0] * 60) is None


def test_one_metric_is_not_called_unsuspicious() -> None:
    rows = [AuditRow(str(i), i, 0, i % 10 / 10, 5, str(i), {"only": i % 10 / 10}) for i in range(40)]
    assert "The score has one metric" in [finding["title"] for finding in audit(rows)["findings"]]


def test_the_api_shows_the_second_opinion(platform: Platform) -> None:
    with platform.control.sessions.begin() as session:
        second = {**spec(), "audit_evaluator": "accounts/local/evaluators/second", "audit_evaluator_version": 2}
        enqueue(session, NAME, "accounts/local", "rft", second, state="JOB_STATE_RUNNING")
        lines = [
            {
                "kind": "audit",
                "rollout_id": pair.rollout_id,
                "row_index": pair.row,
                "step": pair.step,
                "score": pair.score,
                "audit_score": pair.audit_score,
            }
            for pair in opinions(0.0)
        ]
        lines[0]["audit_score"] = None
        add_events(
            session,
            NAME,
            "audit.jsonl",
            [*enumerate(lines), (999, {"kind": "audit_failed", "rollout_id": "", "reason": "gone"})],
        )
    found = platform.ok("GET", "/reinforcementFineTuningJobs/j/audit")
    second = found["auditEvaluator"]
    assert (second["evaluator"], second["version"], second["invalid"], second["rollouts"]) == (
        "accounts/local/evaluators/second",
        2,
        1,
        359,
    )
    assert second["failed"] == "gone"
    assert "The score rises, and the second evaluator does not follow" in [each["title"] for each in found["findings"]]
