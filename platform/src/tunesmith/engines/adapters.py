"""LoRA adapters: reading a PEFT folder strictly and merging it into a private copy of the weights it touches.

What would change the numbers and is not computed here (DoRA, rsLoRA, biases, saved modules, patterns, ...) is refused by
name; a folder whose tensors do not fit the model is refused with the first tensor that does not.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from tunesmith.engines.model import Model, private_copy
from tunesmith.engines.plain import PlainDecoder
from tunesmith.errors import InvalidArgument

_READ = {"peft_type", "r", "lora_alpha", "target_modules", "bias", "init_lora_weights"}
_INERT = {
    "task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "inference_mode", "lora_dropout",
    "exclude_modules", "layers_to_transform", "layers_pattern", "megatron_core", "loftq_config", "qalora_group_size",
    "runtime_config",
}  # fmt: skip
"""Options of LoraConfig that cannot change the merged weights: they describe training, or which tensors there are."""
_BASE_CHANGING_INITS = ("pissa", "olora", "corda", "loftq", "eva", "lora_ga")
_KEY = re.compile(r"^base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])(\.default)?\.weight$")


@dataclass(frozen=True)
class _Pair:
    a: Tensor
    b: Tensor


def load_adapter(base: Model, name: str, folder: Path) -> Model:
    """Read a PEFT LoRA folder and merge it. Raises InvalidArgument with what is wrong with the folder."""
    content, sha256 = read_weights(folder)
    config = _read_config(folder)
    pairs = _read_pairs(content, folder)
    linears = {path: module for path, module in base.module.named_modules() if isinstance(module, nn.Linear)}
    _check_targets(config["target_modules"], pairs, linears, base, folder)
    rank, scale = config["r"], config["lora_alpha"] / config["r"]
    merged = {path: _merge(path, linears[path], pair, rank, scale, folder) for path, pair in pairs.items()}
    module = private_copy(base.module, merged)
    return Model(name, module, sha256, base.plain and PlainDecoder.of(module, base.plain))


def read_weights(folder: Path) -> tuple[bytes, str]:
    """The weights file as read, and its sha256. Raises InvalidArgument when it is missing."""
    file = folder / "adapter_model.safetensors"
    try:
        content = file.read_bytes()
    except OSError as error:
        raise _bad(folder, f"{file.name} cannot be read ({error.strerror})") from error
    return content, hashlib.sha256(content).hexdigest()


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "adapter_config.json").read_text())
    except (OSError, ValueError) as error:
        raise _bad(folder, f"adapter_config.json cannot be read ({error})") from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise _bad(folder, "adapter_config.json is not that of a LoRA adapter (peft_type LORA)")
    rank, alpha, targets = config.get("r"), config.get("lora_alpha"), config.get("target_modules")
    if type(rank) is not int or rank < 1 or not isinstance(alpha, int | float) or not alpha > 0:
        raise _bad(folder, f"r = {rank!r} and lora_alpha = {alpha!r} must be positive numbers")
    named = isinstance(targets, list) and targets and all(isinstance(target, str) for target in targets)
    if not named and targets != "all-linear":
        raise _bad(folder, f"target_modules = {targets!r}; a list of names or 'all-linear' is supported")
    if config.get("bias", "none") != "none":
        raise _bad(folder, f"bias = {config['bias']!r} is not supported; train with bias 'none'")
    if str(config.get("init_lora_weights", "")).lower().startswith(_BASE_CHANGING_INITS):
        raise _bad(folder, f"init_lora_weights = {config['init_lora_weights']!r} changes the base model; not supported")
    for option, value in config.items():
        if option not in _READ | _INERT and value:
            raise _bad(folder, f"the option {option} = {value!r} is not supported")
    return config


def _read_pairs(content: bytes, folder: Path) -> dict[str, _Pair]:
    try:
        tensors = load(content)
    except SafetensorError as error:
        raise _bad(folder, f"adapter_model.safetensors is damaged ({error})") from error
    sides: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        match = _KEY.match(key)
        if match is None:
            raise _bad(folder, f"the tensor {key} is not one of a linear layer's lora_A and lora_B")
        if not tensor.is_floating_point() or not bool(torch.isfinite(tensor).all()):
            raise _bad(folder, f"the tensor {key} holds values that are not finite numbers")
        sides.setdefault(match["module"], {})[match["side"]] = tensor.float()
    for module, pair in sides.items():
        if pair.keys() != {"A", "B"}:
            raise _bad(folder, f"{module} has lora_{''.join(pair)} without its counterpart")
    if not sides:
        raise _bad(folder, "adapter_model.safetensors holds no tensor")
    return {module: _Pair(pair["A"], pair["B"]) for module, pair in sorted(sides.items())}


def _check_targets(
    targets: list[str] | str, pairs: dict[str, _Pair], linears: dict[str, nn.Linear], base: Model, folder: Path
) -> None:
    if unknown := sorted(pairs.keys() - linears.keys()):
        raise _bad(folder, f"the base model has no linear layer {unknown[0]}; it was trained on another model")
    if targets == "all-linear":
        head = base.module.get_output_embeddings()
        expected = {path for path, module in linears.items() if module is not head}
    else:
        expected = {path for path in linears if any(path == name or path.endswith(f".{name}") for name in targets)}
    if missing := sorted(expected - pairs.keys()):
        raise _bad(
            folder, f"target_modules names {missing[0]}, for which there are no tensors ({len(missing)} such layers)"
        )
    if extra := sorted(pairs.keys() - expected):
        raise _bad(folder, f"there are tensors for {extra[0]}, which target_modules does not name")


def _merge(path: str, linear: nn.Linear, pair: _Pair, rank: int, scale: float, folder: Path) -> Tensor:
    wanted = (rank, linear.in_features), (linear.out_features, rank)
    found = tuple(pair.a.shape), tuple(pair.b.shape)
    if found != wanted:
        raise _bad(folder, f"{path} has lora_A {found[0]} and lora_B {found[1]}; rank and base model ask for {wanted}")
    weight = torch.addmm(linear.weight.detach(), pair.b, pair.a, alpha=scale)
    if not bool(torch.isfinite(weight).all()):
        raise _bad(folder, f"merging it into {path} overflows fp32")
    return weight


def _bad(folder: Path, reason: str) -> InvalidArgument:
    return InvalidArgument(f"The adapter in {folder} cannot be loaded: {reason}.")
