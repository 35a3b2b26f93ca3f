"""`tunesmith api-key`: keys of users and service accounts."""

from __future__ import annotations

import json
from typing import Any

import click

from tunesmith.cli.client import call
from tunesmith.cli.errors import told_plainly
from tunesmith.cli.listing import list_options, moment, short, show
from tunesmith.cli.profile import read_profile
from tunesmith.cli.users import as_json_option, users_path


@click.group("api-key")
def command() -> None:
    """API keys of your account's users.

    \b
    Examples:
      tunesmith api-key create agent --display-name laptop --expire-time 2027-01-01T00:00:00Z
      tunesmith api-key list agent
      tunesmith api-key delete agent 1f2e3d4c5b6a
      tunesmith session list --api-key "$KEY"
    """


@command.command("create")
@click.argument("user")
@click.option("--display-name", default="default", show_default=True, help="Name for people.")
@click.option("--expire-time", metavar="TIME", help="RFC 3339 moment from which it is refused (default: never).")
@as_json_option
def create_key(user: str, display_name: str, expire_time: str | None, as_json: bool) -> None:
    """Make a key of a user and print it. It is shown this once; the platform keeps a digest."""
    key: dict[str, Any] = {"displayName": display_name}
    if expire_time:
        key["expireTime"] = expire_time
    with told_plainly():
        profile = read_profile()
        made = call(profile, "POST", f"{users_path(profile, user)}/apiKeys", {"apiKey": key})
    if as_json:
        click.echo(json.dumps(made, indent=2))
        return
    click.echo(f"Key {made['keyId']} of {short(user)}. Keep it now: it is not shown again.", err=True)
    click.echo(made["key"])


@command.command("list")
@click.argument("user")
@list_options
def list_keys(user: str, **flags: Any) -> None:
    """List a user's keys, newest first; the keys themselves are not known any more."""
    with told_plainly():
        profile = read_profile()
        path, header = f"{users_path(profile, user)}/apiKeys", ("KEY ID", "NAME", "BEGINS", "CREATED", "EXPIRES")
        show(profile, path, "apiKeys", header, _row, f"{short(user)} has no keys.", **flags)


@command.command("delete")
@click.argument("user")
@click.argument("key_id")
def delete_key(user: str, key_id: str) -> None:
    """End a key."""
    with told_plainly():
        profile = read_profile()
        call(profile, "POST", f"{users_path(profile, user)}/apiKeys:delete", {"keyId": key_id})
    click.echo(f"Ended key {key_id} of {short(user)}.")


def _row(key: dict[str, Any]) -> tuple[str, ...]:
    expires = moment(key.get("expireTime")) or "never"
    return (key["keyId"], key["displayName"], key["prefix"], moment(key.get("createTime")), expires)
