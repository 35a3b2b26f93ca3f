"""What must hold of a job that was killed again and again, each claim looked at where it can be seen: on disk, in the databases, by the API."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.runs.batch import BatchHeader

from benchmarks.kills.campaign import JOB, Ended
from tests.loop.recorded import calls_by_rollout, compare

NAME = f"accounts/local/reinforcementFineTuningJobs/{JOB}"


@dataclass(frozen=True)
class Claim:
    """One claim about one job."""

    what: str
    holds: bool
    found: str


def claims(ended: Ended, replay: Path, undisturbed: dict[str, str] | None = None) -> list[Claim]:
    """Look at everything.

    Args:
        ended: the job; its platform must be up.
        replay: a folder that does not exist, for the learner that is run again from the sealed batches alone.
        undisturbed: what `adapters` gave of the same job undisturbed; None: not compared.
    """
    run_dir, state = ended.run_dir, ended.job["state"]
    completed = _claim("the job completed", state == "JOB_STATE_COMPLETED", state, ended.job.get("status"))
    if not completed.holds:
        return [completed]
    steps = list(range(int((run_dir / "batches" / "END").read_text())))
    made = adapters(run_dir)
    found = [
        completed,
        _steps("each step once in metrics.jsonl", [line["step"] for line in _lines(run_dir / "metrics.jsonl")], steps),
        _steps("each step once in the database", [line["step"] for line in _events(ended, "metrics.jsonl")], steps),
        _steps("each batch once", sorted(_batches(run_dir)), steps),
        *_rollouts(ended),
        _recorded(ended),
        _received(ended),
        _same(
            "the learner, run again from the sealed batches, makes the same adapters", made, _replayed(run_dir, replay)
        ),
    ]
    if undisturbed is not None:
        found.append(_same("the adapters are those of the undisturbed job", made, undisturbed))
    return found


def adapters(run_dir: Path) -> dict[str, str]:
    """SHA-256 of the weights of every version."""
    files = sorted(run_dir.glob("adapters/v*/adapter_model.safetensors"))
    return {file.parent.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def _claim(what: str, holds: bool, found: object, why: object = "") -> Claim:
    return Claim(what, holds, str(found) if holds else f"{found} {why}".strip())


def _steps(what: str, found: list[int], wanted: list[int]) -> Claim:
    return _claim(what, found == wanted, len(found), f"instead of {len(wanted)}: {found}")


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _batches(run_dir: Path) -> list[int]:
    return [BatchHeader.read(path).step for path in run_dir.glob("batches/step-*.safetensors")]


def _query(ended: Ended, statement: str, *values: object) -> list[tuple[Any, ...]]:
    with sqlite3.connect(f"file:{ended.platform.data_dir / 'tunesmith.db'}?mode=ro", uri=True) as database:
        return database.execute(statement, values).fetchall()


def _events(ended: Ended, file: str) -> list[dict[str, Any]]:
    rows = _query(ended, 'select record from job_events where job = ? and file = ? order by "offset"', NAME, file)
    return [json.loads(row[0]) for row in rows]


def _rollouts(ended: Ended) -> list[Claim]:
    """The record of rollouts beside the database, and each counted once."""
    records = _lines(ended.run_dir / "rollouts.jsonl")
    told = sorted(
        (r["rollout_id"], r["score"], r["is_score_valid"], r["reason"], json.dumps(r["row"])) for r in records
    )
    query = "select rollout_id, score, is_score_valid, reason, row from rollouts where job = ?"
    rows = _query(ended, query, NAME)
    kept = sorted(
        (id, score, bool(valid), reason, json.dumps(json.loads(row))) for id, score, valid, reason, row in rows
    )
    events = _lines(ended.run_dir / "events.jsonl")
    scored = Counter(
        (r["chunk"], r["row_index"], r["k"]) for r in records if r["kind"] == "train" and r["is_score_valid"]
    )
    wanted = ended.size.chunks * ended.size.chunk * ended.size.n
    once = len(scored) == wanted and set(scored.values()) == {1}
    headers = [BatchHeader.read(path) for path in ended.run_dir.glob("batches/step-*.safetensors")]
    trained = Counter(rollout.rollout_id for header in headers for rollout in header.rollouts)
    return [
        _claim("rollouts.jsonl and the database say the same", told == kept, len(told), f"and {len(kept)}"),
        _claim("events.jsonl and the database say the same", events == _events(ended, "events.jsonl"), len(events)),
        _claim("each rollout was scored once", once, len(scored), f"of {wanted}; most {scored.most_common(2)}"),
        _claim("none was trained twice", set(trained.values()) == {1}, len(trained), trained.most_common(2)),
    ]


def _recorded(ended: Ended) -> Claim:
    """Every trained token is one that the gateway recorded, and every scored rollout's call is in the record."""
    database = ended.platform.data_dir / "completions.db"
    found = compare(ended.run_dir, database)
    calls = calls_by_rollout(database)
    valid = [r["rollout_id"] for r in _lines(ended.run_dir / "rollouts.jsonl") if r["is_score_valid"]]
    without = [id for id in valid if id not in calls]
    holds = found.strange == 0 and not without and found.trained > 0
    return _claim(
        "every trained token was recorded at sampling", holds, found.trained, f"{found} without: {without[:3]}"
    )


def _received(ended: Ended) -> Claim:
    missing = ended.client.missing()
    count = len(ended.client.received)
    found = f"{count} ({ended.client.failed} calls were cut)"
    return _claim("every completion that the client received is stored", not missing and count > 0, found, missing[:5])


def _replayed(run_dir: Path, replay: Path) -> dict[str, str]:
    """Adapters of a learner that gets run.json and the batches, and nothing else."""
    replay.mkdir(parents=True)
    shutil.copy(run_dir / "run.json", replay)
    shutil.copytree(run_dir / "batches", replay / "batches")
    env = {name: value for name, value in os.environ.items() if not name.startswith("TUNESMITH_")}
    subprocess.run([sys.executable, "-m", "tunesmith.training", str(replay)], env=env, check=True, capture_output=True)
    return adapters(replay)


def _same(what: str, one: dict[str, str], other: dict[str, str]) -> Claim:
    differ = sorted(version for version in one.keys() | other.keys() if one.get(version) != other.get(version))
    return _claim(what, bool(one) and not differ, f"{len(one)} adapters", f"differ: {differ[:5]} of {len(other)}")
