"""`tunesmith restore`: a data folder from a backup."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

from tunesmith.cli.errors import told_plainly


@click.command("restore")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--data-dir",
    help="Folder to make, which must be empty or not there (default: TUNESMITH_DATA_DIR or ~/.tunesmith/data).",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(file: Path, data_dir: str | None, as_json: bool) -> None:
    """Make a data folder from a backup. Every file is held against its hash first; a folder that holds something is refused.

    The folder and the port may be others than before. Jobs that were in flight go on with the next `tunesmith up`.

    \b
    Examples:
      tunesmith restore /backups/tunesmith-monday.tar.zst
      tunesmith restore tunesmith.tar.zst --data-dir /var/lib/tunesmith2
    """
    from tunesmith.jobs.backup import restore
    from tunesmith.settings import Settings

    with told_plainly():
        done = restore(file.absolute(), Settings.load(data_dir=data_dir).data_dir)
    if as_json:
        fields = {
            "dataDir": str(done.data_dir),
            "files": done.files,
            "created": done.created,
            "unfinishedJobs": done.unfinished,
        }
        click.echo(json.dumps({**fields, "version": done.version}, indent=2))
        return
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(done.created))
    click.echo(f"{done.data_dir}: {done.files} files of {when}, by Tunesmith {done.version}.")
    jobs = f" {done.unfinished} job{'s go' if done.unfinished != 1 else ' goes'} on then." if done.unfinished else ""
    click.echo(f"Start it with `tunesmith up --data-dir {done.data_dir}`.{jobs}")
