"""What the tests of remote jobs share: an evaluator project whose agent lives elsewhere, and a look at what its job left behind."""

from __future__ import annotations

import json
import sqlite3
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tests.loop import projects
from tests.loop.platform import FINAL, Platform

GOLD = "GOLDEN-7f3a"
SOURCE = """
from pathlib import Path
from eval_protocol.models import EvaluateResult, EvaluationRow
from eval_protocol.pytest import BackoffConfig, ExceptionHandlerConfig, RemoteRolloutProcessor, evaluation_test


@evaluation_test(
    input_dataset=[str(Path(__file__).parent / "rows.jsonl")],
    completion_params=[{"model": "BASE", "temperature": 1.0}],
    rollout_processor=RemoteRolloutProcessor(remote_base_url="SERVER"OPTIONS),
    exception_handler_config=ExceptionHandlerConfig(backoff_config=BackoffConfig(BACKOFF)),
    mode="pointwise",
)
def scored(row: EvaluationRow) -> EvaluationRow:
    if not str(row.ground_truth).startswith("GOLD"):
        raise ValueError("the evaluator did not get the gold answer")
    text = row.last_assistant_message().content or ""
    score = round(sum(c in "aeiou0123456789" for c in text) / max(1, len(text)), 6)
    row.evaluation_result = EvaluateResult(score=score, reason="scored")
    return row
"""
Found = TypeVar("Found")


def rows(names: Sequence[str]) -> list[dict[str, Any]]:
    """Rows with these ids, each with a gold answer in every place where a dataset may have one."""
    made = projects.rows(len(names))
    for row, name in zip(made, names, strict=True):
        row["messages"].append({"role": "assistant", "content": f"{GOLD} {name}"})
        row |= {"ground_truth": f"{GOLD} {name}", "input_metadata": {"row_id": name, "dataset_info": {"answer": GOLD}}}
    return made


def write(folder: Path, server: str, names: Sequence[str], *, options: str = "", backoff: str = "") -> Path:
    """A project; `options` go to the rollout processor, `backoff` to its tries."""
    source = SOURCE.replace("BASE", projects.BASE).replace("SERVER", server)
    source = source.replace("OPTIONS", f", {options}" if options else "").replace("BACKOFF", backoff)
    return projects.write(folder, source=source, dataset=rows(names))


def run_dir(platform: Platform, job: str) -> Path:
    """The run directory of a job."""
    return platform.data_dir / "runs" / job.rsplit("/", 1)[-1]


def records(platform: Platform, job: str) -> list[dict[str, Any]]:
    """Every rollout that a job recorded, those that were rolled again included."""
    return [json.loads(line) for line in (run_dir(platform, job) / "rollouts.jsonl").read_text().splitlines()]


def captured(platform: Platform, job: str) -> list[dict[str, Any]]:
    """What the gateway recorded of a job's model calls."""
    with sqlite3.connect(platform.data_dir / "completions.db") as database:
        database.row_factory = sqlite3.Row
        found = database.execute("select * from completions where job = ?", (job.rsplit("/", 1)[-1],))
        return [dict(row) for row in found]


def wait_for(what: Callable[[], Found | None], platform: Platform, job: str, seconds: float = 300) -> Found:
    """The first true answer; fails when the job ends before, or the time is over. A web process that is away is waited for."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if found := what():
                return found
            state = platform.job(job)
            assert state["state"] not in FINAL, state
        except OSError:
            pass
        time.sleep(0.05)
    raise AssertionError(f"{job}: what was waited for did not happen in {seconds:g} s")


def post(url: str, key: str, body: Any) -> tuple[int, dict[str, Any]]:
    """One POST; returns status and answer, whatever the status."""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers)) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())
