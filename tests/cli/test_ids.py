"""Ids as people write them: what cannot be one is told as that, and never as a platform that does not answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from tunesmith.cli import main

COMMANDS = [
    ["doctor", "{}"],
    ["rftj", "get", "{}"],
    ["rftj", "compare", "fine", "{}"],
    ["rftj", "clone", "fine", "--job-id", "{}"],
    ["job", "export", "{}", "--step", "0"],
    ["job", "extend", "fine", "--job-id", "{}"],
    ["sftj", "get", "{}"],
    ["dataset", "get", "{}"],
    ["model", "get", "{}"],
    ["evaluator", "versions", "{}"],
    ["session", "get", "{}"],
    ["deployment", "get", "{}"],
    ["deployment", "create", "m", "--deployment-id", "{}"],
    ["provider", "get", "{}"],
    ["user", "get", "{}"],
    ["api-key", "list", "{}"],
]


@pytest.fixture(autouse=True)
def nobody_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".tunesmith").mkdir()
    profile = {"api_base": "http://127.0.0.1:9", "api_key": "k", "account_id": "local"}
    (tmp_path / ".tunesmith" / "profile.json").write_text(json.dumps(profile))


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("identity", ["a b", "a/b", "a?b", "a#b", "a%20b", "ü"])
def test_what_is_no_id_is_told_before_anything_is_asked(arguments: list[str], identity: str) -> None:
    done = CliRunner().invoke(main, [part.format(identity) for part in arguments])
    assert done.exit_code == 1, done.output
    assert f"{identity!r} is neither an id nor the full name of one of " in done.output
    assert "An id has letters, digits" in done.output


@pytest.mark.parametrize("name", ["my-job", "accounts/local/reinforcementFineTuningJobs/my-job"])
def test_ids_and_full_names_are_asked_for(name: str) -> None:
    done = CliRunner().invoke(main, ["rftj", "get", name])
    assert "Nobody answers at http://127.0.0.1:9" in done.output
    other = CliRunner().invoke(main, ["rftj", "get", "accounts/local/datasets/d"])
    assert "one of reinforcementFineTuningJobs" in other.output
