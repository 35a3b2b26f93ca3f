"""What SFT and DPO share: learning rates, order of the samples, samples on disk, and a run that is killed and started again."""

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
from tunesmith.runs.files import checkpoint_path
from tunesmith.runs.tuning import Schedule, ScheduleKind, TuningConfig
from tunesmith.training import tuning
from tunesmith.training.__main__ import main, train
from tunesmith.training.packing import default_budget
from tunesmith.training.samples import Samples, SampleWriter
from tunesmith.training.schedules import Order, evaluation_steps, rate

from tests.training.makers import write_base
from tests.training.tuning_makers import left, lines, make_rows, status, write_chat_base, write_tuning


@pytest.fixture(scope="session")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chat_base(tmp_path_factory.mktemp("chat") / "base")


class TestSchedule:
    def rates(self, total: int, **settings: object) -> list[float]:
        schedule = Schedule.model_validate(settings)
        return [round(rate(schedule, step, total), 6) for step in range(total)]

    def test_constant(self):
        assert self.rates(3) == [1, 1, 1]

    def test_warm_up_is_linear_and_ends_at_the_full_rate(self):
        assert self.rates(6, warmup_steps=4) == [0.25, 0.5, 0.75, 1, 1, 1]

    def test_linear_falls_to_the_floor(self):
        assert self.rates(4, kind="linear") == [1, 0.75, 0.5, 0.25]
        assert self.rates(4, kind="linear", min_ratio=0.5) == [1, 0.875, 0.75, 0.625]

    def test_cosine(self):
        assert self.rates(4, kind="cosine") == [1, 0.853553, 0.5, 0.146447]

    @pytest.mark.parametrize("kind", [ScheduleKind.LINEAR, ScheduleKind.COSINE])
    def test_decay_within_a_share_of_the_steps_behind_the_warm_up(self, kind: ScheduleKind):
        found = self.rates(12, kind=kind, warmup_steps=2, decay_ratio=0.4, min_ratio=0.1)
        assert found[:3] == [0.5, 1, 1]
        assert found[4] == pytest.approx(0.55)  # half-way
        assert found[6:] == [0.1] * 6
        assert found[2:7] == sorted(found[2:7], reverse=True)

    def test_a_warm_up_longer_than_the_run(self):
        assert self.rates(2, kind="cosine", warmup_steps=4) == [0.25, 0.5]


class TestOrder:
    def test_every_epoch_takes_every_sample_once_in_a_new_order(self):
        order = Order(10, 4, 2.0, seed=3)
        batches = [order.batch(step) for step in range(order.steps)]
        assert [len(batch) for batch in batches] == [4, 4, 2] * 2
        assert sorted(sum(batches[:3], [])) == sorted(sum(batches[3:], [])) == list(range(10))
        assert batches[:3] != batches[3:]
        assert [order.epoch(step) for step in range(7)] == [0, 0.4, 0.8, 1, 1.4, 1.8, 2]

    def test_it_depends_on_the_seed_and_nothing_else(self):
        assert Order(10, 4, 2.0, 3).batch(4) == Order(10, 4, 5.0, 3).batch(4)
        assert Order(10, 4, 2.0, 3).batch(4) != Order(10, 4, 2.0, 4).batch(4)

    @pytest.mark.parametrize(("epochs", "sizes"), [(0.5, [4, 1]), (1.25, [4, 4, 2, 2]), (0.01, [1]), (1.0, [4, 4, 2])])
    def test_a_fraction_stops_within_a_pass(self, epochs: float, sizes: list[int]):
        order = Order(10, 4, epochs, 0)
        assert [len(order.batch(step)) for step in range(order.steps)] == sizes
        assert order.epoch(order.steps) == pytest.approx(sum(sizes) / 10)

    def test_evaluations_are_spread_and_the_last_step_is_among_them(self):
        assert evaluation_steps(4, 12) == {0, 3, 6, 9, 12}
        assert evaluation_steps(8, 3) == {0, 1, 2, 3}
        assert evaluation_steps(1, 7) == {0, 7}


class TestSamples:
    def test_what_is_written_is_read(self, tmp_path: Path):
        with SampleWriter(tmp_path / "s.safetensors") as writer:
            writer.add([5, 6, 7, 8, 9], [0, 0, 2.5, 0, -1], row=3, text_bytes=4)
            writer.add([1, 2], [0, 1], row=9, text_bytes=1)
            writer.notes = {"rows": "2"}
        samples = Samples(tmp_path / "s.safetensors")
        assert (len(samples), samples.tokens, samples.notes) == (2, 7, {"rows": "2"})
        one = samples.sequence(0, vocabulary=10)
        assert (one.token_ids, one.prompt, one.trained) == ([5, 6, 7, 8], 2, [2, 4])
        assert (one.targets, one.weights) == ([7, 9], [2.5, -1.0])
        assert (samples.rows.tolist(), samples.bytes.tolist()) == ([3, 9], [4, 1])
        with pytest.raises(FailedPrecondition, match="outside the base model's vocabulary of 9"):
            samples.sequence(0, vocabulary=9)

    def test_an_error_leaves_nothing(self, tmp_path: Path):
        with pytest.raises(TypeError), SampleWriter(tmp_path / "s.safetensors") as writer:
            writer.add([1, 2], [0, "heavy"], 0, 0)  # pyright: ignore[reportArgumentType]
        assert list(tmp_path.iterdir()) == []


def uninterrupted(source: Path, target: Path) -> Path:
    shutil.copytree(source, target)
    train(target)
    return target


def template(run_dir: Path, base: Path, rows: int, **settings: object) -> Path:
    """A run directory nobody has trained in, in which every part of the state matters."""
    schedule = {"kind": "cosine", "warmup_steps": 2, "min_ratio": 0.1}
    write_tuning(run_dir, base, make_rows(rows), make_rows(5, seed=8), schedule=schedule, **settings)
    return run_dir


def assert_same(run_dir: Path, reference: Path) -> None:
    assert left(run_dir) == left(reference)
    assert lines(run_dir) == lines(reference)
    clock = ("updated", "tokens_per_second", "seconds")
    one, other = ({k: v for k, v in status(folder).items() if k not in clock} for folder in (run_dir, reference))
    assert one == other
    assert [str(path) for path in run_dir.rglob(".*")] == []


class TestKilled:
    def test_before_every_change_on_disk_and_at_random_times(self, tmp_path: Path, chat: Path):
        sources = {
            "short": template(tmp_path / "short", chat, 3, evaluations=1),
            "long": template(tmp_path / "long", chat, 24, epochs=5, evaluations=10),
        }
        references = {name: uninterrupted(source, tmp_path / f"{name}-whole") for name, source in sources.items()}
        command = [sys.executable, "-m", "tests.training.crash_harness"]
        jobs = [f"some={sources['short']}", f"times={sources['long']}"]
        result = subprocess.run([*command, *jobs], capture_output=True, text=True, timeout=500, check=False)
        assert result.returncode == 0, result.stderr
        events, times = map(int, result.stdout.split())
        assert events > 25
        assert times > 1
        for event in range(0, events, 5):
            assert_same(tmp_path / "short-killed" / f"{event:03d}", references["short"])
        assert_same(tmp_path / "long-killed" / "run", references["long"])

    def test_full_parameters_between_checkpoints(self, tmp_path: Path, chat: Path, monkeypatch: pytest.MonkeyPatch):
        """Steps behind the newest checkpoint are taken again, and their lines stay single."""
        source = template(tmp_path / "full", chat, 24, evaluations=2, lora_rank=0, learning_rate=1e-3)
        reference = uninterrupted(source, tmp_path / "whole")

        class Killed(BaseException):
            pass

        run, update = tmp_path / "full", tuning.TuningRun.update

        def dies(self: tuning.TuningRun, *arguments: float, **more: float) -> None:
            update(self, *arguments, **more)  # pyright: ignore[reportArgumentType]
            if self.step == 5:
                raise Killed

        monkeypatch.setattr(tuning.TuningRun, "update", dies)
        with pytest.raises(Killed):
            train(run)
        monkeypatch.undo()
        assert checkpoint_path(run, 3).exists()
        assert not checkpoint_path(run, 5).exists()
        assert [line["step"] for line in lines(run) if "loss" in line] == [1, 2, 3, 4, 5]
        train(run)
        assert_same(run, reference)

    def test_checkpoints_often_enough_give_the_same(self, tmp_path: Path, chat: Path, monkeypatch: pytest.MonkeyPatch):
        source = template(tmp_path / "run", chat, 16, evaluations=1)
        reference = uninterrupted(source, tmp_path / "whole")
        monkeypatch.setattr(tuning, "CHECKPOINT_SECONDS", 0.0)
        monkeypatch.setattr(tuning, "CHECKPOINT_SHARE", 0)
        train(source, until_step=2)
        assert checkpoint_path(source, 2).exists()
        train(source)
        assert_same(source, reference)

    def test_the_real_process(self, tmp_path: Path, chat: Path):
        """SIGKILL once it trains, then again to the end; a third start finds it done."""
        source = template(tmp_path / "run", chat, 40, epochs=3)
        reference = uninterrupted(source, tmp_path / "whole")
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "tunesmith.training", str(source)]
        with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as learner:
            while not (source / "checkpoints" / "step-000010").exists():
                assert learner.poll() is None
                time.sleep(0.002)
            learner.send_signal(signal.SIGKILL)
            assert learner.wait() == -signal.SIGKILL
        assert status(source)["state"] == "RUNNING"
        spent = status(source)["seconds"]
        again = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert again.returncode == 0, again.stderr
        assert "done after 30 optimizer steps" in again.stderr
        assert status(source)["seconds"] > spent > 0, "what the killed process took counts"
        assert_same(source, reference)
        assert train(source) == 30
        assert_same(source, reference)


class TestCommandLine:
    def fails(self, run_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> str:
        monkeypatch.setattr(sys, "argv", ["training", str(run_dir)])
        assert main() == 1
        assert status(run_dir)["state"] == "FAILED"
        return capsys.readouterr().err

    def test_a_wrong_row(
        self, tmp_path: Path, chat: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
    ):
        write_tuning(tmp_path / "run", chat, [*make_rows(2), "[]"])
        error = self.fails(tmp_path / "run", monkeypatch, capsys)
        assert "learner: Dataset validation failed" in error
        assert "(line 3)" in error

    def test_a_wrong_setting(
        self, tmp_path: Path, chat: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
    ):
        write_tuning(tmp_path / "run", chat, make_rows(2))
        content = json.loads((tmp_path / "run" / "run.json").read_text()) | {"ranks": 3}
        (tmp_path / "run" / "run.json").write_text(json.dumps(content))
        assert "ranks" in self.fails(tmp_path / "run", monkeypatch, capsys)
        assert "ranks" in status(tmp_path / "run")["message"]

    def test_a_model_that_is_not_there(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
    ):
        write_tuning(tmp_path / "run", tmp_path / "nowhere", make_rows(2))
        assert "nowhere" in self.fails(tmp_path / "run", monkeypatch, capsys)

    def test_a_checkpoint_of_another_model(
        self, tmp_path: Path, chat: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
    ):
        write_tuning(tmp_path / "run", chat, make_rows(8))
        train(tmp_path / "run")
        shutil.rmtree(tmp_path / "run" / "output")
        other = shutil.copytree(chat, tmp_path / "other")
        write_base(other, vocab_size=260, rope_theta=5.0)
        content = json.loads((tmp_path / "run" / "run.json").read_text())
        content["base_model"]["path"] = str(other)
        (tmp_path / "run" / "run.json").write_text(json.dumps(content))
        assert "was made with another base model" in self.fails(tmp_path / "run", monkeypatch, capsys)

    def test_measuring(self, chat: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
        from tunesmith.training import measure

        monkeypatch.setattr(measure, "TRAIN_SECONDS", 0.0)
        monkeypatch.setattr(measure, "FORWARD_SECONDS", 0.0)
        monkeypatch.setattr(sys, "argv", ["training", "--measure", str(chat), "--tokens", "40"])
        assert main() == 0
        found = json.loads(capsys.readouterr().out)
        assert found.keys() == {"sft_tokens_per_second", "forward_tokens_per_second"}
        assert all(value > 0 for value in found.values())


def test_the_budget_is_the_runs_or_the_devices(tmp_path: Path, chat: Path):
    config = write_tuning(tmp_path / "run", chat, make_rows(2))
    assert tuning.TuningRun(tmp_path, config).budget == default_budget()
    small = TuningConfig.model_validate({**config.model_dump(), "max_tokens_per_micro_batch": 7})
    assert tuning.TuningRun(tmp_path, small).budget == 7
