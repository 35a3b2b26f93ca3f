"""`tunesmith job extend`: more epochs for an RFT job that has ended."""

from __future__ import annotations

import json

import click

from tunesmith.cli.client import call, resource_id
from tunesmith.cli.errors import told_plainly
from tunesmith.cli.jobs import RFT_JOBS, rft_path
from tunesmith.cli.listing import short
from tunesmith.cli.profile import read_profile


@click.command("extend")
@click.argument("job")
@click.option("--epochs", type=click.IntRange(1), default=1, show_default=True, help="Passes beyond those of JOB.")
@click.option("--job-id", help="Id of the new job.")
@click.option("--output-model", help="Id of its model (default: the new job's id).")
@click.option("--display-name", help="Its name for people.")
@click.option("--json", "as_json", is_flag=True, help="Print the API's JSON.")
def extend_job(
    job: str, epochs: int, job_id: str | None, output_model: str | None, display_name: str | None, as_json: bool
) -> None:
    """Go on where JOB ended, in a new job: its last adapter, its optimizer's state, its data, settings and evaluator.

    One epoch extended by one is what two epochs would have been, step for step. Only the spacing of held-out evaluations stays that of
    the shorter job, so another version may come out best.

    \b
    Examples:
      tunesmith job extend my-job
      tunesmith job extend my-job --epochs 2 --job-id my-job-longer
    """
    given = {"epochs": epochs, "outputModel": output_model, "displayName": display_name}
    with told_plainly():
        profile = read_profile()
        path = f"{rft_path(profile, job)}:extend"
        path += f"?reinforcementFineTuningJobId={resource_id(RFT_JOBS, job_id)}" if job_id else ""
        made = call(profile, "POST", path, {name: value for name, value in given.items() if value is not None})
    new = short(made["name"])
    click.echo(json.dumps(made, indent=2) if as_json else f"Started {new}; see `tunesmith rftj get {new}`.")
