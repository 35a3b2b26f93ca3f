"""What bench-rft keeps: parts measured one by one, on one page, each with what made it."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import bench_rft

ROWS = [{"rows": 1000, "peak_mib": 60.0, "cpu_seconds": 0.5}]
TURNS = [{"turn": 5, "tokens": 3000.0, "gateway": 0.005, "engine": 0.1}]


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(bench_rft, "RECORD", tmp_path / "bench_rft.json")
    monkeypatch.setattr(bench_rft, "install", lambda _folder: None)
    return tmp_path / "bench_rft.json"


def measure(monkeypatch: pytest.MonkeyPatch, part: str, *found: Any, words: str = "") -> None:
    """The command, with what the part would find."""
    known = bench_rft.PARTS[part]
    monkeypatch.setitem(bench_rft.PARTS, part, replace(known, measure=lambda _folder, _options: iter(found)))
    monkeypatch.setattr(sys, "argv", ["bench_rft", "--parts", part, *words.split()])
    with pytest.raises(SystemExit) as ended:
        bench_rft.main()
    assert ended.value.code == 0


def run(rate: float, seed: int, steps: int) -> dict[str, Any]:
    told = {
        "steps": steps,
        "rollouts": 80 * steps,
        "cpu_seconds": 1.0,
        "start": 2.0,
        "after": {400: 0.5},
        "rewards": [],
    }
    return {**told, "rate": rate, "seed": seed, "commit": "abc", "date": "2026-01-01"}


def test_a_part_replaces_itself_and_leaves_the_others(record: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record.write_text(json.dumps({"rows": [{**ROWS[0], "peak_mib": 9.0}], "notes": {"rows": "by hand", "step": "odd"}}))
    measure(monkeypatch, "turns", TURNS)
    page = record.with_suffix(".md").read_text()
    assert "by hand" in page
    assert "--parts turns" in page
    measure(monkeypatch, "rows", [{**ROWS[0], "peak_mib": 1.0}], ROWS)
    kept = json.loads(record.read_text())
    assert (kept["rows"], kept["turns"], kept["notes"]) == (ROWS, TURNS, {"step": "odd"})
    assert set(kept["made"]) == {"rows", "turns"}
    assert set(kept["made"]["rows"]) == {"command", "date", "commit"}
    page = record.with_suffix(".md").read_text()
    assert "| 1000 | 60.0 | 0.50 |" in page
    assert "| 5 | 3000 | 0.0050 |" in page
    assert "by hand" not in page


def test_a_run_to_a_reward_replaces_its_like_only(record: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measure(monkeypatch, "reward", {"ours": [run(1e-3, 0, 30)]}, {"trl": [run(1e-3, 0, 28)]})
    measure(monkeypatch, "reward", {"ours": [run(2e-3, 0, 18)]}, {"ours": [run(1e-3, 0, 31)]})
    kept = json.loads(record.read_text())["reward"]
    assert [(each["rate"], each["steps"]) for each in kept["ours"]] == [(2e-3, 18), (1e-3, 31)]
    assert [each["steps"] for each in kept["trl"]] == [28]
    assert (
        "| ours | 0.001 | 0 | 31 | 2480 | 1.0 | 2.0 | 2026-01-01 abc | 0.5 |" in record.with_suffix(".md").read_text()
    )


def test_a_trial_writes_nothing(
    record: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measure(monkeypatch, "rows", ROWS, words="--short")
    assert not record.exists()
    assert "| 1000 | 60.0 | 0.50 |" in capsys.readouterr().out
