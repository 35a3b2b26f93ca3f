"""Tokenized samples on disk: written once as they are made, read through a memory map, so that memory does not grow with them.

| tensor | what |
|---|---|
| token_ids | int32, all samples behind each other |
| weights | float32, one a token: 0 = given, else what it counts in the loss |
| starts | int64 [N + 1], where each sample begins |
| rows | int64 [N], line of the dataset (0-based) that it came from |
| bytes | int64 [N], UTF-8 bytes of its trained text |

Sample 2i and 2i + 1 of preference data are the preferred and the other answer of pair i.
"""

from __future__ import annotations

import json
import os
import shutil
from array import array
from collections.abc import Sequence as Seq
from pathlib import Path
from types import TracebackType
from typing import Any

from safetensors import safe_open

from tunesmith.errors import FailedPrecondition
from tunesmith.training.packing import Sequence

_TYPES = {"I32": ("i", 4), "F32": ("f", 4), "I64": ("q", 8)}
_TENSORS = {"token_ids": "I32", "weights": "F32", "starts": "I64", "rows": "I64", "bytes": "I64"}


class SampleWriter:
    """Writes a samples file, complete or not at all: use it as a context manager; an exception leaves nothing behind."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._parts = {name: path.with_name(f".{path.name}.{name}.tmp") for name in _TENSORS}
        self._files = {name: open(part, "wb") for name, part in self._parts.items()}  # noqa: SIM115 - closed in __exit__
        self._end = 0
        self.samples = 0
        self.notes: dict[str, str] = {}
        """Kept beside the samples (`Samples.notes`)."""
        self._put("starts", [0])

    def add(self, token_ids: Seq[int], weights: Seq[float], row: int, text_bytes: int) -> None:
        """Append a sample; `token_ids` and `weights` are equally long."""
        assert len(token_ids) == len(weights)
        self._end += len(token_ids)
        self.samples += 1
        for name, values in (
            ("token_ids", token_ids),
            ("weights", weights),
            ("starts", [self._end]),
            ("rows", [row]),
            ("bytes", [text_bytes]),
        ):
            self._put(name, values)

    def __enter__(self) -> SampleWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files.values():
            file.close()
        if kind is None:
            self._join()
        for part in self._parts.values():
            part.unlink(missing_ok=True)

    def _put(self, name: str, values: Seq[float]) -> None:
        self._files[name].write(array(_TYPES[_TENSORS[name]][0], values).tobytes())  # pyright: ignore[reportArgumentType]

    def _join(self) -> None:
        header: dict[str, Any] = {"__metadata__": self.notes}
        start = 0
        order = sorted(_TENSORS, key=lambda name: -_TYPES[_TENSORS[name]][1])  # widest first: every tensor lies aligned
        for name in order:
            size = self._parts[name].stat().st_size
            header[name] = {
                "dtype": _TENSORS[name],
                "shape": [size // _TYPES[_TENSORS[name]][1]],
                "data_offsets": [start, start + size],
            }
            start += size
        head = json.dumps(header).encode()
        head += b" " * (-len(head) % 8)
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}.tmp")
        with open(temporary, "wb") as target:
            target.write(len(head).to_bytes(8, "little") + head)
            for name in order:
                with open(self._parts[name], "rb") as part:
                    shutil.copyfileobj(part, target, 2**20)
        temporary.replace(self._path)


class Samples:
    """A samples file, memory-mapped."""

    def __init__(self, path: Path) -> None:
        with safe_open(path, "pt") as file:
            self.notes: dict[str, str] = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in _TENSORS}
        self._token_ids, self._weights = tensors["token_ids"], tensors["weights"]
        self._starts = tensors["starts"]
        self.rows, self.bytes = tensors["rows"], tensors["bytes"]
        self._path = path

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def tokens(self) -> int:
        """Tokens of all samples."""
        return len(self._token_ids)

    def sequence(self, number: int, vocabulary: int, group: int = 0) -> Sequence:
        """Sample `number` as the packing planner wants it.

        Raises FailedPrecondition when an id lies outside the model's vocabulary.
        """
        start, end = int(self._starts[number]), int(self._starts[number + 1])
        ids_T, weights_T = self._token_ids[start:end], self._weights[start:end]
        trained = weights_T.nonzero()[:, 0].tolist()
        if int(ids_T.max()) >= vocabulary:
            raise FailedPrecondition(
                f"Sample {number} of {self._path} has token ids outside the base model's vocabulary of {vocabulary}; "
                "tokenizer.json and config.json of the model do not fit each other."
            )
        ids = ids_T.tolist()
        return Sequence(
            token_ids=ids[: trained[-1]],
            prompt=trained[0],
            trained=trained,
            targets=[ids[position] for position in trained],
            weights=weights_T[trained].tolist(),
            group=group,
            number=number,
        )
