"""Where a kill may strike: exact places, right before an act of one process, and random times while a phase goes on."""

from __future__ import annotations

from dataclasses import dataclass

SUPERVISOR = "supervisor"
MODULES = {
    "web": "tunesmith.server",
    "worker": "tunesmith.jobs",
    "engine": "tunesmith.engines",
    "orchestrator": "tunesmith.orchestrator",
    "learner": "tunesmith.training",
    "evaluator host": "eval_protocol.host",
    "guard": "tunesmith.evaluators.guard",
}
"""Processes by what their command line names."""


@dataclass(frozen=True)
class Place:
    """Right before an act.

    Attributes:
        phase: As the claim names it.
        what: For people.
        process: Who is about to do it.
        act: `write`, `read`, `rename`, `remove`, `link`, `insert` or `commit`; `committed` strikes right after one.
        where: Pattern of the path, of "from to" of a rename, or of the tables of the transaction.
    """

    phase: str
    what: str
    process: str
    act: str
    where: str


@dataclass(frozen=True)
class Moment:
    """A random time after a file of the run directory has grown by a random number of lines or a folder by one entry.

    Attributes:
        grows: Of the run directory.
        most: Lines, at most.
        seconds: Then at most so long.
    """

    phase: str
    what: str
    process: str
    grows: str
    most: int
    seconds: float


PLACES = (
    Place("rollout", "attempt numbers about to be kept", "orchestrator", "rename", r"asked\.json$"),
    Place("capture", "completion about to be inserted", "web", "insert", r"^completions$"),
    Place("capture", "completion committed, its call not answered", "web", "committed", r"completions"),
    Place("seal", "batch about to be written", "orchestrator", "write", r"batches/\.step-"),
    Place("seal", "batch written, not renamed", "orchestrator", "rename", r"batches/step-\d+\.safetensors$"),
    Place("seal", "status of the sealed batch not renamed", "orchestrator", "rename", r"status\.json$"),
    Place("checkpoint", "state about to be written", "learner", "write", r"checkpoints/\..*state\.safetensors"),
    Place("checkpoint", "state written, header missing", "learner", "write", r"checkpoints/\..*checkpoint\.json"),
    Place("checkpoint", "written, not renamed", "learner", "rename", r"checkpoints/step-\d+$"),
    Place(
        "checkpoint", "an old one about to be removed", "learner", "remove", r"^(state\.safetensors|checkpoint\.json)$"
    ),
    Place("publish", "adapter about to be written", "learner", "write", r"adapters/\..*adapter_model"),
    Place("publish", "adapter written, canary missing", "learner", "write", r"adapters/\..*canary\.json"),
    Place("publish", "engine about to read the adapter", "engine", "read", r"adapters/v\d+/adapter_model"),
    Place("publish", "policy inserted, not committed", "web", "commit", r"policies"),
    Place("rename", "adapter whole, not renamed", "learner", "rename", r"adapters/v\d+$"),
    Place("ingest", "rollouts inserted, not committed", "worker", "commit", r"rollouts"),
    Place("ingest", "events or metrics inserted, not committed", "worker", "commit", r"job_events"),
)
MOMENTS = (
    Moment("rollout", "a chunk rolls out", "engine", "asked.json", 1, 0.5),
    Moment("rollout", "a chunk rolls out", "web", "asked.json", 1, 0.5),
    Moment("rollout", "a chunk rolls out", "orchestrator", "asked.json", 1, 0.5),
    Moment("scoring", "scores come in", "evaluator host", "rollouts.jsonl", 20, 0.05),
    Moment("scoring", "scores come in", "guard", "rollouts.jsonl", 20, 0.05),
    Moment("scoring", "scores come in", "orchestrator", "rollouts.jsonl", 20, 0.05),
    Moment("step", "the learner computes", "learner", "batches", 1, 0.5),
    Moment("step", "the learner computes", "worker", "batches", 1, 0.5),
    Moment("any", "a random time", SUPERVISOR, "rollouts.jsonl", 40, 2.0),
)
