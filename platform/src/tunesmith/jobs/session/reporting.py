"""Phase 7: `final_report.md` with its pictures, in the document and in the session's folder; then the session has succeeded."""

from __future__ import annotations

import asyncio
import hashlib
import json
import platform
import time
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from tunesmith.agent import cost
from tunesmith.agent import report as writing
from tunesmith.agent.document import Document, EventKind, Run
from tunesmith.agent.report_facts import DatasetFacts, ReportFacts
from tunesmith.catalog.prices import load_prices
from tunesmith.db.sessions import get_session, is_child
from tunesmith.jobs.session import delta, evaluations, staging, training
from tunesmith.jobs.session.desk import Desk, Event
from tunesmith.runs.files import write_atomic
from tunesmith.schemas.names import short_id

REPORT = "final_report.md"
PACKAGES = ("tunesmith", "torch", "transformers", "tokenizers")
"""Whose versions the report names."""
UNTOLD = {staging.SELECT_PROMPTS, staging.REPORT_PROMPTS, staging.SELECT_GOLD}
"""Parts that hold no rows of their own."""


async def report(desk: Desk) -> None:
    """Write the report, and the last message."""
    await desk.say("Writing the report.")
    await desk.read()
    document = desk.document.model_copy(deep=True)
    document.message = last_words(document)
    metrics = await _metrics(desk)
    facts = await _facts(desk, document, metrics)
    document.figures = writing.figures(document, metrics)
    document.report = writing.report(document, facts)
    for name, text in {REPORT: document.report, **document.figures}.items():
        await asyncio.to_thread(write_atomic, desk.file("report", name), text)

    def edit(it: Document) -> None:
        it.message, it.figures, it.report = document.message, document.figures, document.report

    await desk.change(edit, Event("report", EventKind.RESULT, _final_message(desk, document)))


def last_words(document: Document) -> str:
    """How the session ended, in one line."""
    if document.deployed is not None:
        return f"{document.deployed.model} is deployed as {document.deployed.deployment}."
    if document.final is not None and document.final.model:
        return f"{document.final.model} is trained; it was not deployed, as the plan says."
    return "Ended without promoting a candidate; the report says what was tried."


def _final_message(desk: Desk, document: Document) -> str:
    """What a person needs of the result, without the report."""
    lines = [last_words(document)]
    if document.deployed is not None:
        deployed = document.deployed
        lines += [f"Model: {deployed.model}", f"Deployment: {deployed.deployment}", f"Endpoint: {deployed.endpoint}"]
    if document.held_out is not None:
        lines.append(document.held_out.statement)
    lines.append(f"Report: {desk.settings.public_url or desk.settings.base_url}/v1/{desk.job.name}/report")
    if document.deployed is not None:
        lines += ["", document.deployed.snippet]
    return "\n".join(lines)


async def _facts(desk: Desk, document: Document, metrics: dict[str, list[dict[str, Any]]]) -> ReportFacts:
    prices = load_prices(desk.settings.data_dir)
    row = await desk.context.query(lambda session: get_session(session, desk.job.name))
    scorings = [job for job in await desk.api.list(evaluations.NOUN) if is_child(job["name"], desk.job.name)]
    document.spent[desk.phase] = document.spent.get(desk.phase, 0.0) + time.monotonic() - desk.clock
    return ReportFacts(
        session=desk.job.name,
        instruction=row.instruction,
        started=_time(row.created),
        ended=_time(time.time()),
        actual=cost.actual(document, prices, inference_tokens=_inference_tokens(desk, scorings)),
        datasets=await asyncio.to_thread(_datasets, desk, document),
        metrics=metrics,
        costs=cost.training_costs(document, prices),
        versions=_versions(),
        scored=sorted(short_id(job["outputDataset"]) for job in scorings),
        notes=(await staging.cut(desk, desk.plan)).notes,
    )


async def _metrics(desk: Desk) -> dict[str, list[dict[str, Any]]]:
    """Lines of the training jobs' metrics, by what they are of."""
    runs: dict[str, Run] = {
        f"candidate {result.number}": result.run for result in desk.document.candidates if result.number and result.run
    }
    if desk.plan.final_run and desk.document.final is not None:
        runs["final run"] = desk.document.final
    found = {}
    for name, run in runs.items():
        job = await desk.api.find(f"{training.noun(desk.plan)}/{short_id(run.job)}")
        url = (job or {}).get("metricsFileSignedUrl")
        if url:
            content = await desk.api.download(url)
            found[name] = [json.loads(line) for line in content.splitlines() if line.strip()]
    return found


def _inference_tokens(desk: Desk, scorings: list[dict[str, Any]]) -> int:
    """Tokens that this session's evaluations, and the models that made its pairs, read and sampled."""
    counted = [job.get("metrics") or {} for job in scorings]
    return delta.spent_tokens(desk) + sum(
        int(one.get(name) or 0) for one in counted for name in ("input_tokens", "output_tokens")
    )


def _datasets(desk: Desk, document: Document) -> list[DatasetFacts]:
    plan = desk.plan
    given = [("source", plan.dataset), ("evaluation", plan.evaluation_dataset)]
    files = [(role, name, f"source-{short_id(name)}") for role, name in given if name]
    files += [(part, name, part) for part, name in document.datasets.items() if part not in UNTOLD]
    found = []
    for role, name, file in files:
        content = desk.file("data", f"{file}.jsonl").read_bytes()
        rows = sum(1 for line in content.splitlines() if line.strip())
        found.append(DatasetFacts(role, name, rows, hashlib.sha256(content).hexdigest()))
    return found


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
