"""Checkpoints: everything needed to go on after step k, in a folder renamed into place.

| file | what |
|---|---|
| state.safetensors | `adapter/*`, `exp_avg/*`, `exp_avg_sq/*` (AdamW's moments), `rng` (torch's generator) |
| checkpoint.json | `CheckpointHeader`, with the hash of the state: a folder whose state does not match is not whole |

A checkpoint is written before the step's metrics and adapter, and carries the metrics line, so that a restart can
finish what the killed process left out.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors.torch import load, load_file, save
from torch import Tensor
from torch.optim import AdamW

from tunesmith.errors import FailedPrecondition
from tunesmith.runs.files import checkpoint_path
from tunesmith.training.model import Policy
from tunesmith.training.publish import temporary_folder

KEEP = 2
MOMENTS = ("exp_avg", "exp_avg_sq")


class CheckpointHeader(BaseModel):
    """What a checkpoint belongs to."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    step: int
    """Optimizer steps taken; equals the policy version it publishes."""
    base_sha256: str
    """Hash of the base model's config.json."""
    state_sha256: str
    metrics: dict[str, Any]
    """RFT: the metrics line of the step that led here. SFT and DPO: `Progress` (`tuning`)."""


def write_checkpoint(
    run_dir: Path,
    step: int,
    policy: Policy,
    optimizer: AdamW,
    base_sha256: str,
    metrics: dict[str, Any],
    best: int | None = None,
    keep_all: bool = False,
) -> None:
    """Write the checkpoint after `step` optimizer steps, then drop old ones unless `keep_all`: the last two and the best stay.

    `best` is the best step so far; None = the version that `status.json` calls best.
    """
    tensors = {f"adapter/{name}": tensor for name, tensor in policy.adapter_tensors().items()}
    for name, parameter in policy.adapter.items():
        moments = optimizer.state.get(parameter, {})
        tensors |= {f"{moment}/{name}": moments[moment].cpu() for moment in MOMENTS if moment in moments}
    tensors["rng"] = torch.get_rng_state()
    state = save(tensors)
    header = CheckpointHeader(
        step=step, base_sha256=base_sha256, state_sha256=hashlib.sha256(state).hexdigest(), metrics=metrics
    )
    target = checkpoint_path(run_dir, step)
    temporary = temporary_folder(target)
    (temporary / "state.safetensors").write_bytes(state)
    (temporary / "checkpoint.json").write_text(header.model_dump_json())
    if target.exists():  # not whole, or `restore` would have begun behind it
        shutil.rmtree(target)
    temporary.rename(target)
    if not keep_all:
        _prune(run_dir, _best_version(run_dir) if best is None else best)


def restore(run_dir: Path, policy: Policy, optimizer: AdamW, base_sha256: str) -> CheckpointHeader | None:
    """Load the newest whole checkpoint into policy and optimizer; None when there is none (the run begins).

    Raises FailedPrecondition when it was made with another base model.
    """
    for step in reversed(_steps(run_dir)):
        folder = checkpoint_path(run_dir, step)
        try:
            header = CheckpointHeader.model_validate_json((folder / "checkpoint.json").read_bytes())
            state = (folder / "state.safetensors").read_bytes()
        except (OSError, ValidationError):
            continue
        if hashlib.sha256(state).hexdigest() != header.state_sha256:
            continue
        if header.base_sha256 != base_sha256:
            raise FailedPrecondition(
                f"{folder} was made with another base model (config.json differs); restore that model or start a new run."
            )
        _load_state(load(state), header.step, policy, optimizer, str(folder))
        return header
    return None


def load_weights(run_dir: Path, step: int, policy: Policy) -> None:
    """Put the weights of the checkpoint after `step` into the policy, for its output."""
    file = checkpoint_path(run_dir, step) / "state.safetensors"
    tensors = load_file(file)
    adapter = {name.removeprefix("adapter/"): t for name, t in tensors.items() if name.startswith("adapter/")}
    policy.load_adapter_tensors(adapter, str(file))


def hash_base(path: Path) -> str:
    """Hash of the base model's config.json."""
    return hashlib.sha256((path / "config.json").read_bytes()).hexdigest()


def _load_state(tensors: dict[str, Tensor], step: int, policy: Policy, optimizer: AdamW, where: str) -> None:
    adapter = {name.removeprefix("adapter/"): t for name, t in tensors.items() if name.startswith("adapter/")}
    policy.load_adapter_tensors(adapter, where)
    for name, parameter in policy.adapter.items():
        if f"exp_avg/{name}" in tensors:
            moments = {moment: tensors[f"{moment}/{name}"].to(parameter.device) for moment in MOMENTS}
            optimizer.state[parameter] = {"step": torch.tensor(float(step)), **moments}
    torch.set_rng_state(tensors["rng"])


def _prune(run_dir: Path, best: int | None) -> None:
    steps = _steps(run_dir)
    keep = {*steps[-KEEP:], best}
    for step in steps:
        if step not in keep:
            shutil.rmtree(checkpoint_path(run_dir, step))


def _best_version(run_dir: Path) -> int | None:
    """The version that the orchestrator calls best so far; a rewind would fork there."""
    try:
        return json.loads((run_dir / "status.json").read_text()).get("best_version")
    except (OSError, ValueError):
        return None


def _steps(run_dir: Path) -> list[int]:
    folder = run_dir / "checkpoints"
    found = (re.fullmatch(r"step-(\d{6,})", path.name) for path in (folder.iterdir() if folder.is_dir() else ()))
    return sorted(int(match[1]) for match in found if match)
