"""A stand-in for vLLM's HTTP server, as far as our adapter calls it; what it sends has the shape that vLLM 0.32 was seen to send.

Every sampled token has log-probability -1 at temperature 1, its normaliser (when asked for two entries or more) is 0.25.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from aiohttp import web

NORMALISER_ID, NORMALISER = -2, 0.25


class FakeVllm:
    """Answers every prompt with `answer`, `piece` tokens at a time; remembers what it was asked."""

    def __init__(self, answer: list[int]) -> None:
        self.answer = answer
        self.normalisers = True
        self.hold = asyncio.Event()
        """While it is cleared, a stream waits after its first piece."""
        self.hold.set()
        self.aborted = asyncio.Event()
        self.fail_after_first = False
        self.requests: list[dict[str, Any]] = []
        self.adapters: dict[str, str] = {}
        self.unloaded: list[str] = []

    async def start(self, socket: Path) -> web.AppRunner:
        """Listen on a unix socket."""
        app = web.Application()
        app.router.add_get("/health", self._health)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/inference/v1/generate", self._generate)
        app.router.add_post("/v1/load_lora_adapter", self._load)
        app.router.add_post("/v1/unload_lora_adapter", self._unload)
        runner = web.AppRunner(app, handler_cancellation=True)
        await runner.setup()
        await web.UnixSite(runner, str(socket)).start()
        return runner

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response()

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "base", "max_model_len": 64}]})

    async def _load(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.adapters[body["lora_name"]] = body["lora_path"]
        return web.Response()

    async def _unload(self, request: web.Request) -> web.Response:
        name = (await request.json())["lora_name"]
        del self.adapters[name]
        self.unloaded.append(name)
        return web.Response()

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests.append(body)
        if body["model"] != "base" and body["model"] not in self.adapters:
            error = {"message": f"The model `{body['model']}` does not exist.", "type": "NotFoundError", "code": 404}
            return web.json_response({"error": error}, status=404)
        if not body.get("stream"):
            entries = [None, *({str(i): {"logprob": -float(i)}} for i in body["token_ids"][1:])]
            return web.json_response({"prompt_logprobs": entries})
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        try:
            await self._stream(response, body)
        except (asyncio.CancelledError, ConnectionError):
            self.aborted.set()
            raise
        return response

    async def _stream(self, response: web.StreamResponse, body: dict[str, Any]) -> None:
        asked = body["sampling_params"]
        ids = self.answer[: asked["max_tokens"]]
        ends = next((i for i, token in enumerate(ids) if token in asked.get("stop_token_ids", [])), None)
        reason = "length" if ends is None else "stop"
        ids = ids if ends is None else ids[: ends + 1]
        pieces = [
            ids[:1],
            *(ids[i : i + asked["stream_interval"]] for i in range(1, len(ids), asked["stream_interval"])),
        ]
        for number, piece in enumerate(pieces):
            if number:
                await self.hold.wait()
                if self.fail_after_first:
                    await self._send(response, {"error": {"message": "EngineCore died", "code": 500}})
                    return
            content = [self._entry(token, asked["logprobs"]) for token in piece]
            last = number == len(pieces) - 1
            choice = {"index": 0, "finish_reason": reason if last else None, "token_ids": piece}
            await self._send(response, {"choices": [{**choice, "logprobs": {"content": content}}], "usage": None})
        usage = {"prompt_tokens": len(body["token_ids"]), "prompt_tokens_details": {"cached_tokens": 3}}
        await self._send(response, {"choices": [], "usage": usage})
        await response.write(b"data: [DONE]\n\n")

    def _entry(self, token: int, count: int) -> dict[str, Any]:
        listed = [{"token_id": token, "logprob": -1.0, "rank": 2}]
        if self.normalisers and count >= 2:
            listed.append({"token_id": NORMALISER_ID, "logprob": NORMALISER, "rank": 1})
        listed += [{"token_id": 90 + i, "logprob": -0.5 - i, "rank": 1 + i} for i in range(count)]
        return {"token_id": token, "logprob": -1.0, "rank": 2, "top_logprobs": listed[:count]}

    @staticmethod
    async def _send(response: web.StreamResponse, chunk: dict[str, Any]) -> None:
        await response.write(f"data: {json.dumps(chunk)}\n\n".encode())
