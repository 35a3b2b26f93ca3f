"""A whole session through `tunesmith up` and the command line: real training, real scoring, a deployed model, kill -9 on the way."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from tests.loop.platform import BIN, REPO, Platform
from tests.loop.sessions import kill_worker

INSTRUCTION = (
    "Run SFT on accounts/local/datasets/story-problems across tiny-math-v1 with learning rates 0 and 2e-3, LoRA rank 8, and 1 epoch. "
    "Use validation loss for evaluation."
)


def tunesmith(platform: Platform, *words: object, cwd: Path) -> str:
    ended = platform.run(BIN / "tunesmith", *words, cwd=cwd)
    assert ended.returncode == 0, ended.stdout
    return ended.stdout


def session(platform: Platform) -> dict[str, Any]:
    return platform.get("/v1/accounts/local/sessions/story")


def wait_for(platform: Platform, phase: str, state: str = "running") -> dict[str, Any]:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        found = session(platform)
        if (found["phase"], found["state"]) == (phase, state):
            return found
        assert found["state"] not in ("failed", "cancelled"), found["message"]
        time.sleep(0.1)
    raise AssertionError(f"the session did not come to {phase}, {state}: {session(platform)}")


def test_session_from_a_sentence_to_a_deployed_model(platform: Platform, tmp_path: Path) -> None:
    rows = (REPO / "examples" / "sft" / "problems.jsonl").read_text().splitlines(keepends=True)[:80]
    (tmp_path / "problems.jsonl").write_text("".join(rows))
    tunesmith(platform, "dataset", "create", "story-problems", "problems.jsonl", cwd=tmp_path)
    create = ("session", "create", "--session-id", "story", "--instruction", INSTRUCTION, "--wait")
    shown = tunesmith(platform, *create, cwd=tmp_path)
    assert "ask_user: The plan, for your approval." in shown
    assert shown.rstrip().endswith("[done] session status: waiting")

    tunesmith(platform, "session", "send", "story", "Approved, proceed.", cwd=tmp_path)
    wait_for(platform, "sweep")
    kill_worker(platform)
    waiting = wait_for(platform, "promotion", "waiting")
    assert waiting["winner"] == next(
        each["number"] for each in waiting["candidates"] if each["number"] and each["candidate"]["learningRate"] == 2e-3
    )
    tunesmith(platform, "session", "send", "story", "Proceed with the winning config.", cwd=tmp_path)
    wait_for(platform, "final_run")
    kill_worker(platform)
    ended = wait_for(platform, "report", "succeeded")

    assert ended["heldOut"]["difference"]["mean"] < 0
    assert ended["heldOut"]["pValue"] < 0.05
    jobs = platform.get("/v1/accounts/local/supervisedFineTuningJobs?pageSize=200")["supervisedFineTuningJobs"]
    mine = sorted(job["name"].rsplit("/", 1)[-1] for job in jobs if "-story-" in job["name"])
    assert mine == ["sft-story-c1", "sft-story-c2", "sft-story-final"]
    answer = platform.chat(ended["deployed"]["deployment"], "Tom has 3 apples and buys 4 more. How many?", max_tokens=8)
    assert answer["choices"][0]["message"]["content"]
    tunesmith(platform, "session", "get", "story", "--report", tmp_path / "final_report.md", cwd=tmp_path)
    report = (tmp_path / "final_report.md").read_text()
    assert ended["deployed"]["snippet"].splitlines()[0] in report
    assert (tmp_path / "held_out.svg").read_text().startswith("<svg")
