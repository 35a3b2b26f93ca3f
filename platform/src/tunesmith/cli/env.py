"""`tunesmith env`: the variables with which the published clients, unmodified, talk to this platform."""

from __future__ import annotations

import json
import shlex

import click

from tunesmith.cli.errors import told_plainly
from tunesmith.cli.profile import Profile, read_profile


def variables(profile: Profile) -> dict[str, str]:
    """What to export, by name."""
    base, gateway = profile.api_base, f"{profile.api_base}/litellm-gateway"
    return {
        "FIREWORKS_API_KEY": profile.api_key,
        "FIREWORKS_API_BASE": base,
        "FIREWORKS_BASE_URL": base,
        "FIREWORKS_ACCOUNT_ID": profile.account_id,
        # Clients append the five correlation ids only where the address holds this word.
        "EP_MODEL_BASE_URL": gateway,
        "FW_TRACING_GATEWAY_BASE_URL": gateway,
        "EP_LLM_API_BASE": f"{base}/inference/v1",
        # Without it the published client fetches a price list from the internet at every start.
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }


@click.command("env")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of shell exports.")
def command(as_json: bool) -> None:
    """Print the environment of the published clients, from the profile that `tunesmith up` wrote.

    \b
    Examples:
      eval "$(tunesmith env)"
      tunesmith env --json
    """
    with told_plainly():
        values = variables(read_profile())
    if as_json:
        click.echo(json.dumps(values, indent=2))
        return
    for name, value in values.items():
        click.echo(f"export {name}={shlex.quote(value)}")
