"""What the gateway is measured beside: `python -m benchmarks.gateway.contenders forwarder|floor ENGINE_URL MODEL PORT_FILE`.

The forwarder only passes bytes on. The floor does what no gateway of tokens can leave out: it reads the request, encodes the prompt, asks
the engine in ids, decodes what came back and writes the same answer, log-probabilities included. Neither checks a key nor records.
"""

from __future__ import annotations

import asyncio
import sys
from functools import cache
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import uvloop
from aiohttp import web
from tokenizers import Tokenizer

_HEAD = {"id": "chatcmpl-floor", "created": 1_700_000_000, "model": "floor"}


class Forwarder:
    """A bare aiohttp forwarder."""

    def __init__(self, engine: str) -> None:
        self._url = f"{engine}/v1/chat/completions"
        self.session: aiohttp.ClientSession | None = None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Pass one call on."""
        assert self.session is not None
        async with self.session.post(
            self._url, data=await request.read(), headers={"content-type": "application/json"}
        ) as upstream:
            if upstream.content_type != "text/event-stream":
                return web.Response(body=await upstream.read(), content_type="application/json")
            response = web.StreamResponse(headers={"content-type": "text/event-stream"})
            await response.prepare(request)
            async for data in upstream.content.iter_any():
                await response.write(data)
            await response.write_eof()
            return response


class Floor:
    """Parses, encodes, generates, decodes, writes."""

    def __init__(self, engine: str, model: Path) -> None:
        self._url = f"{engine}/generate"
        self._tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
        self.session: aiohttp.ClientSession | None = None

        @cache
        def spell(id: int) -> tuple[str, list[int]]:
            text = self._tokenizer.decode([id], skip_special_tokens=False)
            return text, list(text.encode())

        self._spell = spell

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one call."""
        assert self.session is not None
        body = msgspec.json.decode(await request.read())
        prompt = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in body["messages"])
        ids = self._tokenizer.encode(prompt + "<|im_start|>assistant\n", add_special_tokens=False).ids
        asked = {"prompt_ids": ids, "max_tokens": body["max_tokens"], "stream": bool(body.get("stream"))}
        async with self.session.post(self._url, data=msgspec.json.encode(asked)) as engine:
            if not asked["stream"]:
                event = msgspec.json.decode(await engine.read())
                return web.Response(body=self._whole(event, len(ids), body), content_type="application/json")
            response = web.StreamResponse(headers={"content-type": "text/event-stream"})
            await response.prepare(request)
            async for line in engine.content:
                await response.write(self._chunk(msgspec.json.decode(line), body))
            await response.write(b"data: [DONE]\n\n")
            await response.write_eof()
            return response

    def _whole(self, event: dict[str, Any], prompt: int, body: dict[str, Any]) -> bytes:
        text = self._tokenizer.decode(event["token_ids"], skip_special_tokens=True)
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": text},
            "finish_reason": event["finish_reason"],
        }
        choice["logprobs"] = {"content": self._logprobs(event)} if body.get("logprobs") else None
        usage = {"prompt_tokens": prompt, "completion_tokens": len(event["token_ids"])}
        return msgspec.json.encode({**_HEAD, "object": "chat.completion", "choices": [choice], "usage": usage})

    def _chunk(self, event: dict[str, Any], body: dict[str, Any]) -> bytes:
        text = self._tokenizer.decode(event["token_ids"], skip_special_tokens=True)
        choice = {"index": 0, "delta": {"content": text}, "finish_reason": event["finish_reason"]}
        choice["logprobs"] = {"content": self._logprobs(event)} if body.get("logprobs") else None
        return (
            b"data: " + msgspec.json.encode({**_HEAD, "object": "chat.completion.chunk", "choices": [choice]}) + b"\n\n"
        )

    def _logprobs(self, event: dict[str, Any]) -> list[dict[str, Any]]:
        content, offset = [], 0
        for id, sampled, model in zip(event["token_ids"], event["logprobs"], event["model_logprobs"], strict=True):
            token, spelled = self._spell(id)
            content.append(
                {
                    "token": token,
                    "logprob": model,
                    "sampling_logprob": sampled,
                    "token_id": id,
                    "bytes": spelled,
                    "text_offset": offset,
                    "top_logprobs": [],
                }
            )
            offset += len(token)
        return content


async def main(kind: str, engine: str, model: Path, port_file: Path) -> None:
    """Serve until killed."""
    contender = Forwarder(engine) if kind == "forwarder" else Floor(engine, model)
    contender.session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), read_bufsize=2**23)
    app = web.Application()
    app.router.add_post("/v1/chat/completions", contender.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    port_file.write_text(f"http://127.0.0.1:{runner.addresses[0][1]}")
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4])))
