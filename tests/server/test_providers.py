"""Providers: where models live that are not served here; from the API and from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from tunesmith.cli import main
from tunesmith.db.providers import known_providers
from tunesmith.db.session import reading

from tests.server.conftest import Platform

OPENAI = {"name": "openai", "baseUrl": "https://api.openai.com/v1", "models": ["gpt-*", "o3"], "secret": "openai-key"}


def secret(platform: Platform, value: str = "sk-hunter2") -> None:
    platform.ok("POST", "/secrets", json={"name": "openai-key", "keyName": "OPENAI_API_KEY", "value": value})


def test_create_get_list_delete(platform: Platform) -> None:
    secret(platform)
    made = platform.ok("POST", "/providers", json=OPENAI)
    assert made.pop("createTime")
    assert made == {
        "name": "accounts/local/providers/openai",
        "baseUrl": "https://api.openai.com/v1",
        "models": ["gpt-*", "o3"],
        "secret": "accounts/local/secrets/openai-key",
    }
    platform.ok("POST", "/providers", json=OPENAI)  # a client that lost the answer
    platform.fails(409, "POST", "/providers", json={**OPENAI, "models": ["*"]})
    shown = platform.call("GET", "/providers/openai")
    assert shown.json()["models"] == ["gpt-*", "o3"]
    listed = platform.call("GET", "/providers")
    assert [provider["name"] for provider in listed.json()["providers"]] == [made["name"]]
    assert "hunter2" not in shown.text + listed.text
    with reading(platform.control.sessions) as session:
        (known,) = known_providers(session, "accounts/local", platform.control.keys.master)
    assert (known.key, known.models) == ("sk-hunter2", ("gpt-*", "o3"))
    assert "hunter2" not in repr(known)
    platform.ok("DELETE", "/providers/openai")
    for method in ("GET", "DELETE"):
        platform.fails(404, method, "/providers/openai")
    platform.ok("GET", "/secrets/openai-key")


@pytest.mark.parametrize(
    ("change", "status", "says"),
    [
        ({"name": "Bad Name"}, 400, "name"),
        ({"name": "accounts/other/providers/x"}, 403, "accounts/other"),
        ({"baseUrl": "api.openai.com"}, 400, "http"),
        ({"baseUrl": "http://169.254.169.254/v1"}, 403, "TUNESMITH_ALLOWED_UPSTREAMS"),
        ({"baseUrl": "https://me:pw@api.openai.com"}, 403, "api_key"),
        ({"models": []}, 400, "models"),
        ({"models": ["accounts/local/models/*"]}, 400, "served here"),
        ({"models": ["a b"]}, 400, "models"),
        ({"secret": "missing"}, 404, "accounts/local/secrets/missing"),
        ({"apiKey": "sk-1"}, 400, "apiKey"),
    ],
)
def test_bad_providers(platform: Platform, change: dict[str, object], status: int, says: str) -> None:
    secret(platform)
    response = platform.call("POST", "/providers", json={**OPENAI, **change})
    assert response.status_code == status, response.text
    assert says in response.text
    assert platform.ok("GET", "/providers")["providers"] == []


def test_from_the_command_line(platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = {"api_base": platform.url, "api_key": platform.key, "account_id": "local"}
    (tmp_path / ".tunesmith").mkdir()
    (tmp_path / ".tunesmith" / "profile.json").write_text(json.dumps(profile))
    monkeypatch.setenv("HOME", str(tmp_path))
    secret(platform)

    def run(*arguments: str, fails: bool = False) -> str:
        result = CliRunner().invoke(main, ["provider", *arguments])
        assert (result.exit_code != 0) == fails, result.output
        return result.output

    assert "No providers yet" in run("list")
    create = ("create", "openai", "--base-url", "https://api.openai.com/v1", "--model", "gpt-*", "--model", "o3")
    assert "gpt-*, o3 go to https://api.openai.com/v1" in run(*create, "--secret", "openai-key")
    assert "openai-key" in run("list")
    assert json.loads(run("get", "openai", "--json"))["models"] == ["gpt-*", "o3"]
    assert "not on the public internet" in run(
        "create", "x", "--base-url", "http://127.0.0.1", "--model", "m", fails=True
    )
    assert run("delete", "accounts/local/providers/openai") == "Deleted openai.\n"
    assert "no provider" in run("get", "openai", fails=True)
