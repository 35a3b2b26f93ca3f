"""From a run directory into the database: what tables show of a rollout, its advantage as the learner reckons it, tokens so far."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker
from tunesmith.db.session import reading
from tunesmith.db.tables import Rollout
from tunesmith.jobs.ingest import Ingest
from tunesmith.runs.advantages import batch_advantages
from tunesmith.runs.batch import Batch, BatchHeader, BatchRollout
from tunesmith.runs.files import batch_path
from tunesmith.runs.rollout_rows import SNIPPET, answer_of, metrics_of, prompt_of

JOB = "accounts/local/reinforcementFineTuningJobs/j"
SCORES = [0.0, 1.0, 0.25, 0.5]


def line(k: int, step: int = 0) -> dict[str, Any]:
    return {
        "kind": "train",
        "step": step,
        "epoch": 0,
        "row_index": k // 2,
        "k": k,
        "attempt": 0,
        "rollout_id": f"s{step}-k{k}",
        "version": step,
        "score": SCORES[k],
        "is_score_valid": True,
        "reason": "",
        "time": 5.0,
        "turns": 1,
        "completion_tokens": 7,
        "truncated": False,
        "row": {
            "messages": [{"role": "user", "content": "Q" * 2 * SNIPPET}, {"role": "assistant", "content": f"A{k}"}],
            "evaluation_result": {"metrics": {"m": {"score": SCORES[k]}, "n": {"score": None}}},
        },
    }


def append(path: Path, *records: dict[str, Any]) -> None:
    with open(path, "a") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)


def seal(run_dir: Path, step: int, members: list[int]) -> None:
    rollouts = [
        BatchRollout(rollout_id=f"s{step}-k{k}", row_index=k // 2, group=k // 2, score=SCORES[k], version=step)
        for k in members
    ]
    header = BatchHeader(
        step=step, epoch=0, temperature=1.0, learning_rate=1e-3, evaluator_version="1", rollouts=rollouts
    )
    Batch(header, []).write(batch_path(run_dir, step))


def shown(sessions: sessionmaker[Session]) -> dict[str, Rollout]:
    with reading(sessions) as session:
        return {rollout.rollout_id: rollout for rollout in session.scalars(select(Rollout).order_by(Rollout.id))}


def test_advantages_are_those_of_the_batch_and_none_elsewhere(tmp_path: Path, sessions: sessionmaker[Session]) -> None:
    ingest = Ingest(sessions, JOB, tmp_path)
    append(tmp_path / "rollouts.jsonl", *(line(k) for k in range(4)))
    ingest.catch_up()
    assert {rollout.advantage for rollout in shown(sessions).values()} == {None}
    append(tmp_path / "rollouts.jsonl", *(line(k, step=1) for k in range(4)))
    seal(tmp_path, 0, [0, 1, 2, 3])
    seal(tmp_path, 1, [0, 1])
    append(tmp_path / "events.jsonl", *({"kind": "chunk", "step": step, "sealed": 1} for step in (0, 1)))
    append(tmp_path / "events.jsonl", {"kind": "chunk", "step": 2, "sealed": 1})  # its batch is gone
    assert ingest.catch_up() == 4 + 3
    found = shown(sessions)
    assert [found[f"s0-k{k}"].advantage for k in range(4)] == batch_advantages(SCORES, [0, 0, 1, 1])
    assert [found[f"s1-k{k}"].advantage for k in range(4)] == [-1.0, 1.0, None, None]


def test_tokens_are_counted_and_found_again_by_another_worker(tmp_path: Path, sessions: sessionmaker[Session]) -> None:
    ingest = Ingest(sessions, JOB, tmp_path)
    append(tmp_path / "rollouts.jsonl", line(0), line(1))
    ingest.catch_up()
    assert ingest.tokens() == (14, 0)
    append(tmp_path / "rollouts.jsonl", line(2))
    append(tmp_path / "metrics.jsonl", {"step": 0, "trained_tokens": 11}, {"step": 1, "trained_tokens": 5})
    ingest.catch_up()
    assert ingest.tokens() == (21, 16)
    assert Ingest(sessions, JOB, tmp_path).tokens() == (21, 16)


def test_tables_show_the_beginning_of_prompt_and_answer(tmp_path: Path, sessions: sessionmaker[Session]) -> None:
    append(tmp_path / "rollouts.jsonl", line(3))
    Ingest(sessions, JOB, tmp_path).catch_up()
    found = shown(sessions)["s0-k3"]
    assert found.prompt == "Q" * (SNIPPET - 1) + "…"
    assert (found.answer, found.metrics, found.turns, found.completion_tokens) == ("A3", {"m": 0.5}, 1, 7)


TOOL_CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"function": {"name": "add", "arguments": '{"a": 1}'}}],
}
PICTURE = {
    "role": "user",
    "content": [{"type": "text", "text": "See"}, {"type": "image_url", "image_url": {"url": "x"}}],
}


@pytest.mark.parametrize(
    ("messages", "prompt", "answer"),
    [
        ([], "", ""),
        ([{"role": "system", "content": "S"}], "S", ""),
        ([{"role": "user", "content": "U"}, TOOL_CALL], "U", 'add({"a": 1})'),
        ([{"role": "user", "content": "U"}, TOOL_CALL, {"role": "tool", "content": "2"}], "U", 'add({"a": 1})'),
        ([PICTURE, {"role": "assistant", "content": "A"}, {"role": "user", "content": "?"}], "See\n[image]", "A"),
        ("no list", "", ""),
        ([None, 3], "", ""),
    ],
)
def test_prompt_and_answer_of_any_row(messages: Any, prompt: str, answer: str) -> None:
    row = {"messages": messages}
    assert (prompt_of(row), answer_of(row)) == (prompt, answer)


@pytest.mark.parametrize(
    "result", [None, "x", {"metrics": None}, {"metrics": {"a": None, "b": {"score": "1"}, "c": 1}}]
)
def test_a_row_without_readable_metrics_has_none(result: Any) -> None:
    assert metrics_of({"evaluation_result": result}) == {}
