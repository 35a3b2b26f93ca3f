"""`tunesmith job export`: one optimizer step of an RFT job in a folder, to be computed again by an independent program."""

from __future__ import annotations

import json
import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import click

from tunesmith.cli.client import opened
from tunesmith.cli.errors import told_plainly
from tunesmith.cli.exports import check_new_folder, mark
from tunesmith.cli.jobs import rft_path
from tunesmith.cli.listing import short
from tunesmith.cli.profile import read_profile
from tunesmith.errors import InvalidArgument, Unavailable

_SILENCE_SECONDS = 600.0
"""The platform hashes the base model before the first byte."""


@click.command("export")
@click.argument("job")
@click.option("--step", type=click.IntRange(0), required=True, help="Step K leads from policy version K to K + 1.")
@click.option(
    "-o", "--output", type=click.Path(file_okay=False, path_type=Path), help="New folder (default: JOB-step-K)."
)
@click.option("--json", "as_json", is_flag=True, help="Print what was exported, as JSON.")
def export_step(job: str, step: int, output: Path | None, as_json: bool) -> None:
    """Save everything that is needed to compute adapter K + 1 from adapter K again, without this program.

    The folder has the sealed batch, both adapters, AdamW's state, the settings, the hashes of the base model, and a README that says how
    a step is computed. benchmarks/replay_step.py computes it with plain transformers, peft and torch, and compares. `ep upload` leaves the
    folder out of an evaluator's project.

    \b
    Examples:
      tunesmith job export my-job --step 3
      tunesmith job export my-job --step 3 -o step-3 --json
      python benchmarks/replay_step.py my-job-step-3
    """
    name = short(job)
    folder = output or Path(f"{name}-step-{step}")
    with told_plainly():
        profile = read_profile()
        path = f"{rft_path(profile, job)}:exportStep?step={step}"
        check_new_folder(folder)
        with opened(profile, "GET", path, silence=_SILENCE_SECONDS) as answer:
            _unpack(answer, folder)
    described: dict[str, Any] = json.loads((folder / "step.json").read_text())
    files = [file for file in folder.rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files)
    if as_json:
        click.echo(json.dumps({**described, "folder": str(folder), "files": len(files), "bytes": size}, indent=2))
        return
    click.echo(f"Saved step {step} of {name} in {folder}: {len(files)} files, {size / 2**20:.1f} MiB.")
    if described["first_step"] < step:
        click.echo(
            f"AdamW's state before step {step} was not kept: the steps from {described['first_step']} on are in it, from which "
            "it follows. A job that is created with keepAllCheckpoints keeps the state of every step."
        )


def _unpack(stream: Any, folder: Path) -> None:
    """The archive's one folder becomes `folder`: whole, or not at all. Raises InvalidArgument, Unavailable."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise InvalidArgument(f"{folder} cannot be written: {error.strerror or error}.") from error
    try:
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            archive.extractall(temporary, filter="data")
        (content,) = temporary.iterdir()
        mark(content, "tunesmith job export")
        content.replace(folder)
    except (tarfile.TarError, ValueError) as error:
        raise Unavailable(f"The download broke off ({error}); nothing was saved. Try again.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
