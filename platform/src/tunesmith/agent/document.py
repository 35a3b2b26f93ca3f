"""What a session knows: the JSON document of its row. The control plane shows it and takes messages into it; the handler works it off.

Everything that was decided or measured is here, so that a handler killed at any instant goes on from it. Every later part
is None or empty until its phase was reached.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import ConfigDict

from tunesmith.agent.plan import Candidate, Plan
from tunesmith.schemas.wire import JobInput


class State(StrEnum):
    """Where a session stands, in the documented words."""

    RUNNING = "running"
    WAITING = "waiting"
    """At a gate: it needs an answer, and no worker holds it."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


FINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED})


class Phase(StrEnum):
    """The seven documented phases, and the gate between the third and the fourth."""

    INSPECTION = "inspection"
    PLAN = "plan"
    SWEEP = "sweep"
    PROMOTION = "promotion"
    FINAL_RUN = "final_run"
    EVALUATION = "evaluation"
    DEPLOYMENT = "deployment"
    REPORT = "report"


class EventKind(StrEnum):
    """What a line of the history is; the word in front of it when it is printed."""

    STATUS_INFO = "status_info"
    USER_MESSAGE = "user_message"
    ANSWER = "answer"
    """To a question that somebody asked."""
    ASK_USER = "ask_user"
    """A gate: `data` is the Gate."""
    WARNING = "warning"
    RESULT = "result"
    ERROR = "error"


class GateKind(StrEnum):
    """What a session waits for."""

    QUESTION = "question"
    """Something is missing, contradictory or was not understood."""
    PLAN = "plan"
    PROMOTION = "promotion"


class Question(JobInput):
    """One thing that the Agent needs to know."""

    field: str
    """Field of the plan, dotted (`base_models`, `evaluation.evaluator`), or `unclear` for words that were not understood."""
    text: str
    """The question, in plain English, with what may be answered."""
    choices: list[str] = []


class Gate(JobInput):
    """A pending (or answered) gate."""

    id: int
    """1, 2, ...: a new one each time something is asked anew."""
    kind: GateKind
    text: str
    """What is asked, as it is shown."""
    questions: list[Question] = []
    answered: bool = False
    answer: str = ""
    choice: int | None = None
    """Promotion: number of the candidate to go on with (from 1); None: the proposed winner. 0: none, end here."""


class Range(JobInput):
    """A lower and an upper estimate."""

    low: float
    high: float


class Estimate(JobInput):
    """What the plan will take. Seconds of wall time; money only where a price is set."""

    training_seconds: Range
    inference_seconds: Range
    total_seconds: Range
    training_tokens: int
    inference_tokens: int
    currency: str | None = None
    training_cost: Range | None = None
    inference_cost: Range | None = None
    total_cost: Range | None = None
    by_phase: dict[str, Range] = {}
    """Seconds by phase: sweep, final_run, evaluation, deployment."""
    basis: str = ""
    """Where the throughput comes from, in words."""


class Run(JobInput):
    """A child job of the session, by its derived id."""

    job: str
    """Resource name."""
    state: str = "JOB_STATE_PENDING"
    message: str = ""
    model: str | None = None
    """Resource name of what it made."""
    seconds: float | None = None
    tokens: int | None = None
    """Trained tokens."""


class Score(JobInput):
    """A mean over rows, with its 95 % interval."""

    mean: float
    low: float
    high: float
    rows: int
    invalid: int = 0


class CandidateResult(JobInput):
    """A line of the scoreboard. Number 0 is the base model itself."""

    number: int
    candidate: Candidate | None = None
    run: Run | None = None
    loss: Score | None = None
    """Validation loss in nats per trained token, on the rows that choose."""
    bits_per_byte: float | None = None
    score: Score | None = None
    """Of the evaluator, on the rows that choose; for a base model at its best temperature."""
    p_value: float | None = None
    """Two-sided, paired, against its base model, corrected for the number of candidates (Holm)."""
    better: bool | None = None
    """Whether it beats its base model at the 5 % level."""
    failed: str = ""
    """Why it has no figures."""


class Comparison(JobInput):
    """The final model against its base, on rows that chose nothing."""

    metric: str
    """`loss` (lower is better) or `score`."""
    base: Score
    tuned: Score
    difference: Score
    """tuned - base, paired by row."""
    p_value: float
    statement: str
    """One sentence for people."""
    base_temperature: float | None = None
    """Score: the temperature of {0, 0.3, 0.7, 1} at which the base did best on these rows."""
    details: dict[str, Any] = {}
    """Accuracy by label and confusion of a classification, and what else belongs here."""


class Deployed(JobInput):
    """Where the model answers."""

    model: str
    deployment: str
    endpoint: str
    snippet: str
    """Python for the `fireworks-ai` package; runs as it is."""


class Document(JobInput):
    """Everything. One that an earlier version wrote may hold fields that are gone: a session waits longer than a version lives."""

    model_config = ConfigDict(extra="ignore")

    plan: Plan = Plan()
    understood: list[str] = []
    """What was read from the user's words and holds still, restated, in order."""
    unclear: list[Question] = []
    """What is asked because words were not understood, or contradict each other; answered ones are removed."""
    gate: Gate | None = None
    inspection: dict[str, Any] = {}
    """Facts about the data, by (dataset, base model): `agent.inspection`."""
    datasets: dict[str, str] = {}
    """Resource names of what the session made: train, tune, select, report, pairs."""
    evaluator: str | None = None
    """Resource name of the evaluator in force (paths evaluator and generated)."""
    generated: dict[str, str] = {}
    """A generated evaluator: `evaluator.py`, `eval_spec.md`, and what its validation said."""
    estimate: Estimate | None = None
    approved_plan: Plan | None = None
    """The plan as it was approved, every field decided."""
    candidates: list[CandidateResult] = []
    winner: int | None = None
    """Number of the candidate that goes on; 0: none beat its base model."""
    reason: str = ""
    """Why this winner."""
    final: Run | None = None
    held_out: Comparison | None = None
    deployed: Deployed | None = None
    report: str = ""
    """`final_report.md`."""
    figures: dict[str, str] = {}
    """SVG text by file name, as the report shows them."""
    spent: dict[str, float] = {}
    """Seconds spent so far, by phase."""
    message: str = ""
    """One line: what it is doing, or how it ended."""
