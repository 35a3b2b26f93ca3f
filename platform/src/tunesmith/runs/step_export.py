"""One optimizer step of a run, packed for somebody who wants to compute it again without this program.

A tar archive, one folder `{job}-step-{K}`:

| file | what |
|---|---|
| README.md | what all this is and how the step is computed, in plain words |
| step.json | `describe`: job, step, base model with the SHA-256 of its files, settings, the numbers of loss and optimizer |
| batches/step-*.safetensors, .json | the sealed batches, and the header of each as plain JSON |
| adapters/v* | PEFT adapters before and after every step in here |
| optimizer/state.safetensors | AdamW's moments before the first step in here (`exp_avg/*`, `exp_avg_sq/*`); not there when that is step 0 |
| metrics.jsonl | the learner's own figures of these steps |

AdamW's moments are kept with checkpoints only, of which a run keeps the last two and the best. Where that before step K was
dropped, the archive begins at the newest one before it (or at step 0, where the moments are 0) and holds the batches and adapters
in between: their gradients give the moments back.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tunesmith.errors import FailedPrecondition, NotFound
from tunesmith.runs.batch import BatchHeader
from tunesmith.runs.config import RunConfig
from tunesmith.runs.files import adapter_path, batch_path, checkpoint_path, read_json_lines
from tunesmith.runs.objective import loss_numbers, optimizer_numbers
from tunesmith.runs.step_readme import readme

FORMAT = 1
_ADAPTER_FILES = ("adapter_model.safetensors", "adapter_config.json", "canary.json")
_PIECE = 1 << 20


@dataclass(frozen=True)
class StepExport:
    """What goes into the archive. The checkpoint's state is open already: a learner that still runs may drop it any time."""

    folder: str
    description: dict[str, Any]
    contents: dict[str, Path | bytes]
    state: IO[bytes] | None


def open_step(run_dir: Path, step: int) -> StepExport:
    """Collect step `step` of a run: what led from policy version `step` to `step + 1`. Close with `pieces`, which reads it to the end.

    Raises NotFound when the run took no such step (yet), FailedPrecondition when files of it were removed.
    """
    try:
        config = RunConfig.read(run_dir)
    except FileNotFoundError:
        raise NotFound(
            f"There is no run in {run_dir} (any more): the job has not begun, or its files were removed."
        ) from None
    if not adapter_path(run_dir, step + 1).exists():
        raise NotFound(f"{config.job} took no step {step}. {_steps_taken(run_dir)}")
    first, state = _open_state(run_dir, step)
    try:
        contents = _files(run_dir, first, step)
        lines = [line for _, line in read_json_lines(run_dir / "metrics.jsonl") if first <= line["step"] <= step]
        description = describe(config, first, step)
    except BaseException:
        if state is not None:
            state.close()
        raise
    contents |= {
        "README.md": readme(description).encode(),
        "step.json": json.dumps(description, indent=2).encode() + b"\n",
        "metrics.jsonl": "".join(f"{json.dumps(line)}\n" for line in lines).encode(),
    }
    return StepExport(f"{config.job}-step-{step}", description, dict(sorted(contents.items())), state)


def pieces(export: StepExport) -> Iterator[bytes]:
    """The archive, piece by piece: nothing of it has to fit into memory."""
    with ExitStack() as stack:
        files = dict(export.contents)
        if export.state is not None:
            stack.enter_context(export.state)
            yield from _member(f"{export.folder}/optimizer/state.safetensors", export.state)
        for name, content in files.items():
            with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as file:
                yield from _member(f"{export.folder}/{name}", file)
        yield b"\0" * (2 * tarfile.BLOCKSIZE)


def describe(config: RunConfig, first: int, step: int) -> dict[str, Any]:
    """`step.json`. `first` is the step whose moments are in the archive (0: they are 0)."""
    learner = config.learner
    return {
        "format": FORMAT,
        "job": config.job,
        "step": step,
        "first_step": first,
        "version_before": step,
        "version_after": step + 1,
        "base_model": {
            "name": config.base_model.name,
            "path": str(config.base_model.path),
            "sha256": _hashes(config.base_model.path),
        },
        "loss": loss_numbers(learner),
        "optimizer": optimizer_numbers(learner),
        "learner": learner.model_dump(mode="json"),
        "seed": config.seed,
    }


def _steps_taken(run_dir: Path) -> str:
    last = max((line["step"] for _, line in read_json_lines(run_dir / "metrics.jsonl")), default=-1)
    if last < 0:
        return "It has not taken any step yet."
    return f"It took steps 0 to {last}; step K leads from policy version K to K + 1."


def _open_state(run_dir: Path, step: int) -> tuple[int, IO[bytes] | None]:
    """(step, open state) of the newest whole checkpoint not after `step`; (0, None) without one."""
    for number in range(step, 0, -1):
        folder = checkpoint_path(run_dir, number)
        try:
            expected = json.loads((folder / "checkpoint.json").read_bytes())["state_sha256"]
            file = (folder / "state.safetensors").open("rb")
        except (OSError, ValueError, KeyError):
            continue
        if hashlib.file_digest(file, "sha256").hexdigest() == expected:
            file.seek(0)
            return number, file
        file.close()
    return 0, None


def _files(run_dir: Path, first: int, step: int) -> dict[str, Path | bytes]:
    contents: dict[str, Path | bytes] = {}
    for number in range(first, step + 1):
        batch = batch_path(run_dir, number)
        contents[f"batches/{batch.name}"] = batch
    for version in range(first, step + 2):
        folder = adapter_path(run_dir, version)
        contents |= {f"adapters/{folder.name}/{name}": folder / name for name in _ADAPTER_FILES}
    gone = [path for path in contents.values() if isinstance(path, Path) and not path.is_file()]
    if gone:
        which = f"{gone[0]} was" if len(gone) == 1 else f"{gone[0]} and {len(gone) - 1} more of its files were"
        raise FailedPrecondition(
            f"Step {step} cannot be exported: {which} removed. AdamW's state before it was not "
            f"kept, so the steps from {first} on are needed. A job that is created with keepAllCheckpoints keeps it for every step."
        )
    for number in range(first, step + 1):
        batch = batch_path(run_dir, number)
        contents[f"batches/{batch.stem}.json"] = BatchHeader.read(batch).model_dump_json(indent=1).encode()
    return contents


def _hashes(base: Path) -> dict[str, str]:
    """SHA-256 of the files that decide what the base model computes."""
    found = {}
    for path in sorted([base / "config.json", *base.glob("*.safetensors")]):
        try:
            with path.open("rb") as file:
                found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise FailedPrecondition(
                f"The base model's {path} cannot be read ({error.strerror}); without it nobody can compute the step again."
            ) from error
    return found


def _member(name: str, file: IO[bytes]) -> Iterator[bytes]:
    info = tarfile.TarInfo(name)
    info.mode = 0o644
    info.size = file.seek(0, io.SEEK_END)
    file.seek(0)
    yield info.tobuf(tarfile.PAX_FORMAT)
    left = info.size
    while left:
        piece = file.read(min(_PIECE, left))
        if not piece:
            raise FailedPrecondition(f"{name} became shorter while it was read; ask for the step again.")
        left -= len(piece)
        yield piece
    yield b"\0" * (-info.size % tarfile.BLOCKSIZE)
