"""Evaluators and the dashboard's link by command, against a real web process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest
from click.testing import CliRunner, Result
from tunesmith.cli import main

from tests.cli.conftest import Platform
from tests.server.test_evaluator_versions import CODE, FILES, upload


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


def ok(*arguments: str) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def uploaded(served: Platform) -> Platform:
    body = {"evaluator": {"entryPoint": "evaluation.py::f"}, "evaluatorId": "e"}
    served.ok("POST", "/evaluatorsV2", json=body)
    upload(served, FILES)
    return served


def test_from_source_to_an_edit(uploaded: Platform, tmp_path: Path) -> None:
    assert "evaluation.py::f" in ok("evaluator", "list")
    assert "data/x.bin" in ok("evaluator", "source", "e")
    folder = tmp_path / "e"
    assert "Saved 3 of 4 files" in ok("evaluator", "source", "e", "--output-dir", str(folder))
    assert (folder / "evaluation.py").read_text() == CODE
    assert "not empty" in run("evaluator", "source", "e", "--output-dir", str(folder)).output
    assert "nothing to send" in ok("evaluator", "edit", "e", str(folder))
    (folder / "evaluation.py").write_text(CODE.replace("1", "2"))
    (folder / "empty").unlink()
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "x.py").write_text("x")
    assert "Version 2 of e is BUILDING" in ok("evaluator", "edit", "e", str(folder), "--message", "two", "--no-wait")
    shown = ok("evaluator", "versions", "e")
    assert "two" in shown
    changed: list[dict[str, Any]] = json.loads(ok("evaluator", "diff", "e", "--json"))
    assert {file["path"]: file["status"] for file in changed} == {"empty": "removed", "evaluation.py": "changed"}
    assert "+    return 2" in ok("evaluator", "diff", "e")
    assert "No difference" in ok("evaluator", "diff", "e", "--base", "2")
    late = run("evaluator", "edit", "e", str(folder), "--base-version", "1", "--no-wait")
    assert late.exit_code != 0
    assert "at version 2" in late.output


def test_the_link_signs_a_browser_in(served: Platform) -> None:
    said = ok("dashboard", "--no-open")
    token = said.partition("#link=")[2].split()[0]
    answer = httpx2.post(f"{served.url}/dashboard/session", json={"link": token})
    assert answer.json()["role"] == "admin"
