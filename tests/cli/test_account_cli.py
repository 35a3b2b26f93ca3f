"""Users, keys and deployments from the terminal, against a real web process; and whose key a command uses."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tunesmith.cli import main
from tunesmith.cli.account import ensure_account_key
from tunesmith.cli.profile import Profile, write_profile
from tunesmith.db import deployments, jobs

from tests.server.conftest import BASE_MODEL, Platform


def run(*arguments: str, **options: Any) -> Result:
    return CliRunner().invoke(main, list(arguments), **options)


def ok(*arguments: str, **options: Any) -> str:
    result = run(*arguments, **options)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_service_account_and_its_key(served: Platform) -> None:
    made = json.loads(ok("user", "create", "agent", "--service-account", "--permission-preset", "pilot", "--json"))
    assert (made["permissionPreset"], made["email"]) == ("pilot", "agent@local.sa.tunesmith.local")
    key = ok("api-key", "create", "agent", "--display-name", "laptop").strip()
    listed = ok("api-key", "list", "agent")
    assert "laptop" in listed
    assert key not in listed
    assert "agent" in ok("user", "list", "--filter", "role=user")
    assert "pilot" in ok("user", "get", "agent")

    # The pilot's key, by flag and by environment: the profile's is not used.
    assert ok("deployment", "list", "--api-key", key).startswith("No deployments")
    for how in ({"args": ("--api-key", key), "env": {}}, {"args": (), "env": {"TUNESMITH_API_KEY": key}}):
        refused = run("deployment", "delete", "prod", *how["args"], env=how["env"])
        assert refused.exit_code == 1
        assert "DeleteDeployment" in refused.output
    assert "no deployment" in run("deployment", "delete", "prod").output

    identity = json.loads(ok("api-key", "list", "agent", "--json"))[0]["keyId"]
    ok("api-key", "delete", "agent", identity)
    assert "not known here" in run("deployment", "list", "--api-key", key).output
    ok("user", "delete", "agent")
    assert "no user" in run("user", "get", "agent").output


def test_a_users_key_in_the_profile_is_not_taken_for_the_accounts(served: Platform) -> None:
    ok("user", "create", "ada", "--role", "inference-user")
    key = ok("api-key", "create", "ada").strip()
    write_profile(Profile(served.url, key, "local"))
    made = ensure_account_key(served.control.settings)
    assert made != key
    write_profile(Profile(served.url, made, "local"))
    assert "ada" in ok("user", "list")
    assert ensure_account_key(served.control.settings) == made


def test_pages(served: Platform) -> None:
    for id in ("a", "b", "c"):
        ok("user", "create", id)
    first = ok("user", "list", "--page-size", "2")
    assert ("a  " in first, "c  " in first) == (True, False)
    token = first.splitlines()[-1].removeprefix("More: --page-token ")
    rest = json.loads(ok("user", "list", "--page-size", "2", "--page-token", token, "--json"))
    assert ([user["name"] for user in rest["users"]], rest["nextPageToken"]) == (["accounts/local/users/c"], "")
    assert len(json.loads(ok("user", "list", "--order-by", "createTime desc", "--json"))) == 3


def test_a_deployment_from_create_to_delete(served: Platform) -> None:
    shown = ok("deployment", "create", BASE_MODEL, "--deployment-id", "prod", "--dry-run")
    assert "CREATING" in shown
    assert ok("deployment", "list").startswith("No deployments")
    ok("deployment", "create", BASE_MODEL, "--deployment-id", "prod", "--display-name", "Production")
    assert "CREATING" in ok("deployment", "list")
    ok("deployment", "scale", "prod", "0")
    assert "0 of 0" in ok("deployment", "get", "prod")
    ok("deployment", "scale", "prod", "1")
    with served.control.sessions.begin() as session:
        job = jobs.claim(session, "worker", [deployments.KIND], 30)
        assert job is not None
        status = {"code": "NOT_FOUND", "message": "its weights are gone"}
        deployments.settle_load(session, job.name, BASE_MODEL, deployments.FAILED, status)
    waited = run(
        "deployment", "create", BASE_MODEL, "--deployment-id", "prod", "--display-name", "Production", "--wait"
    )
    assert (waited.exit_code, "its weights are gone" in waited.output) == (1, True)
    assert "at most 1" in run("deployment", "scale", "prod", "2").output
    ok("deployment", "delete", "prod")


@pytest.mark.parametrize("command", ["session", "deployment", "user", "api-key"])
def test_help_shows_examples(command: str) -> None:
    text = ok(command, "--help")
    assert f"tunesmith {command} create" in text
    assert "--api-key" in ok(command, "list", "--help")
