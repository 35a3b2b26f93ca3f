"""`tunesmith dataset create` against a real web process."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner
from tunesmith.cli import main

from tests.server.conftest import Platform

ROW = '{"messages": [{"role": "user", "content": "hello"}]}\n'


def test_a_full_name_is_the_account_of_every_call(served: Platform, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(ROW)
    refused = CliRunner().invoke(main, ["dataset", "create", "accounts/other/datasets/x", str(file)])
    assert refused.exit_code == 1, refused.output
    assert served.http.get("/v1/accounts/local/datasets").json()["datasets"] == [], "nothing is made in the own account"
    made = CliRunner().invoke(main, ["dataset", "create", "accounts/local/datasets/x", str(file)])
    assert made.output == "accounts/local/datasets/x has 1 rows.\n"
