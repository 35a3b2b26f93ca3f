"""`ep results` shows what a run left in the local store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


@pytest.mark.usefixtures("project")
def test_a_run_is_listed_with_its_score_and_its_rows(ep, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EP_RESULTS_DB", str(home / "results.db"))
    assert "No results yet" in ep("results").out
    assert ep("results", "--json").out.strip() == "[]"
    assert ep("local-test", "--yes").status == 0

    (found,) = json.loads(ep("results", "--json").out)
    assert (found["names"], found["rollouts"], found["mean_score"]) == (["digits_match"], 3, 1.0)
    head, line = ep("results").out.splitlines()
    assert head.split() == ["INVOCATION", "WHEN", "EVALUATION", "MODEL", "ROLLOUTS", "SCORE"]
    assert line.split()[0] == found["invocation_id"]
    assert line.endswith("1.000 (n=3)")

    rows = json.loads(ep("results", "--invocation", found["invocation_id"], "--json").out)
    assert sorted(row["messages"][0]["content"] for row in rows) == [f"What is {n} + {n}?" for n in (1, 2, 3)]
    table = ep("results", "--invocation", found["invocation_id"]).out.splitlines()
    assert len(table) == 4
    assert table[1].split()[-2:] == ["1.000", "compared"]
    missing = ep("results", "--invocation", "nobody")
    assert missing.status == 1
    assert "there is no invocation nobody" in missing.err
