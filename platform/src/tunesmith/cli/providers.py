"""`tunesmith provider`: upstreams for models that are not served here, through the same API as everything else."""

from __future__ import annotations

import json
from typing import Any

import click

from tunesmith.cli.client import call, resource_path
from tunesmith.cli.errors import told_plainly
from tunesmith.cli.profile import Profile, read_profile
from tunesmith.cli.terminal import say

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print the API's JSON.")


@click.group("provider")
def command() -> None:
    """Upstreams that answer for models which are not served here.

    \b
    Examples:
      tunesmith provider create openai --base-url https://api.openai.com/v1 --model 'gpt-*' --secret openai-key
      tunesmith provider list
      tunesmith provider delete openai
    """


@command.command("create")
@click.argument("provider")
@click.option("--base-url", required=True, help="What clients of the upstream use as base URL.")
@click.option("--model", "models", multiple=True, required=True, help="Model name or pattern; may be repeated.")
@click.option("--secret", help="Secret of the account that holds the key; none for an upstream without keys.")
@as_json_option
def create_provider(provider: str, base_url: str, models: tuple[str, ...], secret: str | None, as_json: bool) -> None:
    """Store a provider."""
    body: dict[str, Any] = {"name": provider, "baseUrl": base_url, "models": list(models)}
    if secret:
        body["secret"] = secret
    with told_plainly():
        profile = read_profile()
        made = call(profile, "POST", _path(profile), body)
    click.echo(json.dumps(made, indent=2) if as_json else f"Calls to {', '.join(models)} go to {made['baseUrl']}.")


@command.command("list")
@as_json_option
def list_providers(as_json: bool) -> None:
    """List the providers, by name."""
    with told_plainly():
        found = _all(read_profile())
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    if not found:
        say("No providers yet. See `tunesmith provider create --help`.")
        return
    rows = [("PROVIDER", "BASE URL", "MODELS", "SECRET"), *(_row(provider) for provider in found)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@command.command("get")
@click.argument("provider")
@as_json_option
def get_provider(provider: str, as_json: bool) -> None:
    """Show one provider."""
    with told_plainly():
        profile = read_profile()
        found = call(profile, "GET", _path(profile, provider))
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for name, value in zip(("Provider", "Base URL", "Models", "Secret"), _row(found), strict=True):
        say(f"{name:<10}{value}")


@command.command("delete")
@click.argument("provider")
def delete_provider(provider: str) -> None:
    """Remove a provider; its secret stays."""
    with told_plainly():
        profile = read_profile()
        call(profile, "DELETE", _path(profile, provider))
    say(f"Deleted {_short(provider)}.")


def _all(profile: Profile) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    token = ""
    while True:
        page = call(profile, "GET", f"{_path(profile)}?pageSize=200&pageToken={token}")
        found += page.get("providers", [])
        token = page.get("nextPageToken") or ""
        if not token:
            return found


def _path(profile: Profile, provider: str | None = None) -> str:
    return resource_path(profile, "providers", provider)


def _short(name: str) -> str:
    return name.rsplit("/", 1)[-1]


def _row(provider: dict[str, Any]) -> tuple[str, ...]:
    secret = provider.get("secret")
    return (
        _short(provider["name"]),
        provider["baseUrl"],
        ", ".join(provider["models"]),
        _short(secret) if secret else "",
    )
