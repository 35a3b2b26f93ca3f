"""A clean environment for the SDK, and an OpenAI-compatible server over real HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

Reply = tuple[int, dict[str, str], Any]
"""Status, headers and body (JSON, or bytes as they are)."""


def completion(content: str = "hello", **message: Any) -> dict[str, Any]:
    """A chat completion with one choice."""
    return {
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": content, **message}, "finish_reason": "stop"}
        ],
        "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
    }


@dataclass
class Seen:
    """One request that arrived."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass
class FakeModel:
    """The server: `answer` decides what each request gets."""

    url: str = ""
    seen: list[Seen] = field(default_factory=list)
    busy: int = 0
    busiest: int = 0
    """Most requests that were in work at once."""
    delay: float = 0.0
    answer: Callable[[Seen], Reply] = lambda seen: (200, {}, completion(seen.body["messages"][-1]["content"]))

    async def handle(self, request: web.Request) -> web.Response:
        """Record the request and answer it."""
        seen = Seen(request.path, dict(request.headers), json.loads(await request.read()))
        self.seen.append(seen)
        self.busy += 1
        self.busiest = max(self.busiest, self.busy)
        try:
            await asyncio.sleep(self.delay)
            status, headers, body = self.answer(seen)
        finally:
            self.busy -= 1
        if isinstance(body, bytes):
            return web.Response(status=status, headers=headers, body=body)
        return web.json_response(body, status=status, headers=headers)


@pytest.fixture
def model() -> Iterator[FakeModel]:
    """A running server; it lives in a thread, so that subprocesses can call it, too."""
    fake, started, loop, stop = FakeModel(), threading.Event(), asyncio.new_event_loop(), asyncio.Event()

    async def serve() -> None:
        app = web.Application(client_max_size=2**26)
        app.router.add_post("/{path:.*}", fake.handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        started.set()
        await stop.wait()
        await runner.cleanup()

    def run() -> None:
        loop.run_until_complete(serve())
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    assert started.wait(10)
    yield fake
    loop.call_soon_threadsafe(stop.set)
    thread.join(10)


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No profile, no keys, no EP_* of the developer; results go to tmp_path."""
    for name in list(os.environ):
        if name.startswith(("EP_", "FIREWORKS_", "OPENAI_")) or name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    return home


@pytest.fixture
def profile(clean: Path, model: FakeModel) -> str:
    """A client profile that points at the fake server; returns its key."""
    folder = clean / ".tunesmith"
    folder.mkdir()
    key = "key-of-the-profile"
    (folder / "profile.json").write_text(json.dumps({"api_base": model.url, "api_key": key, "account_id": "local"}))
    return key
