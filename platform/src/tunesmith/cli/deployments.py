"""`tunesmith deployment`: names under which models are kept ready."""

from __future__ import annotations

import json
import time
import urllib.parse
from typing import Any

import click

from tunesmith.cli.client import call, resource_id, resource_path
from tunesmith.cli.errors import told_plainly
from tunesmith.cli.listing import list_options, moment, print_fields, short, show
from tunesmith.cli.profile import Profile, read_profile
from tunesmith.errors import FailedPrecondition

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print the API's JSON.")
wait_option = click.option(
    "--wait", is_flag=True, help="Wait until the model is loaded; exit status 1 if it cannot be."
)


@click.group("deployment")
def command() -> None:
    """Deployments of your account: a model call names accounts/ACCOUNT/deployments/ID, or MODEL#ID.

    \b
    Examples:
      tunesmith deployment create my-model --deployment-id prod --wait
      tunesmith deployment list
      tunesmith deployment scale prod 0
      tunesmith deployment delete prod
    """


@command.command("create")
@click.argument("model")
@click.option("--deployment-id", help="Id of the deployment (default: random).")
@click.option("--display-name", default="", help="Name for people.")
@click.option("--description", default="", help="What it is for.")
@click.option("--min-replica-count", type=int, help="0 or 1.")
@click.option("--max-replica-count", type=int, help="1, or 0: made, and scaled to zero.")
@click.option("--dry-run", is_flag=True, help="Have the platform check it and show what it would be; nothing is kept.")
@wait_option
@as_json_option
def create_deployment(
    model: str,
    deployment_id: str | None,
    display_name: str,
    description: str,
    min_replica_count: int | None,
    max_replica_count: int | None,
    dry_run: bool,
    wait: bool,
    as_json: bool,
) -> None:
    """Deploy MODEL: an id of your account's models, or the full name of a base model."""
    body: dict[str, Any] = {"baseModel": model, "displayName": display_name, "description": description}
    counts = {"minReplicaCount": min_replica_count, "maxReplicaCount": max_replica_count}
    body = {name: value for name, value in {**body, **counts}.items() if value not in (None, "")}
    with told_plainly():
        query = {"deploymentId": resource_id("deployments", deployment_id)} if deployment_id else {}
        query |= {"validateOnly": "true"} if dry_run else {}
        profile = read_profile()
        made = call(profile, "POST", f"{_path(profile)}?{urllib.parse.urlencode(query)}", body)
        if wait and not dry_run:
            made = _settled(profile, made["name"])
    _print(made, as_json)


@command.command("list")
@list_options
def list_deployments(**flags: Any) -> None:
    """List the deployments, newest first."""
    with told_plainly():
        profile = read_profile()
        header = ("DEPLOYMENT", "STATE", "REPLICAS", "MODEL", "CREATED")
        show(profile, _path(profile), "deployments", header, _row, "No deployments yet.", **flags)


@command.command("get")
@click.argument("deployment")
@as_json_option
def get_deployment(deployment: str, as_json: bool) -> None:
    """Show one deployment."""
    with told_plainly():
        profile = read_profile()
        _print(call(profile, "GET", _path(profile, deployment)), as_json)


@command.command("scale")
@click.argument("deployment")
@click.argument("replicas", type=click.IntRange(0))
@wait_option
@as_json_option
def scale_deployment(deployment: str, replicas: int, wait: bool, as_json: bool) -> None:
    """Set the number of REPLICAS: 1, or 0, with which calls are refused."""
    with told_plainly():
        profile = read_profile()
        call(profile, "PATCH", f"{_path(profile, deployment)}:scale", {"replicaCount": replicas})
        found = _settled(profile, deployment) if wait else call(profile, "GET", _path(profile, deployment))
    _print(found, as_json)


@command.command("delete")
@click.argument("deployment")
def delete_deployment(deployment: str) -> None:
    """Take a deployment down; its model stays."""
    with told_plainly():
        profile = read_profile()
        call(profile, "DELETE", _path(profile, deployment))
    click.echo(f"Deleted {short(deployment)}; its model can be called by its own name.")


def _settled(profile: Profile, deployment: str) -> dict[str, Any]:
    """The deployment once its model is loaded. Raises FailedPrecondition with the reason when it cannot be."""
    while True:
        found = call(profile, "GET", _path(profile, deployment))
        if found["state"] == "FAILED":
            raise FailedPrecondition(f"{found['name']} failed: {found['status']['message']}")
        if found["state"] == "READY":
            return found
        time.sleep(0.5)


def _path(profile: Profile, deployment: str | None = None) -> str:
    return resource_path(profile, "deployments", deployment)


def _print(deployment: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(deployment, indent=2))
        return
    notes = "; ".join(f"{note['option']}: {note['reason']}" for note in deployment.get("notes", []))
    print_fields(
        [
            ("Deployment", deployment["name"]),
            ("State", deployment["state"]),
            ("Message", deployment["status"].get("message", "")),
            ("Replicas", f"{deployment['replicaCount']} of {deployment['desiredReplicaCount']}"),
            ("Model", deployment["baseModel"]),
            ("Name", deployment.get("displayName", "")),
            ("Description", deployment.get("description", "")),
            ("No effect", notes),
        ]
    )


def _row(deployment: dict[str, Any]) -> tuple[str, ...]:
    replicas = f"{deployment['replicaCount']}/{deployment['desiredReplicaCount']}"
    made = moment(deployment.get("createTime"))
    return (short(deployment["name"]), deployment["state"], replicas, deployment["baseModel"], made)
