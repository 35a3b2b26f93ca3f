"""The figures of a chunk, against hand-made rollouts and in a whole run."""

from __future__ import annotations

from typing import Any

from tunesmith.orchestrator.curated import curated
from tunesmith.orchestrator.groups import ScoredRollout
from tunesmith.orchestrator.samples import Calls, Completion

from tests.orchestrator.world import World


def rollout(row: int, k: int, score: float | None, tokens: int = 10, **changes: Any) -> ScoredRollout:
    values: dict[str, Any] = {
        "row_index": row,
        "k": k,
        "attempt": 0,
        "rollout_id": f"r{row}-k{k}",
        "version": 0,
        "score": score,
        "is_score_valid": score is not None,
        "reason": "",
        "calls": Calls(turns=2, completion_tokens=tokens, truncated=k == 0),
        "metrics": {"form": 1.0, **({"depth": float(k)} if row else {})},
    }
    return ScoredRollout(**{**values, **changes})


def test_the_figures_of_a_chunk() -> None:
    rollouts = [
        *(rollout(0, k, 1.0, tokens=10) for k in range(2)),
        *(rollout(1, k, 0.0, tokens=20) for k in range(2)),
        *(rollout(2, k, float(k), tokens=30) for k in range(2)),
        rollout(3, 0, None, calls=None),
        rollout(3, 1, None, calls=Calls(0, 0, False)),
    ]
    assert curated(rollouts) == {
        "score_std": 0.5,
        "score_p10": 0.0,
        "score_p90": 1.0,
        "solved_all": 0.3333,
        "solved_none": 0.3333,
        "truncated": 0.5,
        "completion_tokens_p50": 20.0,
        "completion_tokens_p95": 30.0,
        "forks": None,
        "turns": 2.0,
        "metrics": {"depth": 0.5, "form": 1.0},
    }


def test_nothing_was_scored() -> None:
    figures = curated([rollout(0, 0, None, calls=None)])
    assert {name: value for name, value in figures.items() if value is not None} == {"metrics": {}}


def test_calls_that_were_cut_do_not_count() -> None:
    def call(status: str, finish_reason: str) -> Completion:
        return Completion(0, "m", [1], [2, 3], [-1.0, -1.0], status, finish_reason)

    calls = Calls.of([call("complete", "stop"), call("complete", "length"), call("aborted", "abort")])
    assert calls == Calls(turns=2, completion_tokens=4, truncated=True)


async def test_a_run_tells_them_of_each_chunk_and_of_each_rollout(tmp_path) -> None:
    async with World(tmp_path) as world:
        world.configure(rows=4)
        code, _, said = await world.run()
        assert code == 0, said
        chunks = [event for event in world.lines("events.jsonl") if event["kind"] == "chunk"]
        for event in chunks:
            assert (event["turns"], event["completion_tokens_p50"], event["truncated"]) == (1.0, 4.0, 0.0)
            spent = [event[f"{name}_seconds"] for name in ("rollout", "publish", "evaluation", "wait")]
            assert all(seconds >= 0 for seconds in spent)
            assert event["rollout_seconds"] > 0
        for line in world.lines("rollouts.jsonl"):
            assert (line["turns"], line["completion_tokens"], line["truncated"]) == (1, 4, False)
            assert line["time"] > 1.7e9
