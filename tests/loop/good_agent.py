"""An agent of two turns, served the way the guide shows: `agent_app` of the SDK and the plain OpenAI SDK, every other call streamed.

Rows called `held...` wait between their turns for the release file. In rows called `patient...` the client repeats calls that fail until
the gateway is back; in all others what breaks a call breaks the rollout.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import uvicorn
from eval_protocol import InitRequest
from eval_protocol.tracing import agent_app
from openai import AsyncOpenAI

from tests.loop.agents import Notes, released


def make_app(notes: Notes) -> Any:
    """The ASGI app; `/init` bodies are noted as they came over the wire."""

    async def call(client: AsyncOpenAI, request: InitRequest, messages: list[Any], stream: bool) -> str:
        params = {"model": request.completion_params["model"], "messages": messages, "max_tokens": 24}
        if stream:
            id, text = "", ""
            async for chunk in await client.chat.completions.create(**params, stream=True):
                id = chunk.id
                text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
        else:
            answer = await client.chat.completions.create(**params)
            id, text = answer.id, answer.choices[0].message.content or ""
        notes.add("received", rollout=request.metadata.rollout_id, id=id, text=text)
        return text

    async def rollout(request: InitRequest) -> None:
        messages: list[Any] = [message.dump_model_for_chat_completion_request() for message in request.messages or []]
        stream = sum(request.metadata.rollout_id.encode()) % 2 == 0
        retries = 20 if request.metadata.row_id.startswith("patient") else 0
        async with AsyncOpenAI(
            base_url=request.model_base_url, api_key=request.api_key or "", max_retries=retries
        ) as client:
            first = await call(client, request, messages, stream)
            while request.metadata.row_id.startswith("held") and not released(notes.record).exists():
                await asyncio.sleep(0.05)
            messages += [{"role": "assistant", "content": first}, {"role": "user", "content": "And one more?"}]
            await call(client, request, messages, not stream)

    inner = agent_app(rollout)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = b""

        async def heard() -> Any:
            nonlocal body
            message = await receive()
            body += message.get("body", b"")
            if body and not message.get("more_body"):
                notes.add("init", body=json.loads(body))
                body = b""
            return message

        await inner(scope, heard if scope["type"] == "http" else receive, send)

    return app


if __name__ == "__main__":
    uvicorn.run(make_app(Notes(Path(sys.argv[2]))), port=int(sys.argv[1]), log_level="warning", lifespan="on")
