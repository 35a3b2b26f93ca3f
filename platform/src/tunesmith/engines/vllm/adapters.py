"""LoRA folders for vLLM: checked against the base model's tensors, hashed, and copied.

vLLM may read an adapter again long after it was loaded, so it is given a copy of our own: what was hashed is what is served,
whatever becomes of the folder. Shapes are read from the files' headers; a misfit would otherwise end vLLM, not the call.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from tunesmith.errors import InvalidArgument

_KEY = re.compile(r"^base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])(\.default)?\.weight$")
_LONGEST_HEADER = 100 * 2**20
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
Shapes = Mapping[str, tuple[int, ...]]


def base_shapes(folder: Path) -> Shapes:
    """Shape of every tensor of a model folder. Raises InvalidArgument when a file is damaged."""
    shapes: dict[str, tuple[int, ...]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        try:
            shapes |= _header(file)
        except (OSError, ValueError) as error:
            raise InvalidArgument(f"{file} is damaged ({error}). Fetch the model again.") from error
    return shapes


def adapter_hash(folder: Path) -> str:
    """sha256 of the weights file. Raises InvalidArgument when it cannot be read."""
    try:
        with open(folder / WEIGHTS, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _bad(folder, f"{WEIGHTS} cannot be read ({error.strerror})") from error


def take_adapter(folder: Path, base: Shapes, max_rank: int, copy: Path) -> str:
    """Copy a LoRA folder to `copy` and return the sha256 of the weights copied.

    Raises:
        InvalidArgument: it cannot be read, is no LoRA of this base model, or its rank is above `max_rank`.
    """
    try:
        copy.mkdir(parents=True)
        for name in (WEIGHTS, CONFIG):
            shutil.copyfile(folder / name, copy / name)
    except OSError as error:
        raise _bad(folder, f"it cannot be copied: {error.strerror} ({error.filename})") from error
    try:
        config = json.loads((copy / CONFIG).read_text())
        tensors = _header(copy / WEIGHTS)
    except (OSError, ValueError) as error:
        raise _bad(folder, f"it is damaged ({error})") from error
    rank = config.get("r") if isinstance(config, dict) and config.get("peft_type") == "LORA" else None
    if type(rank) is not int or rank < 1:
        raise _bad(folder, f"{CONFIG} is not that of a LoRA adapter (peft_type LORA, r at least 1)")
    if rank > max_rank:
        raise _bad(folder, f"its rank {rank} is above {max_rank}. Start vLLM with a larger --max-lora-rank")
    _check_shapes(folder, tensors, base, rank)
    return adapter_hash(copy)


def _check_shapes(folder: Path, tensors: Shapes, base: Shapes, rank: int) -> None:
    if not tensors:
        raise _bad(folder, f"{WEIGHTS} holds no tensor")
    for key, shape in tensors.items():
        match = _KEY.match(key)
        if match is None:
            raise _bad(folder, f"the tensor {key} is not one of a linear layer's lora_A and lora_B")
        weight = base.get(f"{match['module']}.weight")
        if weight is None or len(weight) != 2:
            raise _bad(folder, f"the base model has no linear layer {match['module']}; it was trained on another model")
        expected = (rank, weight[1]) if match["side"] == "A" else (weight[0], rank)
        if shape != expected:
            raise _bad(folder, f"{key} has shape {shape}; rank and base model ask for {expected}")
        if key.replace(f".lora_{match['side']}.", ".lora_{}.".format("AB".replace(match["side"], ""))) not in tensors:
            raise _bad(folder, f"{key} has no counterpart")


def _header(file: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes in a safetensors file. Raises ValueError when it is none."""
    with open(file, "rb") as content:
        length = int.from_bytes(content.read(8), "little")
        if not 2 <= length <= _LONGEST_HEADER:
            raise ValueError("its header is not that of a safetensors file")
        header = json.loads(content.read(length))
        size = file.stat().st_size - 8 - length
    header.pop("__metadata__", None)
    if max((entry["data_offsets"][1] for entry in header.values()), default=0) != size:
        raise ValueError("it is cut short")
    return {name: tuple(entry["shape"]) for name, entry in header.items()}


def _bad(folder: Path, reason: str) -> InvalidArgument:
    return InvalidArgument(f"The adapter in {folder} cannot be loaded: {reason}.")
