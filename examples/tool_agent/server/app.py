"""The agent as a remote server: `POST /init` starts one rollout. An ASGI app, for any ASGI server.

The conversation itself is not sent anywhere: the gateway that the model is called through has recorded it.
"""

from __future__ import annotations

import logging

import httpx
from eval_protocol import InitRequest
from eval_protocol.tracing import agent_app
from openai import AsyncOpenAI

from .agent import TURNS, work
from .shop import shop_named_in

log = logging.getLogger(__name__)

_CONNECTIONS = httpx.AsyncClient(timeout=httpx.Timeout(600.0, connect=10.0))
"""Shared by all rollouts: an OpenAI client of its own for each would open its connections anew."""

_NOT_SAMPLING = {"model", "base_url", "api_base", "api_key", "messages", "tools"}


async def rollout(request: InitRequest) -> None:
    """Answers one question. Raises ValueError when it names no shop."""
    messages = [
        {key: value for key, value in message.model_dump().items() if value is not None}
        for message in request.messages or []
    ]
    question = next((str(message.get("content")) for message in reversed(messages) if message["role"] == "user"), "")
    shop = shop_named_in(question)
    if shop is None:
        raise ValueError(f'The question names no shop; begin it with "Shop 4711:", say. It was: {question[:200]!r}')
    client = AsyncOpenAI(base_url=request.model_base_url, api_key=request.api_key, http_client=_CONNECTIONS)
    params = {key: value for key, value in request.completion_params.items() if value is not None}
    sampling = {key: value for key, value in params.items() if key not in _NOT_SAMPLING}
    conversation = await work(client, params["model"], messages, shop, sampling)
    if conversation[-1]["role"] == "tool":
        log.warning("No answer after %d model calls.", TURNS)


app = agent_app(rollout)
