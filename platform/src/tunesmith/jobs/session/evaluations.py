"""Evaluation jobs of a session: a model's answers to the rows of a dataset, scored by the evaluator in force."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith.db import jobs
from tunesmith.jobs.session import children
from tunesmith.jobs.session.desk import Desk

TEMPERATURES = (0.0, 0.3, 0.7, 1.0)
"""A base model is judged at the best of these, so that no gain comes from turning the temperature down."""
NOUN = "evaluationJobs"


@dataclass(frozen=True)
class Asked:
    """One evaluation to run."""

    suffix: str
    """The job is `eval-{session}-{suffix}`."""
    dataset: str
    """Resource name of the rows."""
    model: str | None
    """None: the rows' own answers are scored."""
    what: str
    """In words, for the history."""
    temperature: float = 0.0


@dataclass(frozen=True)
class Scored:
    """What an evaluation came to."""

    asked: Asked
    scores: tuple[float | None, ...]
    """By row, in the order of the dataset; None: invalid."""
    answers: tuple[str, ...]
    """The text that was scored, by row."""
    seconds: float
    output_tokens: int
    failed: str = ""
    """Why there are no scores."""

    @property
    def mean(self) -> float:
        """Mean of the valid scores; -1 where there is none."""
        valid = [score for score in self.scores if score is not None]
        return sum(valid) / len(valid) if valid else -1.0


async def evaluate(desk: Desk, evaluator: str, wanted: Sequence[Asked], doing: str) -> list[Scored]:
    """Run all of them, as many at a time as the worker takes, and fetch their scores.

    One that failed comes back with its reason.
    """
    found: dict[str, dict[str, Any]] = {}
    for asked in wanted:
        found[asked.suffix] = await children.job(
            desk, NOUN, f"eval-{desk.id}-{asked.suffix}", _body(desk, evaluator, asked)
        )
    while open_ones := [asked for asked in wanted if found[asked.suffix]["state"] not in children.FINAL]:
        done = len(wanted) - len(open_ones)
        now = ", ".join(f"{asked.what}: {children.progress(found[asked.suffix])}" for asked in open_ones[:2])
        await desk.say(f"{doing}: {done} of {len(wanted)} done ({now})")
        await desk.rest(children.POLL_SECONDS)
        for asked in open_ones:
            found[asked.suffix] = await desk.api.get(f"{NOUN}/eval-{desk.id}-{asked.suffix}")
    return [await _scored(desk, asked, found[asked.suffix]) for asked in wanted]


def best_temperature(scored: Sequence[Scored]) -> Scored:
    """The evaluation at which a model did best; of equals the one at the lowest temperature."""
    return max(scored, key=lambda each: (each.mean, -each.asked.temperature))


def base_runs(prefix: str, dataset: str, model: str, what: str) -> list[Asked]:
    """A base model at each of the temperatures."""
    return [
        Asked(
            f"{prefix}-t{round(temperature * 10)}",
            dataset,
            model,
            f"{what} at temperature {temperature:g}",
            temperature,
        )
        for temperature in TEMPERATURES
    ]


def _body(desk: Desk, evaluator: str, asked: Asked) -> dict[str, Any]:
    scoring = {} if asked.model is None else {"model": asked.model, "temperature": asked.temperature}
    return {
        "evaluationJob": {
            "evaluator": evaluator,
            "inputDataset": asked.dataset,
            "outputDataset": desk.name("datasets", f"ds-{desk.id}-scored-{asked.suffix}"),
            "displayName": asked.what[:63],
            "scoring": scoring,
        },
        "evaluationJobId": f"eval-{desk.id}-{asked.suffix}",
    }


async def _scored(desk: Desk, asked: Asked, found: dict[str, Any]) -> Scored:
    if found["state"] != jobs.COMPLETED:
        reason = (found.get("status") or {}).get("message") or f"it ended {found['state']}"
        return Scored(asked, (), (), 0.0, 0, failed=reason)
    dataset = found["outputDataset"].rsplit("/", 1)[-1]
    signed = await desk.api.get(f"datasets/{dataset}:getDownloadEndpoint")
    content = await desk.api.download(next(iter(signed["filenameToSignedUrls"].values())))
    rows = [json.loads(line) for line in content.splitlines() if line.strip()]
    metrics = found.get("metrics") or {}
    return Scored(
        asked,
        tuple(_score(row) for row in rows),
        tuple(answer_of(row) for row in rows),
        float(metrics.get("seconds") or 0.0),
        int(metrics.get("output_tokens") or 0),
    )


def _score(row: dict[str, Any]) -> float | None:
    result = row.get("evaluation_result") or {}
    return float(result["score"]) if result.get("is_score_valid", True) and result.get("score") is not None else None


def answer_of(row: dict[str, Any]) -> str:
    """Text of the last message, where an assistant wrote it; else ''."""
    messages = row.get("messages") or []
    if not messages or messages[-1].get("role") != "assistant":
        return ""
    content = messages[-1].get("content") or ""
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
