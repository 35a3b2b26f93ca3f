"""Client of the engines: one per base model, found (and started) through the supervisor's socket, spoken to in token ids.

An engine that does not answer is forgotten and asked for again: the supervisor starts it anew.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from tunesmith.errors import (
    AlreadyExists,
    Internal,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    TunesmithError,
    Unavailable,
)
from tunesmith.gateway.errors import AdapterNotLoaded, EngineLost

log = logging.getLogger(__name__)

_BROKEN = (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, ConnectionError, TimeoutError)
_ATTEMPTS = 3
_PAUSE_SECONDS = 0.2
"""Between attempts: an engine's connections break a moment before the supervisor can see that its process is gone."""
_LINE_BUFFER = 2**23
"""Bytes of an engine's answer that wait for us before it is told to pause."""
_JSON = {"Content-Type": "application/json"}
_SILENCE_SECONDS = 600.0
"""An engine that sends nothing for this long is taken for lost."""


@dataclass(frozen=True)
class EngineAddress:
    """Where an engine listens and what it said about itself."""

    url: str
    context_length: int
    vocab_size: int
    capabilities: frozenset[str]


class EngineEvent(msgspec.Struct, frozen=True, gc=False):
    """One event of `/generate`: newly sampled ids of one candidate, and the text that they made visible."""

    index: int = 0
    token_ids: list[int] = []
    logprobs: list[float] = []
    model_logprobs: list[float] = []
    top_logprobs: list[list[tuple[int, float]]] | None = None
    text: str = ""
    finish_reason: str | None = None
    usage: dict[str, int] | None = None
    error: dict[str, Any] | None = None
    """Instead of all the others: after the answer began, an engine can only say it in the stream."""


class Engines:
    """Every engine that this gateway has used."""

    def __init__(self, supervisor_socket: Path, engine_key: str) -> None:
        self._socket = supervisor_socket
        self._headers = {"Authorization": f"Bearer {engine_key}"}
        self._addresses: dict[str, EngineAddress] = {}
        self._asking: dict[str, asyncio.Task[EngineAddress]] = {}
        self._session: aiohttp.ClientSession | None = None
        self._supervisor: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Open the connection pools; to be called in the event loop that serves."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),  # a limit here would queue rollouts in front of a batching engine
            headers=self._headers,
            read_bufsize=_LINE_BUFFER,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=5.0, sock_read=_SILENCE_SECONDS),
        )
        self._supervisor = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(str(self._socket)),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=5.0),  # a first call may download and load a model
        )

    async def close(self) -> None:
        """Close the connections."""
        for session in (self._session, self._supervisor):
            if session is not None:
                await session.close()

    async def address(self, base_model: str) -> EngineAddress:
        """Where the engine of a base model listens; started by the supervisor if need be.

        Raises NotFound with the catalogue's reason when the model cannot be loaded, Unavailable without a supervisor.
        """
        known = self._addresses.get(base_model)
        if known is not None:
            return known
        asking = self._asking.get(base_model)
        if asking is None:  # everyone who asks meanwhile shares the answer, a failure too
            asking = self._asking[base_model] = asyncio.create_task(self._find(base_model))
            asking.add_done_callback(lambda _: self._asking.pop(base_model, None))
        return await asyncio.shield(asking)

    def forget(self, base_model: str) -> None:
        """Ask the supervisor again on the next call: the files of the model are others now."""
        self._addresses.pop(base_model, None)

    async def call(self, base_model: str, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """One request with one JSON answer (`/load`, `/unload`, `/score`, `/abort`, `/info`); repeated when the engine was lost."""
        for attempt in range(_ATTEMPTS):
            try:
                address = await self.address(base_model)
                async with self._request(base_model, address, method, path, body) as response:
                    return await response.json()
            except EngineLost:
                if attempt + 1 == _ATTEMPTS:
                    raise
                await asyncio.sleep(_PAUSE_SECONDS)
        raise AssertionError("unreachable")

    async def events(self, base_model: str, body: dict[str, Any]) -> AsyncIterator[list[EngineEvent]]:
        """The events of one `/generate`, those that arrived together in one list.

        Raises EngineLost when the connection breaks: before the first event, after retries.
        """
        for attempt in range(_ATTEMPTS):
            begun = False
            try:
                address = await self.address(base_model)
                async with self._request(base_model, address, "POST", "/generate", body) as response:
                    rest: list[bytes] = []
                    async for data in response.content.iter_any():
                        begun = True
                        end = data.rfind(b"\n") + 1
                        if not end:  # a long line comes in many pieces, which are put together once
                            rest.append(data)
                            continue
                        lines = b"".join([*rest, data[:end]])
                        rest = [data[end:]] if end < len(data) else []
                        yield _read_events(lines)
                    if rest:
                        yield _read_events(b"".join(rest))
                return
            except EngineLost:
                if begun or attempt + 1 == _ATTEMPTS:
                    raise
                await asyncio.sleep(_PAUSE_SECONDS)

    async def abort(self, base_model: str, request_id: str) -> None:
        """Stop a request where it runs. An engine that is not there any more needs no abort."""
        address = self._addresses.get(base_model)
        if address is None:
            return
        try:
            async with self._request(base_model, address, "POST", "/abort", {"request_id": request_id}):
                pass
        except TunesmithError as error:
            log.info("Request %s was not aborted: %s", request_id, error.message)

    @asynccontextmanager
    async def _request(
        self, base_model: str, address: EngineAddress, method: str, path: str, body: dict[str, Any] | None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One request to an engine. Its errors become ours; a broken connection forgets the address."""
        assert self._session is not None, "Engines.start was not called"
        try:
            async with self._session.request(
                method, address.url + path, data=None if body is None else msgspec.json.encode(body), headers=_JSON
            ) as response:
                if response.status >= 400:
                    raise await _engine_error(base_model, response)
                yield response
        except _BROKEN as error:
            if self._addresses.get(base_model) is address:
                del self._addresses[base_model]
            raise EngineLost(
                f"The engine of {base_model} stopped answering ({type(error).__name__}). It is started again on the next "
                "call; logs/ in the data folder says why it ended."
            ) from error

    async def _find(self, base_model: str) -> EngineAddress:
        url = await self._ask_supervisor(base_model)
        self._addresses[base_model] = address = await self._introduce(base_model, url)
        return address

    async def _introduce(self, base_model: str, url: str) -> EngineAddress:
        assert self._session is not None
        try:
            async with self._session.get(f"{url}/info") as response:
                if response.status >= 400:
                    raise await _engine_error(base_model, response)
                info = await response.json()
        except _BROKEN as error:
            raise EngineLost(f"The engine of {base_model} at {url} does not answer: {error}. Try again.") from error
        return EngineAddress(url, info["context_length"], info["vocab_size"], frozenset(info["capabilities"]))

    async def _ask_supervisor(self, base_model: str) -> str:
        assert self._supervisor is not None, "Engines.start was not called"
        try:
            async with self._supervisor.post("http://supervisor/engines", json={"base_model": base_model}) as response:
                body = await response.json(content_type=None)
                if response.status == 200:
                    return body["url"].rstrip("/")
                status = response.status
        except _BROKEN as error:
            raise Unavailable(
                f"No supervisor answers on {self._socket}, so no engine can be started. Is `tunesmith up` running?"
            ) from error
        detail = body.get("error", body) if isinstance(body, dict) else body
        reason = detail.get("message", detail) if isinstance(detail, dict) else detail
        if status == 404:
            raise NotFound(str(reason))
        raise Unavailable(f"The supervisor could not start an engine for {base_model}: {reason}")


_EVENTS = msgspec.json.Decoder(EngineEvent)


def _read_events(lines: bytes) -> list[EngineEvent]:
    events = _EVENTS.decode_lines(lines)
    for event in events:
        if event.error is not None:
            raise Unavailable(f"The engine failed in the middle of a completion: {event.error.get('message')}")
    return events


async def _engine_error(base_model: str, response: aiohttp.ClientResponse) -> TunesmithError:
    try:
        error = (await response.json(content_type=None))["error"]
        code, message = str(error.get("code", "")), str(error["message"])
    except (ValueError, LookupError, TypeError, AttributeError):
        code, message = "", f"status {response.status} without a reason"
    if code == "adapter_not_loaded":
        return AdapterNotLoaded(message)
    if response.status == 401:
        return Internal(f"The engine of {base_model} does not take keys/engine.key; restart `tunesmith up`.")
    kinds = {400: InvalidArgument, 404: NotFound, 409: AlreadyExists, 429: ResourceExhausted, 503: Unavailable}
    kind = kinds.get(response.status, Internal)
    return kind(message if kind is not Internal else f"The engine of {base_model} failed: {message}")
