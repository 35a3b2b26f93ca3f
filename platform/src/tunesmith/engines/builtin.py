"""The built-in engine: any dense decoder-only Hugging Face model on the CPU, behind the `Engine` protocol.

The event loop validates, resolves adapter names and hands requests to the scheduler's thread; events come back in one
call per step.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

import torch

from tunesmith.engines.adapters import load_adapter, read_weights
from tunesmith.engines.engine import AdapterNotLoaded
from tunesmith.engines.generation import QueuedGeneration
from tunesmith.engines.model import Model, context_length, load_model, stop_ids
from tunesmith.engines.scheduler import Scheduler
from tunesmith.engines.sequences import Message, Request
from tunesmith.engines.text import Tokens
from tunesmith.engines.trial import kv_bytes_per_token, try_model
from tunesmith.engines.wire import SHARED_PREFILL, AdapterInfo, EngineInfo, GenerateRequest
from tunesmith.errors import AlreadyExists, InvalidArgument

_MOST_KV_TOKENS = 2**18
_KV_MEMORY_SHARE = 0.25
"""Part of the machine's memory that keys and values may fill unless --kv-tokens says otherwise."""

Result = TypeVar("Result")


class BuiltinEngine:
    """One base model, its adapters by name, and the thread that runs them. Create it inside the event loop that uses it."""

    def __init__(self, folder: Path, base_model: str, kv_tokens: int | None = None) -> None:
        self._base = load_model(folder)
        self._base_model = base_model
        self._context = context_length(self._base.module)
        with torch.inference_mode():
            self._capabilities = [SHARED_PREFILL, *try_model(self._base, self._context)]
            bytes_per_token = kv_bytes_per_token(self._base)
        self._kv_tokens = kv_tokens or max(self._context, _default_kv_tokens(bytes_per_token))
        self._adapters: dict[str, Model] = {}
        self._loading = asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        self._generations: dict[Request, QueuedGeneration] = {}
        self._by_id: dict[str, Request] = {}
        self._scheduler = Scheduler(
            Tokens.read(folder), stop_ids(self._base.module, folder), self._kv_tokens, self._deliver_from_thread
        )
        self._scheduler.start()

    def close(self) -> None:
        """Stop the forward thread."""
        self._scheduler.stop()

    def generate(self, request: GenerateRequest) -> QueuedGeneration:
        """Accept a request."""
        model = self._model(request.model)
        self._check_ids(request.prompt_ids, "prompt_ids")
        prompt = len(request.prompt_ids)
        if prompt + 1 > self._context:
            raise InvalidArgument(
                f"The prompt has {prompt} tokens and the context of {self._base_model} is {self._context} tokens, of which "
                "at least one must be left for the answer. Shorten the prompt."
            )
        if 0 < request.temperature < 0.01:
            raise InvalidArgument(f"temperature = {request.temperature} is below 0.01; use 0 for greedy decoding.")
        if request.request_id is not None and request.request_id in self._by_id:
            raise AlreadyExists(f"A request with request_id {request.request_id!r} is running. Choose another id.")
        seed = secrets.randbits(64) if request.seed is None else request.seed
        accepted = Request(request, model, min(request.max_tokens, self._context - prompt), seed)
        if accepted.cost > self._kv_tokens:
            raise InvalidArgument(
                f"The request needs room for {accepted.cost} tokens (prompt {prompt}, max_tokens {accepted.max_tokens}) and "
                f"this engine keeps {self._kv_tokens} in all. Lower max_tokens or start it with a larger --kv-tokens."
            )
        generation = QueuedGeneration(request.n, lambda: self._cancel(accepted))
        self._generations[accepted] = generation
        if request.request_id is not None:
            self._by_id[request.request_id] = accepted
        self._scheduler.submit(accepted)
        return generation

    async def score(self, model: str | None, token_ids: list[int]) -> list[float]:
        """Log-probabilities of given tokens."""
        runs = self._model(model)
        self._check_ids(token_ids, "token_ids")
        if len(token_ids) > self._context:
            raise InvalidArgument(
                f"{len(token_ids)} tokens do not fit the context of {self._context} tokens. Send fewer."
            )
        return await self._in_thread(lambda: runs.score(token_ids))

    async def load(self, name: str, path: str) -> str:
        """Load an adapter. The file is read and merged outside the forward thread."""
        folder = Path(path)
        async with self._loading:
            if loaded := self._adapters.get(name):
                _, sha256 = await asyncio.to_thread(read_weights, folder)
                if sha256 != loaded.sha256:
                    raise AlreadyExists(
                        f"An adapter named {name} is loaded with sha256 {loaded.sha256}; {folder} has {sha256}. Names are "
                        "immutable: load it under a new name."
                    )
                return sha256
            adapter = await asyncio.to_thread(load_adapter, self._base, name, folder)
            self._adapters[name] = adapter
            return adapter.sha256

    async def unload(self, name: str) -> None:
        """Forget an adapter; running requests keep it until they end."""
        async with self._loading:
            self._scheduler.retire(self._model(name))
            del self._adapters[name]

    def abort(self, request_id: str) -> None:
        """End a request by id."""
        if request := self._by_id.get(request_id):
            self._scheduler.abort(request)

    def info(self) -> EngineInfo:
        """What is loaded."""
        return EngineInfo(
            base_model=self._base_model,
            context_length=self._context,
            vocab_size=self._base.vocab_size,
            dtype="float32",
            adapters=[AdapterInfo(name=name, sha256=model.sha256) for name, model in self._adapters.items()],
            capabilities=self._capabilities,
            pid=os.getpid(),
        )

    def describe(self) -> str:
        """One line for the log."""
        return f"context {self._context}, {self._kv_tokens} KV tokens, {', '.join(self._capabilities)}"

    def _model(self, name: str | None) -> Model:
        if name is None:
            return self._base
        try:
            return self._adapters[name]
        except KeyError:
            raise AdapterNotLoaded(
                f"No adapter named {name} is loaded on this engine of {self._base_model}. POST /load it first."
            ) from None

    def _check_ids(self, ids: list[int], field: str) -> None:
        if min(ids) < 0 or max(ids) >= self._base.vocab_size:
            wrong = next(i for i, token_id in enumerate(ids) if not 0 <= token_id < self._base.vocab_size)
            raise InvalidArgument(
                f"{field}[{wrong}] = {ids[wrong]} is not in the vocabulary of {self._base_model} "
                f"(0 to {self._base.vocab_size - 1}). Was it rendered with another model's tokenizer?"
            )

    def _cancel(self, request: Request) -> None:
        self._forget(request)
        self._scheduler.abort(request)

    def _forget(self, request: Request) -> None:
        self._generations.pop(request, None)
        if request.given.request_id is not None and self._by_id.get(request.given.request_id) is request:
            del self._by_id[request.given.request_id]

    def _deliver_from_thread(self, messages: list[Message]) -> None:
        self._loop.call_soon_threadsafe(self._deliver, messages)

    def _deliver(self, messages: list[Message]) -> None:
        for message in messages:
            generation = self._generations.get(message.request)
            if generation is not None and generation.put(message.content):
                self._forget(message.request)

    async def _in_thread(self, compute: Callable[[], Result]) -> Result:
        future: Future[Result] = Future()

        def command() -> None:
            try:
                future.set_result(compute())
            except Exception as error:  # noqa: BLE001 - handed to whoever waits
                future.set_exception(error)

        self._scheduler.post(command)
        return await asyncio.wrap_future(future)


def _default_kv_tokens(bytes_per_token: int) -> int:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(_MOST_KV_TOKENS, int(memory * _KV_MEMORY_SHARE) // bytes_per_token)
