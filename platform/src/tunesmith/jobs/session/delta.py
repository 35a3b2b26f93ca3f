"""Delta learning: both models of the plan answer every prompt, and the strong one's answers are preferred to the weak one's.

    data/answers-strong.jsonl, data/answers-weak.jsonl     one line a finished answer, append-only
    data/pairs.jsonl                                       the preference rows; written when all answers are there

Runs after the approval, with the session's own key. A session that was killed asks only for the answers that it does not have yet.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunesmith.agent.document import Document, EventKind
from tunesmith.agent.pairs import make_pairs
from tunesmith.agent.rows import Row, prompt_of
from tunesmith.errors import FailedPrecondition, InvalidArgument
from tunesmith.jobs.session import children, staging, training
from tunesmith.jobs.session.desk import Desk, Event
from tunesmith.runs.files import JsonLines, read_json_lines
from tunesmith.schemas.names import short_id

CHAT = "/v1/chat/completions"
AT_ONCE = 8
"""Prompts that one model is asked at a time."""
TOLD_EVERY = 20
"""Answers between two words about it."""
STRONG, WEAK = "strong", "weak"


async def make(desk: Desk) -> None:
    """Make the pairs and their dataset, unless they are there. Raises FailedPrecondition where the answers give none."""
    if not training.is_delta(desk.plan) or staging.PAIRS in desk.document.datasets:
        return
    assert desk.plan.dataset is not None
    prompts = await asyncio.to_thread(staging.usable_rows, desk, desk.plan.dataset)
    strong = await _answers(desk, STRONG, desk.plan.strong_model or "", prompts)
    weak = await _answers(desk, WEAK, desk.plan.weak_model or "", prompts)
    try:
        pairs = make_pairs(prompts, strong, weak)
    except InvalidArgument as error:
        raise FailedPrecondition(error.message) from error
    await asyncio.to_thread(desk.write_rows, staging.PAIRS, pairs.rows)
    made = f"Session {desk.id}: pairs {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}"
    name = await children.dataset(desk, staging.PAIRS, pairs.rows, adapted=False, what=made)

    def edit(document: Document) -> None:
        document.datasets[staging.PAIRS] = name

    await desk.change(edit, Event("pairs", EventKind.RESULT, f"{pairs.summary()} They are in {name}."))


def spent_tokens(desk: Desk) -> int:
    """Tokens that both models read and sampled for the pairs, so far."""
    every = [record for role in (STRONG, WEAK) for record in _finished(desk, role)]
    return sum(int(record.get(name) or 0) for record in every for name in ("input_tokens", "output_tokens"))


async def _answers(desk: Desk, role: str, model: str, prompts: list[Row]) -> list[str | None]:
    """One model's answer to each prompt, in their order; None where it gave none."""
    found = {int(record["line"]): record for record in _finished(desk, role)}
    missing = [line for line in range(1, len(prompts) + 1) if line not in found]
    if missing:
        text = f"{short_id(model)} (the {role} model) answers {len(prompts)} prompts."
        await desk.tell(Event(f"pairs/{role}/start", EventKind.STATUS_INFO, text))
        file = JsonLines(_file(desk, role))
        waiting = iter(missing)

        async def work() -> None:
            for line in waiting:
                found[line] = await _ask(desk, model, line, prompts[line - 1])
                file.append(found[line])
                if len(found) % TOLD_EVERY == 0:
                    await desk.say(
                        f"Preference pairs: {short_id(model)} answered {len(found)} of {len(prompts)} prompts"
                    )
                await desk.rest(0)

        workers = [asyncio.create_task(work()) for _ in range(min(AT_ONCE, len(missing)))]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            file.close()
    _check(role, model, found, len(prompts))
    silent = [line for line, record in found.items() if not record["answer"]]
    if silent:
        reasons = {str(found[line].get("reason") or "an empty answer") for line in silent}
        text = f"{short_id(model)} gave no answer to {len(silent)} of {len(prompts)} prompts: {'; '.join(sorted(reasons)[:3])}."
        await desk.tell(Event(f"pairs/{role}/silent", EventKind.WARNING, text))
    return [found[line]["answer"] for line in range(1, len(prompts) + 1)]


async def _ask(desk: Desk, model: str, line: int, prompt: Row) -> dict[str, Any]:
    """One record of the answers' file. A prompt that the model cannot take (too long, say) is recorded with the reason."""
    body: dict[str, Any] = {"model": model, "messages": prompt_of(prompt), "temperature": 0}
    if prompt.get("tools"):
        body["tools"] = prompt["tools"]
    try:
        said = await desk.api.post(CHAT, body)
    except InvalidArgument as error:
        return {"line": line, "answer": None, "reason": error.message}
    usage = said.get("usage") or {}
    return {
        "line": line,
        "answer": said["choices"][0]["message"].get("content") or None,
        "input_tokens": usage.get("prompt_tokens"),
        "output_tokens": usage.get("completion_tokens"),
    }


def _check(role: str, model: str, found: dict[int, dict[str, Any]], count: int) -> None:
    """Raise FailedPrecondition where a model took no prompt at all: the reason is the model's, not a prompt's."""
    reasons = [record["reason"] for record in found.values() if record.get("reason")]
    if len(reasons) == count:
        raise FailedPrecondition(f"The {role} model {model} answered no prompt: {reasons[0]}")


def _finished(desk: Desk, role: str) -> Iterator[dict[str, Any]]:
    return (record for _, record in read_json_lines(_file(desk, role)))


def _file(desk: Desk, role: str) -> Path:
    return desk.file("data", f"answers-{role}.jsonl")
