"""What a finished SFT or DPO run leaves: `output/`, renamed into place.

A LoRA: the three files that `publish` writes. Full parameters: a model folder of its own (weights in the base's type on disk, and
the base's config, tokenizer and chat template), which catalogue and engine load like any other. In both, `result.json`.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from pathlib import Path

import torch
from transformers import AutoConfig, PreTrainedModel

from tunesmith.errors import FailedPrecondition
from tunesmith.runs.config import BaseModelRef
from tunesmith.training.model import Policy
from tunesmith.training.publish import canary, temporary_folder, write_adapter

SHARD = "4GB"
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx")
"""Endings of files of the base folder that are, or speak of, other weights; everything else small is copied."""
COPY_LIMIT = 64 * 2**20
"""Bytes; no tokenizer or template is larger."""


def is_written(run_dir: Path) -> bool:
    """Whether the output is there, whole."""
    return (run_dir / "output" / "result.json").is_file()


def write_output(run_dir: Path, base: BaseModelRef, policy: Policy, step: int, eval_loss: float | None) -> Path:
    """Write `output/` from the policy as it is now, complete or not at all, and return it.

    Raises FailedPrecondition when the model does not give finite log-probabilities.
    """
    target = run_dir / "output"
    said = canary(policy)
    if not all(map(math.isfinite, said)):
        raise FailedPrecondition(
            f"The model after step {step} gives log-probabilities that are not numbers; nothing was written. "
            "Lower the learning rate."
        )
    temporary = temporary_folder(target)
    if policy.lora is not None:
        kind, sha256 = "adapter", write_adapter(temporary, policy, said)
    else:
        kind, sha256 = "model", _write_model(temporary, base, policy)
    result = {"kind": kind, "step": step, "eval_loss": eval_loss, "sha256": sha256}
    (temporary / "result.json").write_text(json.dumps(result))
    temporary.rename(target)
    return target


def save_model(folder: Path, base: Path, model: PreTrainedModel) -> None:
    """Save a model in the type that its base has on disk, with the base's config, tokenizer and chat template.

    The model's own weights are converted on the way; it is not to be trained after this.
    """
    dtype = getattr(AutoConfig.from_pretrained(base, local_files_only=True), "dtype", None) or torch.float32
    torch.nn.Module.to(model, dtype=dtype)
    model.save_pretrained(folder, max_shard_size=SHARD)
    for file in sorted(base.iterdir()):
        speaks_of_weights = file.suffix in WEIGHTS or file.name.endswith(".index.json")
        if file.is_file() and not speaks_of_weights and file.stat().st_size <= COPY_LIMIT:
            shutil.copyfile(file, folder / file.name)


def _write_model(folder: Path, base: BaseModelRef, policy: Policy) -> str:
    """Save the model into `folder`; return the hash over its weights files, in the order of their names."""
    save_model(folder, base.path, policy.base)
    (folder / "tunesmith.json").write_text(json.dumps({"base_model": base.name}))
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        with open(file, "rb") as content:
            while block := content.read(2**20):
                digest.update(block)
    return digest.hexdigest()
