"""A preference run that was killed, stopped or tampered with, and the process that it runs in."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from tunesmith.errors import FailedPrecondition
from tunesmith.runs.files import checkpoint_path
from tunesmith.runs.tuning import TuningConfig
from tunesmith.training.__main__ import main
from tunesmith.training.dpo import train

from tests.training.pair_makers import left_behind, lines, polite_rows, write_chat_base, write_pair_run
from tests.training.test_resume import kill_learners


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chat_base(tmp_path_factory.mktemp("dpo") / "base")


def template(run_dir: Path, base: Path, **settings: Any) -> TuningConfig:
    """A run of 6 steps, with warm-up and weight decay, so that every part of the state matters."""
    schedule = {"kind": "cosine", "warmup_steps": 2}
    return write_pair_run(
        run_dir, base, polite_rows(48), polite_rows(8, seed=1), **{"evaluations": 3, "schedule": schedule, **settings}
    )


def uninterrupted(source: Path, target: Path, config: TuningConfig) -> Path:
    shutil.copytree(source, target)
    train(target, config)
    return target


def assert_same(run_dir: Path, reference: Path) -> None:
    assert left_behind(run_dir) == left_behind(reference)
    assert lines(run_dir) == lines(reference)


def test_killed_at_random_times_it_ends_the_same(tmp_path: Path, base: Path):
    config = template(tmp_path / "run", base, epochs=8)
    whole = uninterrupted(tmp_path / "run", tmp_path / "whole", config)
    (kills,) = kill_learners(f"times={tmp_path / 'run'}")
    assert kills > 1
    assert_same(tmp_path / "run-killed" / "run", whole)


@pytest.mark.parametrize(("loss", "rank"), [("DPO", 4), ("DPO", 0), ("ORPO", 4)])
def test_stopped_between_checkpoints_it_ends_the_same(tmp_path: Path, base: Path, loss: str, rank: int):
    config = template(tmp_path / "run", base, loss=loss, lora_rank=rank)
    whole = uninterrupted(tmp_path / "run", tmp_path / "whole", config)
    train(tmp_path / "run", config, until_step=3)
    assert checkpoint_path(tmp_path / "run", 2).exists()
    assert not (tmp_path / "run" / "output").exists()
    assert train(tmp_path / "run", config) == 6
    assert_same(tmp_path / "run", whole)


def test_the_reference_is_that_of_before_even_when_it_was_lost_in_the_middle(tmp_path: Path, base: Path):
    config = template(tmp_path / "run", base)
    whole = uninterrupted(tmp_path / "run", tmp_path / "whole", config)
    train(tmp_path / "run", config, until_step=3)
    (tmp_path / "run" / "reference.safetensors").unlink()
    train(tmp_path / "run", config)
    assert_same(tmp_path / "run", whole)


def test_the_reference_is_asked_once(tmp_path: Path, base: Path):
    """What stands in the file counts, to the end."""
    config = template(tmp_path / "run", base, beta=0.2)
    train(tmp_path / "run", config, until_step=0)
    path = tmp_path / "run" / "reference.safetensors"
    tensors = load_file(path)
    tensors["held_out"][::2] -= 5.0
    save_file(tensors, path)
    (tmp_path / "run" / "metrics.jsonl").unlink()
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    train(tmp_path / "run", config)
    assert lines(tmp_path / "run")[0]["eval_margin"] == pytest.approx(0.2 * 5, abs=1e-4)


def test_a_reference_of_other_rows_is_refused(tmp_path: Path, base: Path):
    config = template(tmp_path / "run", base)
    train(tmp_path / "run", config, until_step=0)
    path = tmp_path / "run" / "reference.safetensors"
    save_file({"train": load_file(path)["train"][2:].clone()}, path)
    with pytest.raises(FailedPrecondition, match=r"reference\.safetensors was made for other rows; delete it"):
        train(tmp_path / "run", config)


def test_as_a_process(tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Exit status 0 and a finished run; 1 and the reason, on stderr and in `status.json`, for a wrong row."""

    def learner(run_dir: Path) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["learner", str(run_dir)])
        return main(), capsys.readouterr().err

    template(tmp_path / "good", base, loss="ORPO")
    code, said = learner(tmp_path / "good")
    assert (code, "done after 6 optimizer steps" in said) == (0, True)
    template(tmp_path / "bad", base)
    with open(tmp_path / "bad" / "data" / "train.jsonl", "a") as file:
        file.write('{"messages": [{"role": "user", "content": "?"}]}\n')
    code, said = learner(tmp_path / "bad")
    status = json.loads((tmp_path / "bad" / "status.json").read_text())
    assert (code, status["state"]) == (1, "FAILED")
    assert "Dataset validation failed: train.jsonl: a preference row" in status["message"]
    assert "(line 49)" in status["message"]
    assert status["message"] in said
