"""Asks the configured model about words that the Agent's own reader did not understand. A model that fails is as if there were none."""

from __future__ import annotations

import logging

import httpx

from tunesmith.agent.document import Gate
from tunesmith.agent.plan import Plan
from tunesmith.agent.reading import Names, Reading, read_instruction, read_message
from tunesmith.agent.reading.model import parse, request
from tunesmith.settings import Settings

log = logging.getLogger(__name__)
PATIENCE_SECONDS = 30.0


def read_by_model(
    settings: Settings, text: str, names: Names, gate: Gate | None, plan: Plan, *, starts: bool
) -> Reading | None:
    """What the model read of the words that the rules left over; None without a model, without such words, and when it fails.

    `starts` tells an instruction from a message. Blocks for at most 30 seconds; no transaction may wait for it.
    """
    if not settings.agent_model_url or not settings.agent_model:
        return None
    reading = read_instruction(text, names) if starts else read_message(text, names, gate, plan)
    if not reading.left:
        return None
    url = f"{settings.agent_model_url.rstrip('/')}/chat/completions"
    headers = {"Authorization": f"Bearer {settings.agent_model_key}"} if settings.agent_model_key else {}
    body = request(text, reading, names, plan, settings.agent_model)
    try:
        answer = httpx.post(url, json=body, headers=headers, timeout=PATIENCE_SECONDS, trust_env=False)
        answer.raise_for_status()
        hints = parse(answer.json(), reading, text)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        log.warning("the model at %s did not read an instruction; its words are asked about: %s", url, error)
        return None
    if hints is None:
        log.info("the model at %s read nothing that counts", url)
    return hints
