"""`tunesmith rftj control|rewind|report`: steer a running job, go back to one of its versions, keep what happened in one file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import click

from tunesmith.cli.client import call, opened, resource_id
from tunesmith.cli.errors import told_plainly
from tunesmith.cli.jobs import RFT_JOBS, rft_path
from tunesmith.cli.listing import short
from tunesmith.cli.profile import read_profile
from tunesmith.errors import InvalidArgument

_AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print the API's JSON.")
_REPORT_SILENCE_SECONDS = 300.0


@click.command("control")
@click.argument("job")
@click.option("--pause/--go-on", "paused", default=None, help="Pause after the chunk in progress; go on.")
@click.option("--steps", type=click.IntRange(1), help="Go on for so many steps, then pause.")
@click.option("--learning-rate", metavar="RATE", help="From the next step on; `own` is the job's own again.")
@click.option("--evaluator-version", metavar="N", help="Score by this version; `own` is the job's own again.")
@click.option(
    "--auto-evaluator-version/--no-auto-evaluator-version",
    "auto",
    default=None,
    help="Take every new version of the evaluator as soon as it is built.",
)
@_AS_JSON
def control_job(
    job: str,
    paused: bool | None,
    steps: int | None,
    learning_rate: str | None,
    evaluator_version: str | None,
    auto: bool | None,
    as_json: bool,
) -> None:
    """Steer a running job; without an option, show what is asked and what is in force.

    \b
    Examples:
      tunesmith rftj control my-job --pause
      tunesmith rftj control my-job --steps 1
      tunesmith rftj control my-job --learning-rate 5e-4 --evaluator-version 3
    """
    with told_plainly():
        wishes: dict[str, Any] = {"paused": paused, "steps": steps, "autoEvaluatorVersion": auto}
        wishes = {name: value for name, value in wishes.items() if value is not None}
        if learning_rate is not None:
            wishes["learningRate"] = _own_or(float, learning_rate, "--learning-rate")
        if evaluator_version is not None:
            wishes["evaluatorVersion"] = _own_or(int, evaluator_version, "--evaluator-version")
        profile = read_profile()
        path = rft_path(profile, job)
        found = call(profile, "POST", f"{path}:control", wishes) if wishes else call(profile, "GET", path)
    click.echo(json.dumps(found["control"], indent=2) if as_json else _shown(found["control"]))


@click.command("rewind")
@click.argument("job")
@click.argument("version", type=click.IntRange(0))
@click.option("--job-id", help="Id of the new job.")
@_AS_JSON
def rewind_job(job: str, version: int, job_id: str | None, as_json: bool) -> None:
    """Start a new job that begins as JOB was at policy version VERSION. JOB is cancelled if it runs."""
    with told_plainly():
        profile = read_profile()
        query = f"?reinforcementFineTuningJobId={resource_id(RFT_JOBS, job_id)}" if job_id else ""
        made = call(profile, "POST", f"{rft_path(profile, job)}:rewind{query}", {"version": version})
    if as_json:
        click.echo(json.dumps(made, indent=2))
        return
    identity = made["name"].rsplit("/", 1)[-1]
    click.echo(f"{identity} goes on from version {version} of {short(job)}; see `tunesmith rftj get {identity}`.")


@click.command("report")
@click.argument("job")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="File (default: JOB.html).")
@click.option(
    "--rollouts", type=click.IntRange(0, 5000), default=300, show_default=True, help="At most so many rollouts."
)
def report_job(job: str, output: Path | None, rollouts: int) -> None:
    """Save one HTML file in which the job's steps, rollouts and tokens can be looked at anywhere, without a network."""
    target = output or Path(f"{short(job)}.html")
    partial = target.with_name(f".{target.name}.partial")
    with told_plainly():
        profile = read_profile()
        path = f"{rft_path(profile, job)}/report?rollouts={rollouts}"
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with opened(profile, "GET", path, silence=_REPORT_SILENCE_SECONDS) as answer, partial.open("wb") as file:
                shutil.copyfileobj(answer, file)
            partial.replace(target)
        except OSError as error:
            raise InvalidArgument(f"{target} cannot be written: {error.strerror or error}.") from error
        finally:
            partial.unlink(missing_ok=True)
    click.echo(f"Saved {target} ({target.stat().st_size / 2**20:.1f} MiB).")


def _own_or(kind: type[float] | type[int], text: str, flag: str) -> float | int | None:
    if text == "own":
        return None
    try:
        return kind(text)
    except ValueError:
        raise InvalidArgument(f"{flag} {text!r} is no number; `own` takes the job's own.") from None


def _shown(control: dict[str, Any]) -> str:
    requested, in_force = control["requested"], control["inForce"]
    auto = " (every new one)" if requested["autoEvaluatorVersion"] else ""
    asked = [
        "paused" if requested["paused"] else f"{requested['steps']} steps" if requested["steps"] else "going on",
        f"learning rate {requested['learningRate'] or 'of the job'}",
        f"evaluator version {requested['evaluatorVersion'] or 'of the job'}{auto}",
    ]
    lines = [f"{'Requested':<12}{', '.join(asked)}"]
    if in_force:
        state = "paused" if in_force["paused"] else "running"
        lines.append(
            f"{'In force':<12}{state}, learning rate {in_force['learningRate']:g}, evaluator version "
            f"{in_force['evaluatorVersion']}, since step {in_force['step']}"
        )
        lines += [f"{'Message':<12}{in_force['message']}"] if in_force["message"] else []
    return "\n".join(lines)
