"""A job's rollouts by the page, and one of them with everything that is known of it."""

from __future__ import annotations

from typing import Any

import pytest
from tunesmith.catalog import resolve
from tunesmith.db.captured import CapturedFile
from tunesmith.db.completions import Completion, CompletionStatus, CorrelationIds, _to_row
from tunesmith.db.jobs import enqueue
from tunesmith.db.rollouts import add_rollouts, set_advantages
from tunesmith.rendering.renderer import Renderer

from tests.server.conftest import BASE_MODEL, Platform
from tests.server.test_rft_monitoring import spec

NAME = "accounts/local/reinforcementFineTuningJobs/j"
PATH = "/reinforcementFineTuningJobs/j/rollouts"
ROWS, N, STEPS = 3, 2, 2


def line(step: int, row: int, k: int, **changes: Any) -> dict[str, Any]:
    score = (step + row + k) / 10
    return {
        "kind": "train",
        "step": step,
        "epoch": step,
        "row_index": row,
        "k": k,
        "attempt": 0,
        "rollout_id": f"j-c{step}-r{row}-k{k}-a0",
        "version": step,
        "score": score,
        "is_score_valid": True,
        "reason": f"row {row}",
        "time": 1_700_000_000.5 + step,
        "turns": 1,
        "completion_tokens": 10 * (row + 1),
        "truncated": False,
        "row": {
            "messages": [
                {"role": "system", "content": "Be short."},
                {"role": "user", "content": f"What is {row} + {row}?"},
                {"role": "assistant", "content": f"It is {2 * row}%_"},
            ],
            "rollout_status": {"code": 100, "message": "finished"},
            "evaluation_result": {"score": score, "metrics": {"exact": {"score": score}, "odd": {"score": None}}},
        },
        **changes,
    }


LINES = [line(step, row, k) for step in range(STEPS) for row in range(ROWS) for k in range(N)]
FAILED = line(
    1, 2, 0, attempt=1, rollout_id="bad", score=None, is_score_valid=False, reason="KeyError", completion_tokens=None
)


@pytest.fixture
def job(platform: Platform) -> Platform:
    with platform.control.sessions.begin() as session:
        enqueue(session, NAME, "accounts/local", "rft", {**spec(), "base_model": BASE_MODEL}, state="JOB_STATE_RUNNING")
        add_rollouts(session, NAME, "rollouts.jsonl", [*enumerate(LINES), (99, FAILED)])
        set_advantages(session, NAME, {"j-c1-r0-k1-a0": 1.5})
    return platform


def ids(answer: dict[str, Any]) -> list[str]:
    return [rollout["rolloutId"] for rollout in answer["rollouts"]]


FILTERS: list[tuple[dict[str, Any], Any]] = [
    ({"step": 1}, lambda it: it["step"] == 1),
    ({"epoch": 0}, lambda it: it["epoch"] == 0),
    ({"kind": "evaluation"}, lambda it: False),
    ({"rowIndex": 2}, lambda it: it["row_index"] == 2),
    ({"valid": "false"}, lambda it: not it["is_score_valid"]),
    ({"minScore": 0.2, "maxScore": 0.3}, lambda it: it["score"] is not None and 0.2 <= it["score"] <= 0.3),
    ({"contains": "keyerr"}, lambda it: it["reason"] == "KeyError"),
    ({"contains": "what is 1"}, lambda it: it["row_index"] == 1),
    ({"contains": "4%_"}, lambda it: it["row_index"] == 2),
    ({"contains": "%_x"}, lambda it: False),
    (
        {"step": 1, "valid": "true", "rowIndex": 2},
        lambda it: it["is_score_valid"] and (it["step"], it["row_index"]) == (1, 2),
    ),
]


def test_a_filter_finds_exactly_what_fits(job: Platform) -> None:
    for query, fits in FILTERS:
        answer = job.ok("GET", PATH, params=query)
        expected = [each["rollout_id"] for each in [*LINES, FAILED] if fits(each)]
        assert (ids(answer), answer["totalSize"]) == (expected, len(expected)), query


def test_pages_by_token_and_by_offset_walk_through_everything_once(job: Platform) -> None:
    for order in ("score", "completion_tokens", "advantage", "isScoreValid", "reason", "step"):
        for direction in ("", " desc"):
            walk(job, order + direction)


def walk(job: Platform, order: str) -> None:
    query: dict[str, Any] = {"orderBy": order, "view": "SUMMARY"}
    whole = ids(job.ok("GET", PATH, params={**query, "pageSize": 200}))
    assert sorted(whole) == sorted(each["rollout_id"] for each in [*LINES, FAILED])
    by_token, token = [], ""
    while True:
        answer = job.ok("GET", PATH, params={**query, "pageSize": 4, "pageToken": token})
        by_token += ids(answer)
        if not (token := answer["nextPageToken"]):
            break
    by_offset = [ids(job.ok("GET", PATH, params={**query, "pageSize": 4, "offset": at})) for at in range(0, 13, 4)]
    assert by_token == whole == sum(by_offset, [])


def test_a_summary_says_everything_but_the_row(job: Platform) -> None:
    shown = job.ok("GET", PATH, params={"view": "SUMMARY", "step": 1, "rowIndex": 0})["rollouts"][1]
    assert shown == {
        "id": shown["id"],
        "rolloutId": "j-c1-r0-k1-a0",
        "kind": "train",
        "step": 1,
        "epoch": 1,
        "rowIndex": 0,
        "k": 1,
        "attempt": 0,
        "version": 1,
        "score": 0.2,
        "isScoreValid": True,
        "reason": "row 0",
        "prompt": "What is 0 + 0?",
        "answer": "It is 0%_",
        "metrics": {"exact": 0.2},
        "status": {"code": 100, "message": "finished"},
        "turns": 1,
        "completionTokens": 10,
        "truncated": False,
        "advantage": 1.5,
        "time": "2023-11-14T22:13:21.500Z",
    }


def call(turn: int, prompt: list[int], sampled: list[int], **changes: Any) -> Completion:
    values: dict[str, Any] = {
        "id": f"c{turn}",
        "created_at": 1_700_000_000.0 + turn,
        "account": "accounts/local",
        "job": "j",
        "ids": CorrelationIds(rollout_id="j-c1-r0-k1-a0"),
        "turn": turn,
        "index": 0,
        "model": "accounts/local/models/j-v1",
        "base_model": BASE_MODEL,
        "policy_version": 1,
        "prompt_ids": prompt,
        "sampled_ids": sampled,
        "logprobs": [-0.5] * len(sampled),
        "temperature": 1.0,
        "finish_reason": "stop",
        "status": CompletionStatus.COMPLETE,
        "request": {},
        "message": {},
        "text": "",
        "params": {},
        "usage": {},
        "latency": 0.1,
    }
    return Completion(**{**values, **changes})


async def record(platform: Platform, calls: list[Completion]) -> None:
    file = CapturedFile(platform.control.settings.path("completions.db"))
    from tunesmith.db.captured import completions

    await file.writer.write(completions, [_to_row(each) for each in calls])
    file.close()


async def test_the_tokens_of_a_rollout_with_their_text_and_what_they_were_weighted_with(job: Platform) -> None:
    renderer = Renderer.load(resolve(BASE_MODEL, models_dir=job.control.settings.path("models")).path)
    first, answer = renderer.encode("Draw a "), renderer.encode("ruh 🙂 grün")
    judged = call(2, renderer.encode("Good?"), answer[:2], policy_version=None, model="judge")
    second = [*first, *answer, *renderer.encode(" again")]
    await record(job, [call(0, first, answer), call(1, second, answer[:1], status=CompletionStatus.ABORTED), judged])
    shown = job.ok("GET", f"{PATH}/j-c1-r0-k1-a0")
    assert [turn["turn"] for turn in shown["turns"]] == [0, 1, 2]
    tokens = shown["turns"][0]["tokens"]
    assert [token["id"] for token in tokens] == [*first, *answer]
    assert "".join(token["text"] for token in tokens) == "Draw a ruh 🙂 grün"
    assert "" in [token["text"] for token in tokens], "no character of this text takes several tokens"
    assert [(token["sampled"], token["logprob"], token["advantage"]) for token in tokens] == [
        *[(False, None, None)] * len(first),
        *[(True, -0.5, 1.5)] * len(answer),
    ]
    assert shown["turns"][1]["start"] == len(first) + len(answer), "what an earlier turn shows is not repeated"
    assert [token["id"] for token in shown["turns"][1]["tokens"]] == [*second[len(first) + len(answer) :], answer[0]]
    assert {token["advantage"] for turn in shown["turns"][1:] for token in turn["tokens"]} == {None}, (
        "cut; not the policy"
    )


def test_a_rollout_comes_with_its_group_and_the_same_row_at_every_step(job: Platform) -> None:
    shown = job.ok("GET", f"{PATH}/j-c1-r2-k0-a0")
    assert shown["row"]["messages"][1]["content"] == "What is 2 + 2?"
    assert [each["rolloutId"] for each in shown["group"]] == ["bad", "j-c1-r2-k1-a0"]
    assert [each["rolloutId"] for each in shown["history"]] == ["j-c0-r2-k0-a0", "j-c1-r2-k0-a0"], "a valid one first"
    assert all("row" not in each for each in shown["group"] + shown["history"])
    assert shown["turns"] == []


def test_what_is_not_there_or_not_understood_is_told(job: Platform) -> None:
    assert "no rollout none of" in job.fails(404, "GET", f"{PATH}/none")
    job.fails(404, "GET", "/reinforcementFineTuningJobs/none/rollouts/x")
    for query in (
        {"orderBy": "color"},
        {"kind": "x"},
        {"minScore": "low"},
        {"step": -1},
        {"view": "ALL"},
        {"offset": -1},
    ):
        job.fails(400, "GET", PATH, params=query)


def test_lines_of_an_older_version_are_shown_as_far_as_they_go(platform: Platform) -> None:
    old = {
        name: value
        for name, value in LINES[0].items()
        if name not in ("time", "turns", "completion_tokens", "truncated")
    }
    with platform.control.sessions.begin() as session:
        enqueue(session, NAME, "accounts/local", "rft", spec(), state="JOB_STATE_RUNNING")
        add_rollouts(session, NAME, "rollouts.jsonl", [(1, old)])
    shown = platform.ok("GET", PATH)["rollouts"][0]
    assert (shown["turns"], shown["time"], shown["prompt"]) == (None, None, "What is 0 + 0?")
