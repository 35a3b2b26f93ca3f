"""An engine of the contract's shape without a model: deterministic, instant, and told by the prompt what to do.

It reads the last words of the prompt: `say X` answers X and stops, `count` never stops, `slow` waits between tokens,
`die` breaks the connection after two tokens (once). Anything else is answered with a text that depends on model, seed and index.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from tokenizers import Tokenizer

KEY = "engine-key-of-the-fake"


@dataclass
class FakeEngine:
    """One base model. `generated` and `aborted` record what was asked."""

    folder: Path
    base_model: str
    key: str = KEY
    context_length: int = 512
    adapters: dict[str, str] = field(default_factory=dict)
    generated: list[dict[str, Any]] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    unloaded: list[str] = field(default_factory=list)
    aborted: list[str] = field(default_factory=list)
    deaths: int = 0
    answers: list[str] = field(default_factory=list)
    """The last of these is the answer to everything, if there is one."""
    slow_seconds: float = 0.05
    url: str = ""
    _runner: web.AppRunner | None = None

    def __post_init__(self) -> None:
        self.tokenizer = Tokenizer.from_file(str(self.folder / "tokenizer.json"))
        self.eos = json.loads((self.folder / "config.json").read_text())["eos_token_id"]
        self.vocab_size = json.loads((self.folder / "config.json").read_text())["vocab_size"]

    async def start(self) -> None:
        """Listen on a free port."""
        app = web.Application(middlewares=[self._authenticate])
        app.add_routes(
            [
                web.post("/generate", self._generate),
                web.post("/score", self._score),
                web.post("/load", self._load),
                web.post("/unload", self._unload),
                web.post("/abort", self._abort),
                web.get("/info", self._info),
                web.get("/health", self._health),
            ]
        )
        self._runner = web.AppRunner(app, shutdown_timeout=0.2)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{port}"

    async def stop(self) -> None:
        """Close the port and every connection."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @web.middleware
    async def _authenticate(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if request.path != "/health" and request.headers.get("Authorization") != f"Bearer {self.key}":
            return _error(401, "unauthenticated", "wrong key")
        return await handler(request)

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if body["model"] is not None and body["model"] not in self.adapters:
            return _error(404, "adapter_not_loaded", f"{body['model']} is not loaded")
        if len(body["prompt_ids"]) + 1 > self.context_length:
            return _error(400, "prompt_too_long", "too long")
        self.generated.append(body)
        prompt = self.tokenizer.decode(body["prompt_ids"], skip_special_tokens=False)
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        for index in range(body["n"]):
            await self._candidate(request, response, body, prompt, index)
        return response

    async def _candidate(
        self, request: web.Request, response: web.StreamResponse, body: dict[str, Any], prompt: str, index: int
    ) -> None:
        ids, reason = self._sample(body, prompt, index)
        asked = _asked(prompt)
        shown, text = "", self._visible(ids, body["stop"])
        if not body.get("stream", True) and not asked.startswith(("slow", "die")):
            await _send(response, self._event(body, index, ids, text, reason, len(ids)))
            return
        for position, id in enumerate(ids):
            if asked.startswith("slow"):
                await asyncio.sleep(self.slow_seconds)
            if asked.startswith("die") and position == 2 and self.deaths == 0:
                self.deaths += 1
                assert request.transport is not None
                request.transport.close()
                return
            whole = self.tokenizer.decode(ids[: position + 1], skip_special_tokens=True)
            now = "" if whole.endswith("\ufffd") else whole[: len(text)]
            last = position == len(ids) - 1
            piece = text[len(shown) :] if last else now[len(shown) :]
            shown += piece
            await _send(response, self._event(body, index, [id], piece, reason if last else None, len(ids)))

    def _sample(self, body: dict[str, Any], prompt: str, index: int) -> tuple[list[int], str]:
        asked = _asked(prompt)
        if self.answers:
            answer = self.answers[-1]
        elif asked.startswith("say "):
            answer = asked.removeprefix("say ")
        elif asked.startswith(("count", "slow")):
            answer = "a" * 1000
        else:
            answer = "answer " + _digest(body["model"], body["seed"], index, body["temperature"] > 0)
        ids = [*self.tokenizer.encode(answer, add_special_tokens=False).ids, self.eos]
        for end in range(len(ids)):
            if any(stop in self.tokenizer.decode(ids[: end + 1]) for stop in body["stop"]):
                ids = ids[: end + 1]
                break
        if len(ids) > body["max_tokens"]:
            return ids[: body["max_tokens"]], "length"
        return ids, "stop"

    def _visible(self, ids: list[int], stops: list[str]) -> str:
        text = self.tokenizer.decode(ids, skip_special_tokens=True).rstrip("\ufffd")
        for stop in stops:
            text = text.split(stop)[0]
        return text

    def _event(
        self, body: dict[str, Any], index: int, ids: list[int], text: str, reason: str | None, total: int
    ) -> dict[str, Any]:
        model = [-(1 + id % 7) / 8 for id in ids]
        event: dict[str, Any] = {
            "index": index,
            "token_ids": ids,
            "model_logprobs": model,
            "logprobs": [value / (body["temperature"] or 1.0) for value in model],
            "text": text,
            "finish_reason": reason,
        }
        if body["top_logprobs"]:
            event["top_logprobs"] = [[[(id + k) % 256, -float(k)] for k in range(body["top_logprobs"])] for id in ids]
        if reason:
            event["usage"] = {"prompt_tokens": len(body["prompt_ids"]), "cached_tokens": 0, "completion_tokens": total}
        return event

    async def _score(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if body["model"] is not None and body["model"] not in self.adapters:
            return _error(404, "adapter_not_loaded", f"{body['model']} is not loaded")
        return web.json_response({"logprobs": [-id / 100 for id in body["token_ids"][1:]]})

    async def _load(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        file = Path(body["path"]) / "adapter_model.safetensors"
        if not file.exists():
            return _error(404, "not_found", f"{file} does not exist")
        sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
        if self.adapters.setdefault(body["name"], sha256) != sha256:
            return _error(409, "already_exists", f"{body['name']} is loaded with other weights")
        self.loaded.append(body["name"])
        return web.json_response({"name": body["name"], "sha256": sha256})

    async def _unload(self, request: web.Request) -> web.StreamResponse:
        name = (await request.json())["name"]
        if self.adapters.pop(name, None) is None:
            return _error(404, "adapter_not_loaded", f"{name} is not loaded")
        self.unloaded.append(name)
        return web.json_response({})

    async def _abort(self, request: web.Request) -> web.StreamResponse:
        self.aborted.append((await request.json())["request_id"])
        return web.json_response({})

    async def _info(self, _request: web.Request) -> web.StreamResponse:
        return web.json_response(
            {
                "base_model": self.base_model,
                "context_length": self.context_length,
                "vocab_size": self.vocab_size,
                "dtype": "float32",
                "adapters": [{"name": name, "sha256": sha256} for name, sha256 in self.adapters.items()],
                "capabilities": ["neighbour_independent_noise"],
                "pid": 0,
            }
        )

    async def _health(self, _request: web.Request) -> web.StreamResponse:
        return web.json_response({"status": "ok"})


@dataclass
class FakeSupervisor:
    """The supervisor's socket: gives out the engines it was given, and counts how often it was asked."""

    socket: Path
    engines: dict[str, FakeEngine]
    asked: list[str] = field(default_factory=list)
    _runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen on the socket."""
        app = web.Application()
        app.add_routes([web.post("/engines", self._engines)])
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.UnixSite(self._runner, str(self.socket)).start()

    async def stop(self) -> None:
        """Close the socket."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _engines(self, request: web.Request) -> web.StreamResponse:
        name = (await request.json())["base_model"]
        self.asked.append(name)
        if name not in self.engines:
            return _error(404, "not_found", f"Base model {name} cannot be loaded: looked in the fake's table.")
        engine = self.engines[name]
        return web.json_response({"url": engine.url, "pid": 0, "base_model": name})


def _asked(prompt: str) -> str:
    """What the last user turn says, in any chat template that puts its text on lines of their own."""
    found = re.findall(r"(?:say |count|slow|die)[^<\n\[]*", prompt)
    return found[-1] if found else ""


def _digest(*parts: Any) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:8]


def _error(status: int, code: str, message: str) -> web.Response:
    return web.json_response({"error": {"code": code, "message": message}}, status=status)


async def _send(response: web.StreamResponse, event: dict[str, Any]) -> None:
    await response.write(json.dumps(event).encode() + b"\n")
