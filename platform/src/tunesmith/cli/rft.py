"""`tunesmith rft`: what is asked before an RFT job is paid for."""

from __future__ import annotations

import json
import secrets
import time
from typing import Any

import click

from tunesmith.cli.client import call
from tunesmith.cli.errors import told_plainly
from tunesmith.cli.jobs import FINAL, rft_path, state_of
from tunesmith.cli.profile import Profile, read_profile
from tunesmith.cli.rftj_again import NESTED, fields_of, of_a_create
from tunesmith.cli.terminal import plain, say
from tunesmith.errors import FailedPrecondition, InvalidArgument

BASELINE = (0.0, 0.3, 0.7, 1.0)
"""Temperatures of the base model; a tuned one is judged against the best of them."""
_POLL_SECONDS = 0.5
_OWN = {
    "dataset": "--dataset",
    "evaluator": "--evaluator",
    "baseModel": "--base-model",
    "responseCandidatesCount": "--n",
}
"""Fields of a create -> the flag that gives them."""


@click.group("rft")
def command() -> None:
    """Before an RFT job: is there anything to learn?

    \b
    Example:
      tunesmith rft preflight --base-model qwen3-0p6b --evaluator mine --dataset rows
    """


@command.command("preflight")
@click.option("--base-model", required=True, help="Model that would be trained.")
@click.option("--evaluator", required=True, help="Id of the evaluator.")
@click.option("--dataset", required=True, help="Id of the training rows.")
@click.option("--rows", type=click.IntRange(1, 1000), default=32, show_default=True, help="Rows that are rolled out.")
@click.option("--n", type=click.IntRange(2), default=8, show_default=True, help="Rollouts of each row.")
@click.option("--set", "changes", multiple=True, metavar="FIELD=VALUE", help="Any other field of a create; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def preflight(
    base_model: str, evaluator: str, dataset: str, rows: int, n: int, changes: tuple[str, ...], as_json: bool
) -> None:
    """Roll out a few rows as an RFT job would, without training: pass@1 and pass@8, how many groups have scores that differ, truncation, the
    base model at four temperatures, time and cost, and a verdict. Exit status 1 when it could not be carried out.

    It is an RFT job that ends after its preflight: `tunesmith rftj rollouts JOB --kind preflight` shows every rollout, and `tunesmith rftj clone JOB
    --set preflight=null` starts the job itself.

    \b
    Examples:
      tunesmith rft preflight --base-model qwen3-0p6b --evaluator mine --dataset rows
      tunesmith rft preflight --base-model qwen3-0p6b --evaluator mine --dataset rows --rows 64 --set maxOutputTokens=512 --json
    """
    with told_plainly():
        profile = read_profile()
        fields = fields_of([f"baseModel={json.dumps(base_model)}", f"responseCandidatesCount={n}", *changes])
        _refuse_own(fields_of(changes))
        fields["preflight"] = {"rows": rows, "only": True, "temperatures": list(BASELINE)}
        job_id = f"preflight-{secrets.token_hex(5)}"
        path = rft_path(profile)
        body = {"dataset": dataset, "evaluator": evaluator, **of_a_create(fields)}
        call(profile, "POST", f"{path}?reinforcementFineTuningJobId={job_id}", body)
        say(f"Rolling out {rows} rows, {n} times each, as {job_id} …", err=True)
        job = _ended(profile, f"{path}/{job_id}")
        if state_of(job) != "COMPLETED" or not job.get("preflight"):
            raise FailedPrecondition(f"{job_id} ended as {state_of(job)}: {job['status']['message']}")
    found = {"job": job["name"], "page": page_of(profile, job_id), "next": next_of(job_id), **job["preflight"]}
    click.echo(json.dumps(found, indent=2) if as_json else plain("\n".join(lines_of(found))))


def _refuse_own(changes: dict[str, Any]) -> None:
    """Raise InvalidArgument for what `--set` would give a second time."""
    if "preflight" in changes:
        raise InvalidArgument(
            "--set preflight has no place here: this command makes nothing but a preflight, of --rows rows. A job without one: "
            "`ep create rft --preflight-rows 0`, or `tunesmith rftj clone JOB --set preflight.rows=0`."
        )
    nested = {name for parent in NESTED for name in changes.get(parent) or {}}
    for field, flag in _OWN.items():
        if field in changes or field in nested:
            raise InvalidArgument(f"--set {field} is what {flag} says: give it there.")


def lines_of(found: dict[str, Any]) -> list[str]:
    """A preflight in words, the verdict last."""
    groups = found["groups"]
    tokens, estimate = found["completion_tokens_mean"], found["estimate"] or {}
    rows = [
        ("Rolled out", f"{found['rows']} rows, {found['n']} times each at temperature {found['temperature']:g}"),
        ("Mean score", _with_interval(found)),
        ("pass@1", f"{_number(found['pass_at_1'])} (score of at least {found['threshold']:g})"),
        (f"pass@{found['pass_at_8_k']}", _number(found["pass_at_8"])),
        (
            "Groups",
            f"{found['varying_groups']} of {groups} have scores that differ; {found['solved_groups']} always pass, "
            f"{found['unsolved_groups']} never score",
        ),
        ("Truncated", f"{found['truncated']:.0%} of the rollouts" if found["truncated"] is not None else "not known"),
        ("Invalid", f"{found['invalid']} of {found['rollouts']} rollouts"),
        ("Length", f"{tokens:.0f} tokens a rollout" if tokens is not None else "not known"),
        ("Whole job", _whole_job(estimate)),
    ]
    lines = [f"{name:<12}{value}" for name, value in rows]
    if found["baselines"]:
        best = max(found["baselines"], key=lambda each: each["mean_score"] or 0.0)
        lines.append(
            f"{'Base model':<12}{'temperature':<13}{'mean score':<12}{'95 % interval':<17}{'solved':<9}rollouts"
        )
        for each in found["baselines"]:
            mark = "  <- best: what a tuned model has to beat" if each is best else ""
            interval = f"{each['low']:.3f} to {each['high']:.3f}"
            solved = f"{each['pass_at_1']:.0%}" if each["pass_at_1"] is not None else "unknown"
            lines.append(
                f"{'':<12}{each['temperature']:<13g}{_number(each['mean_score']):<12}{interval:<17}{solved:<9}{each['rollouts']}{mark}"
            )
    lines += [f"Note        {warning}" for warning in found["warnings"]]
    return [
        *lines,
        "",
        found["verdict"],
        found["advice"],
        "",
        f"Page        {found['page']}",
        f"Start it    {found['next']}",
    ]


def page_of(profile: Profile, job_id: str) -> str:
    """Address of a job's page."""
    return f"{profile.api_base}/dashboard/fine-tuning/reinforcement/{job_id}"


def next_of(job_id: str) -> str:
    """The command that starts the job whose preflight it was, with the same rows, evaluator and options."""
    return f"tunesmith rftj clone {job_id} --set preflight=null"


def _ended(profile: Profile, path: str) -> dict[str, Any]:
    told = ""
    try:
        while state_of(job := call(profile, "GET", path)) not in FINAL:
            queue = job.get("queue")
            now = f"place {queue['position']} in the queue: {queue['waitingFor']}" if queue else state_of(job)
            if now != told:
                told = now
                say(f"   {now}", err=True)
            time.sleep(_POLL_SECONDS)
    except KeyboardInterrupt:
        call(profile, "POST", f"{path}:cancel", {})
        raise
    return job


def _whole_job(estimate: dict[str, Any]) -> str:
    if not estimate:
        return "not known"
    epochs = f"{estimate['epochs']} epoch{'s' if estimate['epochs'] > 1 else ''}"
    parts = [f"{estimate['rows']:,} rows, {estimate['n']} times each, {epochs}: {estimate['rollouts']:,} rollouts"]
    if estimate["sampled_tokens"]:
        parts.append(f"about {estimate['sampled_tokens']:,} sampled tokens")
    if seconds := estimate["seconds"]:
        parts.append(f"{_duration(seconds['low'])} (rollouts alone) to {_duration(seconds['high'])}")
    if cost := estimate.get("cost"):
        parts.append(f"{cost['low']:g} to {cost['high']:g} {cost['currency']}")
    return ", ".join(parts)


def _duration(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def _with_interval(found: dict[str, Any]) -> str:
    return f"{_number(found['mean_score'])} [{found['low']:.3f}, {found['high']:.3f}]"


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"
