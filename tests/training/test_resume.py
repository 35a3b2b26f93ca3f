"""Killed and started again, the learner ends with bitwise the same adapters and metrics."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tunesmith.errors import FailedPrecondition
from tunesmith.runs.files import adapter_path, checkpoint_path
from tunesmith.training.__main__ import main
from tunesmith.training.rft import train

from tests.training.makers import make_batch, metrics, policy_of, published, seal, write_base, write_run


def template(folder: Path, base: Path, steps: int) -> Path:
    """A run directory nobody has trained on; a warm-up and weight decay, so that every part of the state matters."""
    policy = policy_of(base)
    seal(
        write_run(folder, base, warmup_steps=2, weight_decay=0.1),
        *(make_batch(policy, step, groups=2) for step in range(steps)),
    )
    return folder


def uninterrupted(source: Path, target: Path) -> Path:
    shutil.copytree(source, target)
    train(target)
    return target


def kill_learners(*jobs: str) -> list[int]:
    """Number of kills of each job of the crash harness."""
    command = [sys.executable, "-m", "tests.training.crash_harness", *jobs]
    result = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert result.returncode == 0, result.stderr
    return [int(line) for line in result.stdout.split()]


def assert_same(run_dir: Path, reference: Path) -> None:
    assert published(run_dir) == published(reference)
    assert metrics(run_dir) == metrics(reference)
    leftovers = [path.name for folder in ("adapters", "checkpoints") for path in (run_dir / folder).glob(".*")]
    assert leftovers == []


def test_kills_before_every_change_on_disk_and_at_random_times(tmp_path: Path, qwen3: Path):
    """In the first step, in the third (which also drops a checkpoint), and anywhere in a run of 60 steps."""
    steps = {"first": 1, "third": 3, "long": 60}
    sources = {name: template(tmp_path / name, qwen3, count) for name, count in steps.items()}
    references = {name: uninterrupted(source, tmp_path / f"{name}-whole") for name, source in sources.items()}
    train(sources["third"], until_step=2)
    kills = kill_learners(f"events={sources['first']}", f"events={sources['third']}", f"times={sources['long']}")
    assert kills[0] > 12
    assert kills[1] > 10
    assert kills[2] > 1
    for name, count in zip(("first", "third"), kills, strict=False):
        for event in range(count):
            assert_same(tmp_path / f"{name}-killed" / f"{event:03d}", references[name])
    assert_same(tmp_path / "long-killed" / "run", references["long"])


def test_the_real_process_killed_in_the_middle(tmp_path: Path, qwen3: Path):
    """`python -m tunesmith.training`, SIGKILL at its second adapter, then again to the end."""
    source = template(tmp_path / "template", qwen3, steps=25)
    reference = uninterrupted(source, tmp_path / "reference")
    run_dir = tmp_path / "killed"
    shutil.copytree(source, run_dir)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tunesmith.training", str(run_dir)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as learner:
        while not adapter_path(run_dir, 2).exists():
            assert learner.poll() is None
            time.sleep(0.002)
        learner.send_signal(signal.SIGKILL)
        assert learner.wait() == -signal.SIGKILL
    assert not adapter_path(run_dir, 25).exists()
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "done after 25 optimizer steps" in again.stderr
    assert_same(run_dir, reference)


class TestDamage:
    """What a crash of the machine, or a person, can leave behind."""

    @pytest.fixture
    def pair(self, tmp_path: Path, qwen3: Path) -> tuple[Path, Path]:
        """A run stopped after two of four steps, and one that went through."""
        source = template(tmp_path / "template", qwen3, steps=4)
        reference = uninterrupted(source, tmp_path / "reference")
        train(source, until_step=2)
        return source, reference

    @pytest.mark.parametrize("cut", [1, 60, 100000])
    def test_a_torn_metrics_line(self, pair: tuple[Path, Path], cut: int):
        run_dir, reference = pair
        content = (run_dir / "metrics.jsonl").read_bytes()
        last = content.rstrip(b"\n").rfind(b"\n") + 1
        (run_dir / "metrics.jsonl").write_bytes(content[: max(last, len(content) - cut)])
        train(run_dir)
        assert_same(run_dir, reference)

    def test_a_checkpoint_that_is_not_whole_is_passed_over(self, pair: tuple[Path, Path]):
        run_dir, reference = pair
        state = checkpoint_path(run_dir, 2) / "state.safetensors"
        state.write_bytes(state.read_bytes()[:-5])
        train(run_dir)
        assert_same(run_dir, reference)

    def test_without_any_checkpoint_it_trains_the_sealed_batches_again(self, pair: tuple[Path, Path]):
        run_dir, reference = pair
        shutil.rmtree(run_dir / "checkpoints")
        train(run_dir)
        assert_same(run_dir, reference)

    def test_torn_folders_of_the_dead_learner_are_removed(self, pair: tuple[Path, Path]):
        run_dir, reference = pair
        for name in ("adapters/.v000003.1.tmp", "checkpoints/.step-000003.1.tmp"):
            (run_dir / name).mkdir()
            (run_dir / name / "adapter_model.safetensors").write_bytes(b"half")
        train(run_dir)
        assert_same(run_dir, reference)

    def test_another_base_model_is_refused(self, pair: tuple[Path, Path], tmp_path: Path):
        run_dir, _ = pair
        content = json.loads((run_dir / "run.json").read_text())
        content["base_model"]["path"] = str(write_base(tmp_path / "other", rope_theta=5.0))
        (run_dir / "run.json").write_text(json.dumps(content))
        with pytest.raises(FailedPrecondition, match="was made with another base model"):
            train(run_dir)


class TestCommandLine:
    """One line on stderr that says what is wrong, and exit code 1."""

    def fails(self, run_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> str:
        monkeypatch.setattr(sys, "argv", ["training", str(run_dir)])
        assert main() == 1
        return capsys.readouterr().err

    def test_no_run_directory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
        assert f"{tmp_path / 'run.json'} is missing" in self.fails(tmp_path, monkeypatch, capsys)

    def test_a_wrong_setting(
        self, tmp_path: Path, qwen3: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
    ):
        write_run(tmp_path, qwen3, lora_ranks=3)
        assert "lora_ranks" in self.fails(tmp_path, monkeypatch, capsys)

    def test_a_refused_step(
        self, tmp_path: Path, qwen3: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
    ):
        seal(write_run(tmp_path, qwen3), make_batch(policy_of(qwen3), learning_rate=1e25))
        assert "Step 0 was refused: the new adapter's canary is nan" in self.fails(tmp_path, monkeypatch, capsys)
