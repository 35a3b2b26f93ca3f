"""`tunesmith user`: users and service accounts, through the same API as everything else."""

from __future__ import annotations

import json
import urllib.parse
from typing import Any

import click

from tunesmith.cli.client import call, resource_id, resource_path
from tunesmith.cli.errors import told_plainly
from tunesmith.cli.listing import list_options, moment, print_fields, short, show
from tunesmith.cli.profile import Profile, read_profile
from tunesmith.schemas.users import PermissionPreset, Role

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print the API's JSON.")


@click.group("user")
def command() -> None:
    """Users and service accounts of your account.

    \b
    Examples:
      tunesmith user create ada --email ada@example.org --role user
      tunesmith user create agent --service-account --permission-preset pilot
      tunesmith api-key create agent
      tunesmith user list
      tunesmith user delete ada
    """


@command.command("create")
@click.argument("user")
@click.option(
    "--role",
    type=click.Choice([role.value for role in Role if role is not Role.VIEWER]),
    default=Role.USER.value,
    show_default=True,
    help="What its keys may do.",
)
@click.option("--display-name", default="", help="Name for people.")
@click.option("--email", help="Address (default for a service account: made from its id).")
@click.option("--service-account", is_flag=True, help="A program, not a person.")
@click.option(
    "--permission-preset",
    type=click.Choice([preset.value for preset in PermissionPreset]),
    help="Bound a service account's keys to a list of calls; pilot: what the Agent needs, without any delete or cancel.",
)
@as_json_option
def create_user(
    user: str,
    role: str,
    display_name: str,
    email: str | None,
    service_account: bool,
    permission_preset: str | None,
    as_json: bool,
) -> None:
    """Make a user. It has no keys yet: see `tunesmith api-key create`."""
    body: dict[str, Any] = {"role": role, "displayName": display_name, "serviceAccount": service_account}
    if email:
        body["email"] = email
    if permission_preset:
        body["permissionPreset"] = permission_preset
    with told_plainly():
        profile = read_profile()
        made = call(
            profile,
            "POST",
            f"{users_path(profile)}?{urllib.parse.urlencode({'userId': resource_id('users', user)})}",
            body,
        )
    if as_json:
        click.echo(json.dumps(made, indent=2))
    else:
        click.echo(f"Made {made['name']}. Give it a key: tunesmith api-key create {short(made['name'])}")


@command.command("list")
@list_options
def list_users(**flags: Any) -> None:
    """List the users, by name."""
    with told_plainly():
        profile = read_profile()
        header = ("USER", "ROLE", "PRESET", "KIND", "EMAIL", "CREATED")
        show(profile, users_path(profile), "users", header, _row, "No users yet: only the account's own key.", **flags)


@command.command("get")
@click.argument("user")
@as_json_option
def get_user(user: str, as_json: bool) -> None:
    """Show one user."""
    with told_plainly():
        profile = read_profile()
        found = call(profile, "GET", users_path(profile, user))
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    print_fields(list(zip(("User", "Role", "Preset", "Kind", "Email", "Created"), _row(found), strict=True)))


@command.command("delete")
@click.argument("user")
def delete_user(user: str) -> None:
    """Remove a user and end its keys; what it made stays."""
    with told_plainly():
        profile = read_profile()
        call(profile, "DELETE", users_path(profile, user))
    click.echo(f"Deleted {short(user)} and its keys.")


def users_path(profile: Profile, user: str | None = None) -> str:
    """Path of the users, or of one."""
    return resource_path(profile, "users", user)


def _row(user: dict[str, Any]) -> tuple[str, ...]:
    return (
        short(user["name"]),
        user["role"],
        user.get("permissionPreset", ""),
        "service account" if user.get("serviceAccount") else "user",
        user.get("email", ""),
        moment(user.get("createTime")),
    )
