"""A rewound run ends with bitwise what the run ended with that it came from; so does one whose learning rate changed on the way."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tunesmith.errors import FailedPrecondition
from tunesmith.orchestrator.schedule import chunks
from tunesmith.runs.batch import Batch
from tunesmith.runs.config import RunConfig
from tunesmith.runs.files import adapter_path, batch_path, checkpoint_path
from tunesmith.runs.fork import evaluator_in_force, fork_run, hold_checkpoint, rewindable_versions
from tunesmith.training.rft import train

from tests.training.makers import make_batch, metrics, policy_of, published, seal, write_run

STEPS = 5
RATES = (1e-3, 1e-3, 5e-3, 0.0, 2e-4)


def with_rate(batch: Batch, rate: float) -> Batch:
    return dataclasses.replace(batch, header=batch.header.model_copy(update={"learning_rate": rate}))


def run(folder: Path, base: Path, *, keep_all: bool = True) -> Path:
    """A run whose learning rate changes, with what its orchestrator would have recorded."""
    policy = policy_of(base)
    batches = [with_rate(make_batch(policy, step, groups=2), rate) for step, rate in enumerate(RATES)]
    seal(write_run(folder, base, warmup_steps=2, weight_decay=0.1), *batches)
    config = json.loads((folder / "run.json").read_text())
    (folder / "data").mkdir()
    (folder / "data" / "train.jsonl").write_text("{}\n")
    config |= {"keep_all_checkpoints": keep_all, "dataset": str(folder / "data" / "train.jsonl")}
    (folder / "run.json").write_text(json.dumps(config))
    chunk: dict[str, Any] = {"kind": "chunk", "epoch": 0, "mean_score": 0.5, "evaluator_version": 1}
    events: list[dict[str, Any]] = [
        {"kind": "version", "version": 0},
        {"kind": "evaluation", "version": 0, "score": 0.1},
    ]
    rollouts: list[dict[str, Any]] = []
    for step, rate in enumerate(RATES):
        events += [
            {
                "kind": "control",
                "step": step,
                "learning_rate": rate,
                "evaluator_version": 1,
                "revision": step,
                "paused": False,
            },
            {**chunk, "chunk": 2 * step, "step": step, "sealed": 0, "learning_rate": rate},
            {**chunk, "chunk": 2 * step + 1, "step": step, "sealed": 1, "learning_rate": rate},
            {"kind": "version", "version": step + 1},
            {"kind": "evaluation", "version": step + 1, "score": 0.2 + step / 10},
        ]
        rollouts += [{"kind": "train", "chunk": 2 * step + half, "rollout_id": f"{step}.{half}"} for half in (0, 1)]
        rollouts.append({"kind": "evaluation", "chunk": None, "version": step + 1, "rollout_id": f"e{step}"})
    for name, lines in (("events", events), ("rollouts", rollouts)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def rewound(source: Path, target: Path, version: int) -> RunConfig:
    hold_checkpoint(source, target, version)
    return fork_run(
        source, target, version, job="again", evaluator_version="1", host_socket=Path("/h"), gateway_url="http://g"
    )


def lines(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


@pytest.mark.parametrize("version", [0, 2, 4])
def test_from_every_version_on_it_repeats_what_the_run_did(tmp_path: Path, qwen3: Path, version: int) -> None:
    source = run(tmp_path / "source", qwen3)
    assert train(source) == STEPS
    assert rewindable_versions(source) == [*range(STEPS + 1)]
    target = tmp_path / "target"
    config = rewound(source, target, version)
    assert (config.noise_job, config.job) == (RunConfig.read(source).job, "again")
    assert train(target, until_step=version) == version, "nothing is trained twice"
    (target / "batches").mkdir(exist_ok=True)
    for step in range(version, STEPS):
        shutil.copy(batch_path(source, step), batch_path(target, step))
    (target / "batches" / "END").write_text(str(STEPS))
    assert train(target) == STEPS
    assert published(target) == published(source)
    assert metrics(target) == metrics(source)


def test_a_run_whose_learning_rate_changed_is_replayed_from_its_batches(tmp_path: Path, qwen3: Path) -> None:
    first, second = run(tmp_path / "a", qwen3), run(tmp_path / "b", qwen3)
    train(first)
    for step in range(1, STEPS + 1):
        train(second, until_step=step)
        shutil.rmtree(checkpoint_path(second, step)) if step == 3 else None  # as if killed before it was whole
    assert published(first) == published(second)
    rates = [line["learning_rate"] for line in metrics(first)]
    assert rates == [pytest.approx(rate * warmup) for rate, warmup in zip(RATES, (0.5, 1, 1, 1, 1), strict=True)]


def test_what_was_recorded_up_to_there_comes_along_and_nothing_of_later(tmp_path: Path, qwen3: Path) -> None:
    source, target = run(tmp_path / "source", qwen3), tmp_path / "target"
    train(source)
    rewound(source, target, 2)
    events = lines(target, "events.jsonl")
    assert [event["chunk"] for event in events if event["kind"] == "chunk"] == [0, 1, 2, 3]
    assert [event["version"] for event in events if event["kind"] == "version"] == [0, 1, 2]
    assert [event["version"] for event in events if event["kind"] == "evaluation"] == [0, 1, 2]
    assert [event["step"] for event in events if event["kind"] == "control"] == [0, 1]
    assert [line["rollout_id"] for line in lines(target, "rollouts.jsonl")] == ["0.0", "0.1", "e0", "1.0", "1.1", "e1"]
    assert [line["step"] for line in metrics(target)] == [0, 1]
    status = json.loads((target / "status.json").read_text())
    assert (status["step"], status["version"], status["best_version"], status["best_score"]) == (
        2,
        2,
        2,
        pytest.approx(0.3),
    )
    assert status["control"]["learning_rate"] == RATES[1]
    assert not (target / "batches" / "END").exists()
    assert sorted(path.name for path in (target / "batches").iterdir()) == [batch_path(target, s).name for s in (0, 1)]
    assert evaluator_in_force(source, 3) == (1, RATES[2])
    assert evaluator_in_force(source, 0) == (None, None)
    before = {path: path.read_bytes() for path in target.rglob("*") if path.is_file()}
    rewound(source, target, 2)
    assert {path: path.read_bytes() for path in target.rglob("*") if path.is_file()} == before, "twice does no harm"


def test_without_keeping_all_only_the_last_two_and_the_best_are_there(tmp_path: Path, qwen3: Path) -> None:
    source, target = run(tmp_path / "source", qwen3, keep_all=False), tmp_path / "target"
    train(source)
    assert rewindable_versions(source) == [0, STEPS - 1, STEPS]
    with pytest.raises(FailedPrecondition, match=f"those of 0, {STEPS - 1}, {STEPS}.*keepAllCheckpoints"):
        hold_checkpoint(source, target, 2)
    assert not target.exists() or rewindable_versions(target) == []


def test_a_run_that_is_gone_is_named(tmp_path: Path, qwen3: Path) -> None:
    source, target = run(tmp_path / "source", qwen3), tmp_path / "target"
    train(source)
    hold_checkpoint(source, target, 3)
    shutil.rmtree(adapter_path(source, 1))
    with pytest.raises(FailedPrecondition, match="not complete any more"):
        fork_run(source, target, 3, job="again", evaluator_version="", host_socket=Path("/h"), gateway_url="http://g")
    assert not (target / "run.json").exists()


def test_a_run_forked_at_its_end_with_more_epochs_goes_on_as_a_longer_one(tmp_path: Path, qwen3: Path) -> None:
    source, target = run(tmp_path / "source", qwen3), tmp_path / "target"
    train(source)
    hold_checkpoint(source, target, STEPS)
    where = {"job": "longer", "evaluator_version": "1", "host_socket": Path("/h"), "gateway_url": "http://g"}
    config = fork_run(source, target, STEPS, epochs=3, **where)
    assert (config.epochs, RunConfig.read(target).epochs, RunConfig.read(source).epochs) == (3, 3, 1)
    for rows, size in ((23, 5), (10, None)):
        short, long = (chunks(rows, epochs=e, chunk_size=size, shuffle=True, seed=7) for e in (1, 3))
        assert long[: len(short)] == short
        assert len(long) == 3 * len(short)
