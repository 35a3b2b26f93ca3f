"""What the orchestrator writes, and how it finds its place again: `rollouts.jsonl`, `events.jsonl`, `asked.json`, `status.json`.

A restart reads them back: chunks that have their event are done, scored rollouts of the chunk in progress are reused.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from tunesmith.runs.files import JsonLines, read_json_lines, write_atomic
from tunesmith.runs.resumed import Resumed


class RunState(StrEnum):
    """Where a run stands; all but RUNNING are final."""

    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    """Every chunk was rolled out and trained."""
    EARLY_STOPPED = "EARLY_STOPPED"
    """A full epoch without any difference of scores inside a group: there is nothing to learn from."""
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class RunStatus(BaseModel):
    """`status.json`."""

    model_config = ConfigDict(extra="forbid")

    state: RunState = RunState.RUNNING
    message: str = ""
    """The cause of a failure, or what is being waited for."""
    epoch: int = 0
    step: int = 0
    """Optimizer steps whose batch is sealed."""
    total_steps: int = 0
    percent: int = 0
    mean_score: float | None = None
    """Mean valid score of the newest chunk."""
    optimizer_steps: int = 0
    """Steps whose policy version was published."""
    version: int = 0
    best_version: int | None = None
    best_score: float | None = None
    preflight: dict[str, Any] | None = None
    """What the preflight came to: its event without `by_row`; None before it, and without one."""
    control: dict[str, Any] | None = None
    """What is in force (`runs.control.InForce`, as its event shows it); None until something was asked for."""
    updated: float = 0.0


class Record:
    """The orchestrator's files. One writer: this process, under `orchestrator.lock`."""

    def __init__(self, run_dir: Path) -> None:
        self._status_path = run_dir / "status.json"
        self._asked_path = run_dir / "asked.json"
        self._asked: dict[str, int] = json.loads(self._asked_path.read_text()) if self._asked_path.exists() else {}
        self._rollouts = JsonLines(run_dir / "rollouts.jsonl")
        self._events = JsonLines(run_dir / "events.jsonl")
        self.status = self._last_status()
        self.events: list[dict[str, Any]] = [record for _, record in read_json_lines(self._events.path)]
        self.finished_chunks = {event["chunk"]: event for event in self.events if event["kind"] == "chunk"}
        self.evaluations = {event["version"]: event for event in self.events if event["kind"] == "evaluation"}
        self.published = {event["version"]: event for event in self.events if event["kind"] == "version"}
        self.preflight = next((event for event in self.events if event["kind"] == "preflight"), None)
        self._recorded: dict[str, list[dict[str, Any]]] = defaultdict(list)
        resumed = Resumed.read(run_dir)
        judged_anew = resumed.rollouts if resumed is not None else 0
        for end, record in read_json_lines(self._rollouts.path):
            if self._is_open(record) and (end > judged_anew or record["is_score_valid"]):
                self._recorded[record["invocation_id"]].append(record)

    def close(self) -> None:
        """Close the files."""
        self._rollouts.close()
        self._events.close()

    def recorded(self, invocation_id: str) -> list[dict[str, Any]]:
        """Rollouts of an unfinished chunk or evaluation that an earlier process of this run already has."""
        return self._recorded[invocation_id]

    def last_asked(self, invocation_id: str) -> int:
        """The highest attempt number that any process of this run asked for; -1 when none did."""
        recorded = (record["attempt"] for record in self._recorded[invocation_id])
        return max([self._asked.get(invocation_id, -1), *recorded])

    def asking(self, invocation_id: str, attempt: int) -> None:
        """Note an attempt number before anybody is asked for it: an agent may still work for it when this process is gone."""
        if attempt > self._asked.get(invocation_id, -1):
            self._asked[invocation_id] = attempt
            write_atomic(self._asked_path, json.dumps(self._asked))

    def rollout(self, record: dict[str, Any]) -> None:
        """Append one finished rollout."""
        self._rollouts.append(record)

    def event(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Append one event and keep it for the next decision."""
        event = {"kind": kind, **fields, "time": round(time.time(), 3)}
        self._events.append(event)
        self.events.append(event)
        indexes = {"chunk": self.finished_chunks, "evaluation": self.evaluations, "version": self.published}
        if kind in indexes:
            indexes[kind][fields["chunk"] if kind == "chunk" else fields["version"]] = event
        return event

    def update(self, **fields: Any) -> None:
        """Change the status and write it."""
        self.status = self.status.model_copy(update={**fields, "updated": round(time.time(), 3)})
        write_atomic(self._status_path, self.status.model_dump_json())

    def _last_status(self) -> RunStatus:
        """What an earlier process of this run wrote, RUNNING again: the learner keeps the best checkpoint by it."""
        if not self._status_path.exists():
            return RunStatus()
        last = RunStatus.model_validate_json(self._status_path.read_text())
        return last.model_copy(update={"state": RunState.RUNNING, "message": ""})

    def _is_open(self, record: dict[str, Any]) -> bool:
        if record["kind"] == "train":
            return record["chunk"] not in self.finished_chunks
        if record["kind"] in ("preflight", "baseline"):
            return self.preflight is None
        return record["version"] not in self.evaluations
