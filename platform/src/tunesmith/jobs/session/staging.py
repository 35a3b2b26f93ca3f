"""The rows of a session: fetched once into its folder, converted as was shown, cut into splits, published as datasets of its own.

    data/source-{id}.jsonl     a dataset of the user's, as it was uploaded
    data/source-{id}.json      whether its rows are Eval Protocol rows already
    data/{part}.jsonl          train, tune, select, report, full: rows as the session's datasets hold them
    data/splits.json           what the parts were cut from, and how: written last

Nothing of the user's is changed: what the session needs otherwise lies in datasets `ds-{session}-{part}`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tunesmith.agent import conversions, splits
from tunesmith.agent.document import Document, EventKind
from tunesmith.agent.inspection import Inspection
from tunesmith.agent.labels import label_of
from tunesmith.agent.plan import EvaluationPath, Method, Plan
from tunesmith.agent.rows import Row, answer_of, gold_of, prompt_key, prompt_of, with_gold
from tunesmith.jobs.session import children, training
from tunesmith.jobs.session.desk import Desk, Event
from tunesmith.runs.files import write_atomic
from tunesmith.schemas.names import short_id

TRAIN, TUNE, SELECT, REPORT, FULL = "train", "tune", "select", "report", "full"
PAIRS = "pairs"
SELECT_PROMPTS, REPORT_PROMPTS = "select-prompts", "report-prompts"
"""Of preference pairs: what an evaluator scores answers to."""
SELECT_GOLD = "select-gold"
"""Of preference pairs: the rows that choose with their gold answers, which a generated evaluator must score 1."""


@dataclass(frozen=True)
class Cut:
    """How many rows each part has, and what was done, in sentences."""

    sizes: dict[str, int]
    notes: list[str]


async def fetch(desk: Desk, dataset: str) -> str:
    """Fetch a dataset (resource name) into the folder, once; the name under which `Desk.rows` reads it."""
    name = f"source-{short_id(dataset)}"
    file = desk.file("data", f"{name}.jsonl")
    if not file.exists():
        facts = {"adapted": "evalProtocol" in await desk.api.get(f"datasets/{short_id(dataset)}")}
        write_atomic(desk.file("data", f"{name}.json"), json.dumps(facts))
        signed = await desk.api.get(f"datasets/{short_id(dataset)}:getDownloadEndpoint")
        parts = [await desk.api.download(url) for url in signed["filenameToSignedUrls"].values()]
        await asyncio.to_thread(write_atomic, file, b"".join(parts))
    return name


def usable_rows(desk: Desk, dataset: str) -> list[Row]:
    """A fetched dataset's rows with the conversions that its inspection listed, without those that cannot be used."""
    found = Inspection.model_validate(desk.document.inspection[dataset])
    rows = conversions.apply(desk.rows(f"source-{short_id(dataset)}"), [each.name for each in found.conversions])
    bad = {each.line for each in found.bad_rows}
    return [row for line, row in enumerate(rows, 1) if line not in bad]


async def cut(desk: Desk, plan: Plan) -> Cut:
    """Cut the rows into parts, unless they are cut for this plan already. `plan` has every field decided.

    Raises InvalidArgument where there are too few rows, with the least number needed.
    """
    return await asyncio.to_thread(_cut, desk, plan)


def _cut(desk: Desk, plan: Plan) -> Cut:
    wanted = {
        "dataset": plan.dataset,
        "evaluation_dataset": plan.evaluation_dataset,
        "method": plan.method,
        "seed": plan.seed,
        "subsample": plan.subsample,
        "path": plan.evaluation.path,
        "pairs": desk.file("data", f"{PAIRS}.jsonl").exists(),
    }
    marker = desk.file("data", "splits.json")
    if marker.exists():
        there = json.loads(marker.read_text())
        if there["of"] == wanted:
            return Cut(there["sizes"], there["notes"])
    assert plan.dataset is not None
    assert plan.method is not None
    rows = desk.rows(PAIRS) if wanted["pairs"] else usable_rows(desk, plan.dataset)
    given = usable_rows(desk, plan.evaluation_dataset) if plan.evaluation_dataset else None
    found = splits.split(
        rows,
        method=plan.method,
        seed=plan.seed,
        subsample=plan.subsample,
        labels=_labels(rows) if plan.method is Method.CLASSIFICATION else None,
        evaluation_rows=given,
    )
    if training.is_delta(plan) and not wanted["pairs"]:
        found.notes.append(
            "A prompt that both models answer alike makes no pair, so that there may be fewer rows of each."
        )
    parts = {
        TRAIN: [rows[i] for i in found.train],
        TUNE: [rows[i] for i in found.tune],
        SELECT: [rows[i] for i in found.select] or [(given or [])[i] for i in found.select_given],
        REPORT: [rows[i] for i in found.report] or [(given or [])[i] for i in found.report_given],
        FULL: [rows[i] for i in found.full],
    }
    for part, chosen in parts.items():
        desk.write_rows(part, [shaped(row, plan) for row in chosen])
    if training.is_preference(plan):
        asked = _asked_for(desk, plan) if wanted["pairs"] else lambda pair: pair
        for part, prompts in ((SELECT, SELECT_PROMPTS), (REPORT, REPORT_PROMPTS)):
            desk.write_rows(prompts, [_prompt_row(asked(pair)) for pair in parts[part]])
        desk.write_rows(SELECT_GOLD, [row for pair in parts[SELECT] if (row := _gold_row(asked(pair)))])
    sizes = {part: len(chosen) for part, chosen in parts.items()}
    write_atomic(marker, json.dumps({"of": wanted, "sizes": sizes, "notes": found.notes}))
    return Cut(sizes, found.notes)


async def publish(desk: Desk) -> None:
    """Make the session's datasets of the sweep and of the two evaluations."""
    plan = desk.plan
    sizes = (await cut(desk, plan)).sizes
    parts = [TUNE, SELECT, REPORT] + ([TRAIN] if sizes[TUNE] < sizes[TRAIN] else [])
    if training.is_preference(plan) and plan.evaluation.path is not EvaluationPath.VALIDATION_LOSS:
        parts += [SELECT_PROMPTS, REPORT_PROMPTS]
        parts += [SELECT_GOLD] if plan.evaluation.path is EvaluationPath.GENERATED else []
    if all(part in desk.document.datasets for part in parts):
        return
    names = {part: await _publish(desk, part) for part in parts}

    def edit(document: Document) -> None:
        document.datasets |= names

    text = (
        "Datasets: " + ", ".join(f"{short_id(name)} ({sizes.get(part, '')} rows)" for part, name in names.items()) + "."
    )
    await desk.change(edit, Event("datasets", EventKind.STATUS_INFO, text.replace(" ( rows)", "")))


async def publish_full(desk: Desk) -> str:
    """Make the dataset of the full-data run; its resource name."""
    if FULL not in desk.document.datasets:
        name = await _publish(desk, FULL)

        def edit(document: Document) -> None:
            document.datasets[FULL] = name

        await desk.change(edit)
    return desk.document.datasets[FULL]


async def _publish(desk: Desk, part: str) -> str:
    rows = await asyncio.to_thread(desk.rows, part)
    return await children.dataset(desk, part, rows, adapted=_is_adapted(desk), what=f"Session {desk.id}: {part}")


def _is_adapted(desk: Desk) -> bool:
    """Whether an evaluator takes the rows as they are: a generated one does, the user's where the dataset says so."""
    plan = desk.plan
    assert plan.dataset is not None
    if plan.evaluation.path is EvaluationPath.EVALUATOR:
        return json.loads(desk.file("data", f"source-{short_id(plan.dataset)}.json").read_text())["adapted"]
    return plan.evaluation.path is EvaluationPath.GENERATED


def shaped(row: Row, plan: Plan) -> Row:
    """A row as the session's datasets hold it: evaluators find the gold answer in `ground_truth`, since a model's takes its place."""
    scored = plan.evaluation.path in (EvaluationPath.GENERATED, EvaluationPath.EVALUATOR)
    if scored and "messages" in row and gold_of(row) is not None:
        return with_gold(row)
    return row


def _asked_for(desk: Desk, plan: Plan) -> Callable[[Row], Row]:
    """From a pair that models made to the user's row that it was made of, where that has a gold answer: it is the user's word."""
    assert plan.dataset is not None
    known = {prompt_key(row): row for row in usable_rows(desk, plan.dataset) if gold_of(row) is not None}
    return lambda pair: known.get(prompt_key(pair), pair)


def _prompt_row(row: Row) -> Row:
    """What a row asks, with its gold answer (of a pair the preferred one) where evaluators look for it."""
    asked: dict[str, Any] = {"messages": prompt_of(row), "ground_truth": gold_of(row)}
    inner = row["input"] if isinstance(row.get("input"), dict) else row
    return asked | ({"tools": inner["tools"]} if inner.get("tools") else {})


def _gold_row(row: Row) -> Row | None:
    """What a row asks, and its gold answer as an assistant's message; None where it has none."""
    answer, asked = answer_of(row), _prompt_row(row)
    return None if answer is None else asked | {"messages": [*asked["messages"], answer]}


def _labels(rows: list[Row]) -> list[str | None]:
    return [label_of(row) for row in rows]
