"""Publishing: a policy version as a PEFT adapter folder, renamed into place under `adapters/`.

| file | what |
|---|---|
| adapter_model.safetensors | the LoRA tensors, float32, under PEFT's names |
| adapter_config.json | PEFT's configuration, keys and lists sorted, so that equal adapters are equal files |
| canary.json | `{"token_ids", "logprobs", "sha256"}`: what this version says about a fixed text, and the hash of its weights |

The canary's ids come from a linear congruential generator (Knuth's MMIX constants, seed 0): x <- 6364136223846793005 x +
1442695040888963407 mod 2^64, id = (x >> 33) mod vocabulary. `logprobs[i]` belongs to `token_ids[i + 1]`, at temperature 1,
with the adapter unmerged: one fewer than ids, as an engine's `/score` answers.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import save

from tunesmith.runs.files import adapter_path
from tunesmith.training.model import Policy

CANARY_TOKENS = 64


def publish(run_dir: Path, version: int, policy: Policy, canary_logprobs: list[float]) -> Path:
    """Write `adapters/v{version}`, complete or not at all, and return it. An existing folder is left as it is.

    `canary_logprobs` is what `canary(policy)` gives: the caller has looked at them before. The folder's name is its promise: version k is a pure function of base model, seed and batches 0..k-1.
    """
    target = adapter_path(run_dir, version)
    if target.exists():
        return target
    temporary = temporary_folder(target)
    write_adapter(temporary, policy, canary_logprobs)
    temporary.rename(target)
    return target


def write_adapter(folder: Path, policy: Policy, canary_logprobs: list[float]) -> str:
    """Write the three files into an existing folder; return the hash of the weights."""
    weights = save(policy.adapter_tensors(), metadata={"format": "pt"})
    said = {
        "token_ids": canary_ids(policy.vocabulary),
        "logprobs": canary_logprobs,
        "sha256": hashlib.sha256(weights).hexdigest(),
    }
    (folder / "adapter_model.safetensors").write_bytes(weights)
    (folder / "adapter_config.json").write_text(json.dumps(_peft_config(policy), indent=2, sort_keys=True) + "\n")
    (folder / "canary.json").write_text(json.dumps(said, allow_nan=False))
    return said["sha256"]


def canary(policy: Policy) -> list[float]:
    """The 63 log-probabilities of the canary under the policy as it is now, at temperature 1."""
    return policy.score(canary_ids(policy.vocabulary))


def canary_ids(vocabulary: int) -> list[int]:
    """The 64 ids that every version of every adapter of a base model is asked about."""
    ids, state = [], 0
    for _ in range(CANARY_TOKENS):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        ids.append((state >> 33) % vocabulary)
    return ids


def temporary_folder(target: Path) -> Path:
    """An empty folder beside `target`, to be renamed to it."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    return temporary


def remove_torn_folders(parent: Path) -> None:
    """Remove what a killed learner left unfinished. Only for the holder of the run directory's learner lock."""
    for folder in parent.glob(".*.tmp"):
        shutil.rmtree(folder)


def _peft_config(policy: Policy) -> dict[str, Any]:
    assert policy.lora is not None
    settings = policy.lora.to_dict()
    settings["inference_mode"] = True
    # PEFT keeps some lists as sets, whose order changes from process to process.
    return {name: sorted(value) if isinstance(value, set | list | tuple) else value for name, value in settings.items()}
