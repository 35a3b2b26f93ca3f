"""A learner that runs out of memory, under a real limit in a process of its own, takes the batch in smaller pieces, and stays exact."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tunesmith.errors import FailedPrecondition
from tunesmith.runs.files import BUDGETS_FILE, adapter_path, read_json_lines
from tunesmith.training.memory import Budget, is_out_of_memory
from tunesmith.training.rft import train

from tests.training.makers import make_batch, metrics, policy_of, published, seal, write_base, write_run

ROOM_MIB = 150


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose layers keep about 60 KiB a token for the backward pass: 4000 tokens at once do not fit into `ROOM_MIB`."""
    return write_base(tmp_path_factory.mktemp("wide"), hidden_size=16, intermediate_size=2048)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, wide: Path) -> Path:
    """One small batch, one of 4000 tokens, another small one."""
    folder = tmp_path_factory.mktemp("runs") / "template"
    policy = policy_of(wide)
    small, large = {"groups": 2, "completion": (2, 9)}, {"groups": 4, "n": 5, "completion": (180, 220)}
    batches = [make_batch(policy, step, **(large if step == 1 else small)) for step in range(3)]
    seal(write_run(folder, wide, learning_rate=1e-3), *batches)
    return folder


def learner(run_dir: Path, mebibytes: int) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
    command = [sys.executable, "-m", "tests.training.memory_harness", str(run_dir), str(mebibytes)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def budgets(run_dir: Path) -> list[tuple[int, int]]:
    return [(line["step"], line["max_tokens_per_micro_batch"]) for _, line in read_json_lines(run_dir / BUDGETS_FILE)]


def test_a_step_that_does_not_fit_is_taken_in_smaller_pieces(tmp_path: Path, template: Path):
    limited, whole, again = (Path(shutil.copytree(template, tmp_path / name)) for name in ("limited", "whole", "again"))
    found = learner(limited, ROOM_MIB)
    assert found.returncode == 0, found.stderr
    assert "Step 1 ran out of memory with 16384 tokens at a time" in found.stderr
    halved = budgets(limited)
    assert halved
    assert {step for step, _ in halved} == {1}
    assert [tokens for _, tokens in halved] == sorted((tokens for _, tokens in halved), reverse=True)

    # What each step was computed with is in its metrics, and the smaller budget stays.
    train(whole)
    used = [line["max_tokens_per_micro_batch"] for line in metrics(limited)]
    assert used == [16384, halved[-1][1], halved[-1][1]]
    assert [line["max_tokens_per_micro_batch"] for line in metrics(whole)] == [16384] * 3
    for ours, theirs in zip(metrics(limited), metrics(whole), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5, abs=1e-6)
        assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-4)
    one, other = (load_file(adapter_path(run, 3) / "adapter_model.safetensors") for run in (limited, whole))
    moved = load_file(adapter_path(whole, 0) / "adapter_model.safetensors")
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], rtol=0, atol=1e-4)
    assert max(float((one[name] - moved[name]).abs().max()) for name in one) > 1e-3

    # Killed behind the halving and started again where there is room: the same cut, so the same bits.
    shutil.copy(limited / BUDGETS_FILE, again)
    train(again)
    assert published(again) == published(limited)
    assert metrics(again) == metrics(limited)


def test_one_sequence_that_does_not_fit_ends_the_run_with_advice(tmp_path: Path, template: Path, wide: Path):
    run_dir = tmp_path / "run"
    policy = policy_of(wide)
    seal(write_run(run_dir, wide), make_batch(policy, groups=1, n=2, completion=(480, 490)))
    found = learner(run_dir, 20)
    assert found.returncode == 1
    last = found.stderr.strip().splitlines()[-1]
    assert last.startswith(
        "learner: Step 0 does not fit into memory, not even one sequence at a time (the longest has 4"
    )
    assert "Lower the longest completion or the max context length" in last
    assert not adapter_path(run_dir, 1).exists()


class TestBudget:
    """The record behind it."""

    def test_a_budget_is_in_force_from_its_step_on(self, tmp_path: Path):
        lines = [{"step": 3, "max_tokens_per_micro_batch": 64}, {"step": 5, "max_tokens_per_micro_batch": 16}]
        (tmp_path / BUDGETS_FILE).write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        budget = Budget(tmp_path, 512)
        assert [budget.at(step) for step in range(7)] == [512, 512, 512, 64, 64, 16, 16]
        assert Budget(tmp_path, 32).at(3) == 32

    def test_it_is_halved_until_the_work_fits_and_never_below_one_sequence(self, tmp_path: Path):
        tried = []

        def work(tokens: int) -> str:
            tried.append(tokens)
            if tokens > 40:
                raise MemoryError
            return "done"

        assert Budget(tmp_path, 16384).fit(2, [100, 60, 140], work) == "done"
        assert tried == [16384, 150, 75, 37]
        assert budgets(tmp_path) == [(2, 150), (2, 75), (2, 37)]

        def never(tokens: int) -> str:
            tried.append(tokens)
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")

        tried.clear()
        with pytest.raises(FailedPrecondition, match=r"the longest has 140 tokens\): CUDA out of memory"):
            Budget(tmp_path, 16384).fit(3, [100, 60, 140], never)
        assert tried == [37]

    def test_other_errors_are_not_taken_for_it(self, tmp_path: Path):
        def wrong(tokens: int) -> None:
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

        with pytest.raises(RuntimeError, match="mat1"):
            Budget(tmp_path, 512).fit(0, [10], wrong)
        assert not (tmp_path / BUDGETS_FILE).exists()
        assert not is_out_of_memory(FileNotFoundError(2, "No such file or directory"))
        assert is_out_of_memory(OSError(12, "Cannot allocate memory"))
