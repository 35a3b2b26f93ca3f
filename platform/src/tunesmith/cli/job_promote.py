"""`tunesmith job promote`: another version of an RFT job becomes its model, or a model of its own."""

from __future__ import annotations

import json

import click

from tunesmith.cli.client import call
from tunesmith.cli.errors import told_plainly
from tunesmith.cli.jobs import rft_path
from tunesmith.cli.listing import short
from tunesmith.cli.profile import read_profile


@click.command("promote")
@click.argument("job")
@click.option(
    "--step", type=click.IntRange(0), required=True, help="Policy version: the adapter after so many optimizer steps."
)
@click.option("--as", "model", metavar="MODEL", help="Id of the model (default: the job's own output model).")
@click.option("--json", "as_json", is_flag=True, help="Print the API's JSON.")
def promote_step(job: str, step: int, model: str | None, as_json: bool) -> None:
    """Serve the adapter that JOB had after some step, in place of the one that was chosen at its end.

    With --as the chosen one stays, and the step's is a model beside it; that works while the job runs, too. The version that was served before
    stays with the job, and can be promoted again.

    \b
    Examples:
      tunesmith job promote my-job --step 12
      tunesmith job promote my-job --step 12 --as my-job-at-12
    """
    with told_plainly():
        profile = read_profile()
        body = {"version": step, **({"model": model} if model else {})}
        found = call(profile, "POST", f"{rft_path(profile, job)}:promote", body)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    before, name = found.get("versionBefore"), short(job)
    click.echo(f"{found['model']} serves policy version {step} of {name}{_instead(before, step)}.")
    if step == 0:
        click.echo("Version 0 is the adapter before the first optimizer step: it has learned nothing in this job.")
    if before is not None and before != step:
        click.echo(f"Back: tunesmith job promote {name} --step {before}{f' --as {model}' if model else ''}")


def _instead(before: int | None, step: int) -> str:
    if before is None:
        return ""
    return ", as before" if before == step else f" in place of version {before}"
