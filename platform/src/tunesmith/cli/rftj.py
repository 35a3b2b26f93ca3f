"""`tunesmith rftj`: RFT jobs from the terminal, through the same API as everything else."""

from __future__ import annotations

import json
import time
from typing import Any

import click

from tunesmith.cli.client import ApiError, call
from tunesmith.cli.errors import told_plainly
from tunesmith.cli.jobs import all_rft_jobs, rft_path, state_of
from tunesmith.cli.listing import short
from tunesmith.cli.profile import Profile, read_profile
from tunesmith.cli.rftj_again import clone_job, estimate_job, resume_job
from tunesmith.cli.rftj_control import control_job, report_job, rewind_job
from tunesmith.cli.rftj_results import audit, compare, export, logs, rollouts
from tunesmith.cli.terminal import say

_DELETE_SECONDS = 10.0
"""How long `delete` waits for the worker to have removed the job."""

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print the API's JSON.")


@click.group("rftj")
def command() -> None:
    """RFT jobs of your account.

    \b
    Examples:
      tunesmith rftj list
      tunesmith rftj get my-job --json
      tunesmith rftj logs my-job -f
      tunesmith rftj cancel my-job
      tunesmith rftj delete my-job
    """


@command.command("list")
@as_json_option
def list_jobs(as_json: bool) -> None:
    """List the jobs, newest first."""
    with told_plainly():
        jobs = all_rft_jobs(read_profile())
    if as_json:
        click.echo(json.dumps(jobs, indent=2))
        return
    if not jobs:
        say("No RFT jobs yet. Start one with `ep create rft`.")
        return
    rows = [("JOB", "STATE", "PROGRESS", "MEAN SCORE", "CREATED"), *(_row(job) for job in jobs)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@command.command("get")
@click.argument("job")
@as_json_option
def get_job(job: str, as_json: bool) -> None:
    """Show one job: state, progress, model, notes."""
    with told_plainly():
        profile = read_profile()
        found = call(profile, "GET", rft_path(profile, job))
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for name, value in _details(found):
        say(f"{name:<12}{value}")


@command.command("cancel")
@click.argument("job")
@as_json_option
def cancel_job(job: str, as_json: bool) -> None:
    """Ask for a job to be cancelled."""
    with told_plainly():
        profile = read_profile()
        found = call(profile, "GET", rft_path(profile, job))
        answer = call(profile, "POST", f"{rft_path(profile, job)}:cancel", {})
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    elif found.get("completedTime"):
        say(f"{short(job)} has ended already ({state_of(found)}); there is nothing to cancel.")
    else:
        say(f"Cancelling {short(job)}; see `tunesmith rftj get {short(job)}`.")


@command.command("delete")
@click.argument("job")
@as_json_option
def delete_job(job: str, as_json: bool) -> None:
    """Delete a job and its run directory. A running one is cancelled first; a promoted model stays."""
    with told_plainly():
        profile = read_profile()
        answer = call(profile, "DELETE", rft_path(profile, job))
        gone = _is_gone(profile, job)
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    elif gone:
        say(f"Deleted {short(job)}.")
    else:
        say(f"Deleting {short(job)}; its processes are being stopped and its files removed.")


for _verb in (
    *(rollouts, logs, audit, compare, export),
    *(resume_job, clone_job, estimate_job),
    *(control_job, rewind_job, report_job),
):
    command.add_command(_verb)


def _is_gone(profile: Profile, job: str) -> bool:
    """Whether the worker has removed the job, waiting for it up to `_DELETE_SECONDS`."""
    deadline = time.monotonic() + _DELETE_SECONDS
    while time.monotonic() < deadline:
        try:
            call(profile, "GET", rft_path(profile, job))
        except ApiError as error:
            if error.status == 404:
                return True
            raise
        time.sleep(0.2)
    return False


def _row(job: dict[str, Any]) -> tuple[str, ...]:
    progress, run = job.get("jobProgress") or {}, job.get("run") or {}
    score = run.get("mean_score")
    percent = f"{progress.get('percent', 0)} %, epoch {progress.get('epoch', 0)}"
    if queue := job.get("queue"):
        percent = f"place {queue['position']} in the queue"
    return (
        short(job["name"]),
        state_of(job),
        percent,
        f"{score:.3f}" if score is not None else "",
        job.get("createTime", "")[:19],
    )


def _details(job: dict[str, Any]) -> list[tuple[str, str]]:
    progress, run, status = job.get("jobProgress") or {}, job.get("run") or {}, job.get("status") or {}
    queue = job.get("queue")
    steps = f"step {run.get('step', 0)} of {run['total_steps']}" if run.get("total_steps") else ""
    rows = [
        ("Job", job["name"]),
        ("State", state_of(job)),
        ("Message", status.get("message", "")),
        ("Queue", f"place {queue['position']}: {queue['waitingFor']}" if queue else ""),
        ("Progress", ", ".join(part for part in (f"{progress.get('percent', 0)} %", steps) if part)),
        ("Mean score", f"{run['mean_score']:.3f}" if run.get("mean_score") is not None else ""),
        (
            "Best",
            ", ".join(
                part
                for part in (
                    f"version {run['best_version']}" if run.get("best_version") is not None else "",
                    f"score {run['best_score']:.3f}" if run.get("best_score") is not None else "",
                )
                if part
            ),
        ),
        ("Base model", (job.get("trainingConfig") or {}).get("baseModel", "")),
        ("Model", "" if job.get("preflightOnly") else (job.get("trainingConfig") or {}).get("outputModel", "")),
        ("Dataset", job.get("dataset", "")),
        ("Evaluator", job.get("evaluator", "")),
        ("Created", job.get("createTime", "")),
        ("Completed", job.get("completedTime") or ""),
        *(("Note", note if isinstance(note, str) else json.dumps(note)) for note in job.get("notes") or []),
    ]
    return [(name, value) for name, value in rows if value]
