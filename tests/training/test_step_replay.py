"""An exported step, computed again by `benchmarks/replay_step.py` in a process of its own: every loss, several turns, dropped checkpoints."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from tunesmith.errors import FailedPrecondition, NotFound
from tunesmith.runs.config import LossMethod
from tunesmith.runs.files import adapter_path, batch_path
from tunesmith.runs.step_export import open_step, pieces
from tunesmith.training.rft import train

from benchmarks.replay_step import main, replay
from tests.training.makers import make_batch, metrics, policy_of, seal, write_run

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "replay_step.py"


def trained(run_dir: Path, base: Path, steps: int = 3, **settings: Any) -> Path:
    """A run whose rollouts have several turns, whose recorded log-probabilities are off, and that a warm-up begins."""
    policy = policy_of(base, disturb=0.05)
    seal(
        write_run(run_dir, base, warmup_steps=2, **settings),
        *(
            make_batch(policy, step, gaps=True, completion=(1, 12), noise=0.2, temperature=0.8, learning_rate=1e-3)
            for step in range(steps)
        ),
    )
    assert train(run_dir) == steps
    return run_dir


def export(run_dir: Path, step: int, target: Path) -> Path:
    exported = open_step(run_dir, step)
    with tarfile.open(fileobj=io.BytesIO(b"".join(pieces(exported)))) as archive:
        archive.extractall(target, filter="data")
    return target / exported.folder


def steps_of(folder: Path, base: Path) -> list[dict[str, Any]]:
    return replay(folder, json.loads((folder / "step.json").read_text()), base)


@pytest.mark.parametrize("loss", list(LossMethod))
def test_every_loss_is_computed_again(tmp_path: Path, qwen3: Path, loss: LossMethod):
    run_dir = trained(tmp_path / "run", qwen3, loss=loss, weight_decay=0.1)
    (step,) = steps_of(export(run_dir, 2, tmp_path), qwen3)
    line = metrics(run_dir)[2]
    assert step["largest_difference"] < 1e-5
    assert step["moved"] > 5e-4
    assert step["loss"] == pytest.approx(line["loss"], rel=1e-4, abs=1e-6)
    assert step["grad_norm"] == pytest.approx(line["grad_norm"], rel=1e-4)
    assert step["trained_tokens"] == line["trained_tokens"]


def test_without_a_kept_checkpoint_the_steps_before_give_the_moments_back(tmp_path: Path, llama: Path):
    """Of four steps the checkpoints 3 and 4 are kept: step 2 begins at step 0, step 3 at itself."""
    run_dir = trained(tmp_path / "run", llama, steps=4)
    folder = export(run_dir, 2, tmp_path)
    assert not (folder / "optimizer").exists()
    assert [path.name for path in sorted((folder / "adapters").iterdir())] == [f"v00000{k}" for k in range(4)]
    found = steps_of(folder, llama)
    assert [step["step"] for step in found] == [0, 1, 2]
    # In steps 0 and 1 some elements' gradients are rounding, of which AdamW makes whole updates; they are left out, and few.
    assert max(step["largest_difference"] for step in found) < 1e-6
    assert 0 < max(step["left_out"] for step in found) < 0.01 * found[0]["elements"]
    assert "were not kept" in (folder / "README.md").read_text()
    assert len(steps_of(export(run_dir, 3, tmp_path), llama)) == 1
    first = export(run_dir, 0, tmp_path)
    assert steps_of(first, llama)[0]["largest_difference"] < 1e-5


def test_the_script_imports_nothing_of_ours(tmp_path: Path, qwen3: Path):
    folder = export(trained(tmp_path / "run", qwen3), 2, tmp_path)
    watch = "import sys, runpy; sys.argv = sys.argv[1:]\ntry: runpy.run_path(sys.argv[0], run_name='__main__')\nfinally: assert 'tunesmith' not in sys.modules"
    good = subprocess.run(
        [sys.executable, "-c", watch, str(SCRIPT), str(folder)], capture_output=True, text=True, check=False
    )
    assert good.returncode == 0, good.stderr
    assert "holds: step 2 of test within 1e-05" in good.stdout


def test_the_script_notices_another_adapter_and_another_base(
    tmp_path: Path, qwen3: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    folder = export(trained(tmp_path / "run", qwen3), 2, tmp_path)

    def run(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["replay_step.py", str(folder), *map(str, arguments)])
        return main()

    after = folder / "adapters/v000003/adapter_model.safetensors"
    tensors = load_file(after)
    name = next(iter(tensors))
    tensors[name][0, 0] += 1e-4
    save_file(tensors, after)
    assert run("--json") == 1
    assert json.loads(capsys.readouterr().out)["steps"][0]["largest_difference"] == pytest.approx(1e-4, rel=0.2)

    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text("{}")
    assert run("--base-model", other) == 1
    assert "config.json is another file, model.safetensors is missing" in capsys.readouterr().err


def test_what_is_no_export_is_told_in_a_line(
    tmp_path: Path, qwen3: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    def run(folder: Path) -> str:
        monkeypatch.setattr(sys, "argv", ["replay_step.py", str(folder)])
        assert main() == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    assert f"{tmp_path / 'none' / 'step.json'} is not there: {tmp_path / 'none'} is no whole export." in run(
        tmp_path / "none"
    )
    (tmp_path / "empty").mkdir()
    assert "`tunesmith job export JOB --step K` writes one" in run(tmp_path / "empty")
    folder = export(trained(tmp_path / "run", qwen3), 2, tmp_path)
    after = folder / "adapters/v000003/adapter_model.safetensors"
    after.write_bytes(after.read_bytes()[:100])
    assert "cannot be read as an export (SafetensorError" in run(folder)
    after.unlink()
    assert "v000003" in run(folder)
    (folder / "step.json").write_text("{}")
    assert "KeyError('base_model')" in run(folder)


def test_the_archive_is_the_same_each_time_and_says_what_is_in_it(tmp_path: Path, qwen3: Path):
    run_dir = trained(tmp_path / "run", qwen3, loss="GRPO")
    one, two = (b"".join(pieces(open_step(run_dir, 2))) for _ in range(2))
    assert one == two
    folder = export(run_dir, 2, tmp_path)
    told = json.loads((folder / "step.json").read_text())
    assert told["loss"] == {"method": "GRPO", "log_ratio_limit": 10.0, "clip": [0.8, 1.2], "kl_beta": 0.001}
    assert told["base_model"]["sha256"].keys() == {"config.json", "model.safetensors"}
    assert [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()] == [2]
    assert "clip(r, [0.8, 1.2]) A) + 0.001 (exp(d) - d - 1)" in (folder / "README.md").read_text()
    assert (folder / "batches/step-000002.safetensors").read_bytes() == batch_path(run_dir, 2).read_bytes()


def test_what_cannot_be_exported_says_why(tmp_path: Path, qwen3: Path):
    with pytest.raises(NotFound, match="There is no run in"):
        open_step(tmp_path / "none", 0)
    run_dir = trained(tmp_path / "run", qwen3, steps=4)
    with pytest.raises(NotFound, match=r"test took no step 4. It took steps 0 to 3"):
        open_step(run_dir, 4)
    (adapter_path(run_dir, 1) / "adapter_model.safetensors").unlink()
    with pytest.raises(FailedPrecondition, match=r"v000001/adapter_model.safetensors .*keepAllCheckpoints"):
        open_step(run_dir, 2)
    exported = open_step(run_dir, 3)
    assert exported.description["first_step"] == 3
    b"".join(pieces(exported))
