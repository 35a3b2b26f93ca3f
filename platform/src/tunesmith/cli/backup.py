"""`tunesmith backup`: the whole platform in one file."""

from __future__ import annotations

import json
from pathlib import Path

import click

from tunesmith.cli.errors import told_plainly


@click.command("backup")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--data-dir", help="The data folder (default: TUNESMITH_DATA_DIR or ~/.tunesmith/data).")
@click.option("--models", is_flag=True, help="Also downloaded base models; without them they are downloaded again.")
@click.option("--force", is_flag=True, help="Write over FILE if it is there already.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(file: Path, data_dir: str | None, models: bool, force: bool, as_json: bool) -> None:
    """Write everything that the data folder holds into FILE (a tar compressed with zstd), also while the platform runs.

    Jobs in flight are in it as they are at that moment, and go on after a restore. The file holds all keys: it is readable by its owner only, and
    whoever has it has everything.

    \b
    Examples:
      tunesmith backup /backups/tunesmith-monday.tar.zst
      tunesmith backup tunesmith.tar.zst --data-dir /var/lib/tunesmith --json
      tunesmith backup --force /backups/last-night.tar.zst
    """
    from tunesmith.jobs.backup import back_up
    from tunesmith.jobs.memory import gib
    from tunesmith.settings import Settings

    with told_plainly():
        done = back_up(Settings.load(data_dir=data_dir).data_dir, file.absolute(), models=models, overwrite=force)
    if as_json:
        fields = {"file": str(done.path), "files": done.files, "contentBytes": done.content_bytes, "bytes": done.bytes}
        click.echo(json.dumps(fields, indent=2))
        return
    click.echo(
        f"{done.path}: {done.files} files, {gib(done.content_bytes)}, in {gib(done.bytes)}. It holds the platform's keys."
    )
