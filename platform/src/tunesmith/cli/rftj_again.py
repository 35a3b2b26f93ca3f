"""`tunesmith rftj resume|clone|estimate`: go on with a failed job, start one again with changes, know before what it takes."""

from __future__ import annotations

import json
import re
from typing import Any

import click

from tunesmith.cli.client import call, resource_id
from tunesmith.cli.errors import told_plainly
from tunesmith.cli.jobs import RFT_JOBS, rft_path
from tunesmith.cli.listing import short
from tunesmith.cli.profile import read_profile
from tunesmith.cli.terminal import say
from tunesmith.errors import InvalidArgument

_AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print the API's JSON.")
_SET = click.option(
    "--set", "changes", multiple=True, metavar="FIELD=VALUE", help="Such as learningRate=5e-4; repeatable."
)
NESTED = {
    "trainingConfig": (
        *("baseModel", "warmStartFrom", "outputModel", "epochs", "learningRate", "learningRateWarmupSteps", "loraRank"),
        *("maxContextLength", "optimizerWeightDecay"),
    ),
    "inferenceParameters": ("maxOutputTokens", "temperature", "responseCandidatesCount", "extraBody"),
    "lossConfig": ("method", "klBeta"),
}
"""Fields that `--set` takes without the name of the object that they are in."""


@click.command("resume")
@click.argument("job")
@_AS_JSON
def resume_job(job: str, as_json: bool) -> None:
    """Go on with a FAILED job where it failed. What had no valid score is rolled out again; scored rollouts are reused."""
    with told_plainly():
        profile = read_profile()
        found = call(profile, "POST", f"{rft_path(profile, job)}:resume", {})
    identity = short(found["name"])
    click.echo(
        json.dumps(found, indent=2) if as_json else f"Resumed {identity}; see `tunesmith rftj logs {identity} -f`."
    )


@click.command("clone")
@click.argument("job")
@_SET
@click.option("--job-id", help="Id of the new job.")
@click.option("--display-name", help="Its name for people.")
@_AS_JSON
def clone_job(job: str, changes: tuple[str, ...], job_id: str | None, display_name: str | None, as_json: bool) -> None:
    """Start the same job again with some fields changed.

    \b
    Examples:
      tunesmith rftj clone my-job --set learningRate=5e-4
      tunesmith rftj clone my-job --set chunkSize=20 --set trainingConfig.epochs=2 --job-id my-second-job
    """
    with told_plainly():
        profile = read_profile()
        body: dict[str, Any] = {"changes": fields_of(changes)}
        if display_name:
            body["displayName"] = display_name
        query = f"?reinforcementFineTuningJobId={resource_id(RFT_JOBS, job_id)}" if job_id else ""
        made = call(profile, "POST", f"{rft_path(profile, job)}:clone{query}", body)
    identity = short(made["name"])
    click.echo(json.dumps(made, indent=2) if as_json else f"Started {identity}; see `tunesmith rftj get {identity}`.")


@click.command("estimate")
@click.option("--dataset", required=True, help="Id of the training rows.")
@click.option("--evaluator", required=True, help="Id of the evaluator.")
@click.option("--base-model", required=True, help="Model to train.")
@_SET
@_AS_JSON
def estimate_job(dataset: str, evaluator: str, base_model: str, changes: tuple[str, ...], as_json: bool) -> None:
    """What an RFT job would take: steps, tokens, time and cost, as ranges, and what that assumes. Nothing is created.

    \b
    Example:
      tunesmith rftj estimate --dataset rows --evaluator mine --base-model qwen3-0p6b --set epochs=2
    """
    with told_plainly():
        profile = read_profile()
        fields = fields_of([f"baseModel={json.dumps(base_model)}", *changes])
        body = {"dataset": dataset, "evaluator": evaluator, **of_a_create(fields)}
        found = call(profile, "POST", f"{rft_path(profile)}:estimate", body)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    say(f"{'Steps':<16}{found['steps']:,} at most\n{'Rollouts':<16}{found['rollouts']:,}")
    named = (
        ("Prompt tokens", "promptTokens"),
        ("Sampled tokens", "sampledTokens"),
        ("Trained tokens", "trainedTokens"),
    )
    for name, field in named:
        say(f"{name:<16}{_span(found[field])}")
    say(f"{'Time':<16}{_span(found['seconds'], ' s') if found['seconds'] else 'not known'}")
    cost = found["cost"]
    say(f"{'Cost':<16}{_span(cost, ' ' + cost['currency']) if cost else 'no prices are set'}")
    for assumption in found["assumptions"]:
        say(f"- {assumption}")


def fields_of(changes: tuple[str, ...] | list[str]) -> dict[str, Any]:
    """`FIELD=VALUE` pairs as fields of a create. A value is JSON where it can be read as such, else text; `null` takes a field away.

    Raises InvalidArgument for what is no such pair, and for a value of an object that is none.
    """
    fields: dict[str, Any] = {}
    for change in changes:
        name, separator, text = change.partition("=")
        if not separator or not name.strip():
            raise InvalidArgument(f"--set {change!r} is not FIELD=VALUE. Example: --set learningRate=5e-4")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        path = [re.sub(r"[-_]([a-z])", lambda match: match.group(1).upper(), part) for part in name.strip().split(".")]
        parent = next((parent for parent, names in NESTED.items() if len(path) == 1 and path[0] in names), None)
        *parents, last = [parent, *path] if parent else path
        place = fields
        for part in parents:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise InvalidArgument(f"--set {change!r}: {part} was given a value already.")
        if path in ([name] for name in NESTED):
            place[last] = _object(change, last, value, place.get(last))
        else:
            place[last] = value
    return fields


def of_a_create(fields: dict[str, Any]) -> dict[str, Any]:
    """What is given of them: a create takes the default of what is not there, and no null for an object."""
    return {name: value for name, value in fields.items() if value is not None}


def _object(change: str, name: str, value: Any, before: dict[str, Any] | None) -> dict[str, Any] | None:
    """The object `name` with what a change gives of it, beside what was given before. Raises InvalidArgument for what is no object."""
    if isinstance(value, dict):
        return {**(before or {}), **value}
    if value is not None:
        raise InvalidArgument(
            f"--set {change!r}: {name} is an object. Give one of its fields, as in --set {name}.{NESTED[name][-1]}=VALUE."
        )
    if before:
        raise InvalidArgument(f"--set {change!r} takes away what was given already: {', '.join(before)}.")
    return None


def _span(span: dict[str, Any], unit: str = "") -> str:
    low, high = (f"{span[end]:,}" for end in ("low", "high"))
    return f"{low if low == high else f'{low} to {high}'}{unit}"
