"""vLLM as an `Engine`: one request of ours is one request to vLLM for each candidate, with a seed of its own."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.engines.engine import AdapterNotLoaded, FinishReason
from tunesmith.engines.generation import QueuedGeneration
from tunesmith.engines.text import Tokens
from tunesmith.engines.vllm.adapters import adapter_hash, base_shapes, take_adapter
from tunesmith.engines.vllm.candidate import Candidate, candidate_seed
from tunesmith.engines.vllm.client import VllmClient
from tunesmith.engines.vllm.server import VllmServer
from tunesmith.engines.wire import AdapterInfo, EngineInfo, GenerateRequest
from tunesmith.errors import AlreadyExists, FailedPrecondition, Internal, InvalidArgument, TunesmithError, Unavailable

logger = logging.getLogger(__name__)

_INTERVAL = 16
"""Tokens of a piece where the caller does not stream: a stop string is seen that many tokens late at most, and what follows it dropped."""


@dataclass(eq=False)
class _Adapter:
    served: str
    """Its name in vLLM: never used twice, since vLLM keeps prefixes by name."""
    sha256: str
    copy: Path | None
    """None: the base."""
    users: int = 0
    retired: bool = False


class _Request:
    """A running `/generate` call: a task for each candidate."""

    def __init__(self, given: GenerateRequest) -> None:
        self.given = given
        self.generation = QueuedGeneration(given.n, self.stop)
        self.tasks: list[tuple[asyncio.Task[None], Candidate]] = []

    def stop(self) -> None:
        """End what still runs."""
        for task, candidate in self.tasks:
            if not candidate.finished:
                # Here, not in the task: one that is cancelled before it began never runs.
                self.generation.put(candidate.finish(FinishReason.ABORT))
                task.cancel()


class VllmEngine:
    """One base model in one vLLM, and its adapters by name. Create it inside the event loop that uses it."""

    def __init__(self, server: VllmServer, client: VllmClient, context: int) -> None:
        self._server = server
        self._client = client
        self._context = context
        folder = server.options.folder
        config = _read_json(folder / "config.json")
        text = config.get("text_config") or config
        self._vocabulary: int = text["vocab_size"]
        self._dtype = "float32" if server.options.environment.cpu else str(config.get("dtype") or "auto")
        self._stop_ids = _stop_ids(text, _read_json(folder / "generation_config.json"))
        self._tokens = Tokens.read(folder)
        self._shapes = base_shapes(folder)
        self._base = _Adapter(server.options.name, "", None)
        self._adapters: dict[str, _Adapter] = {}
        self._numbers = itertools.count(1)
        self._loading = asyncio.Lock()
        self._by_id: dict[str, _Request] = {}
        self._unloading: set[asyncio.Task[None]] = set()
        self._any_temperature = False

    @classmethod
    async def start(cls, server: VllmServer) -> VllmEngine:
        """Start vLLM and try it. Raises Unavailable when it ends before it answers, InvalidArgument when the model is not usable."""
        client = await server.start()
        engine = cls(server, client, await client.context_length())
        await engine._try_temperature()
        return engine

    async def close(self) -> None:
        """Stop vLLM."""
        await self._client.close()
        await self._server.stop()

    def generate(self, request: GenerateRequest) -> QueuedGeneration:
        """Accept a request."""
        adapter = self._adapter(request.model)
        self._check_ids(request.prompt_ids, "prompt_ids")
        prompt = len(request.prompt_ids)
        if prompt + 1 > self._context:
            raise InvalidArgument(
                f"The prompt has {prompt} tokens and the context of {self._base.served} is {self._context} tokens, of which "
                "at least one must be left for the answer. Shorten the prompt."
            )
        if 0 < request.temperature < 0.01:
            raise InvalidArgument(f"temperature = {request.temperature} is below 0.01; use 0 for greedy decoding.")
        if request.temperature not in (0, 1) and not self._any_temperature:
            raise InvalidArgument(
                f"temperature = {request.temperature}: {self._server.options.environment} does not give log-probabilities at "
                "other temperatures than 0 and 1. Use one of them, or the built-in engine."
            )
        if request.request_id is not None and request.request_id in self._by_id:
            raise AlreadyExists(f"A request with request_id {request.request_id!r} is running. Choose another id.")
        running = _Request(request)
        if request.request_id is not None:
            self._by_id[request.request_id] = running
        seed = secrets.randbits(64) if request.seed is None else request.seed
        params = {
            "max_tokens": min(request.max_tokens, self._context - prompt), "temperature": request.temperature,
            "top_p": request.top_p, "top_k": request.top_k, "stop_token_ids": sorted(self._stop_ids),
        }  # fmt: skip
        for index in range(request.n):
            candidate = Candidate(request, index, self._tokens, self._stop_ids)
            own = {**params, "seed": candidate_seed(seed, index)}
            adapter.users += 1
            task = asyncio.create_task(self._run(running, candidate, adapter, own))
            task.add_done_callback(lambda _: self._ended(running, adapter))
            running.tasks.append((task, candidate))
        return running.generation

    async def score(self, model: str | None, token_ids: list[int]) -> list[float]:
        """Log-probabilities of given tokens."""
        adapter = self._adapter(model)
        self._check_ids(token_ids, "token_ids")
        if len(token_ids) >= self._context:
            raise InvalidArgument(
                f"{len(token_ids)} tokens do not fit the context of {self._context} tokens, of which vLLM leaves one free. "
                "Send fewer."
            )
        adapter.users += 1
        try:
            return await self._client.score(adapter.served, token_ids)
        finally:
            self._let_go(adapter)

    async def load(self, name: str, path: str) -> str:
        """Load an adapter: checked, copied and hashed here, then read by vLLM from the copy."""
        folder = Path(path)
        async with self._loading:
            if loaded := self._adapters.get(name):
                sha256 = await asyncio.to_thread(adapter_hash, folder)
                if sha256 != loaded.sha256:
                    raise AlreadyExists(
                        f"An adapter named {name} is loaded with sha256 {loaded.sha256}; {folder} has {sha256}. Names are "
                        "immutable: load it under a new name."
                    )
                return sha256
            number = next(self._numbers)
            copy = self._server.folder / "adapters" / str(number)
            rank = self._server.options.max_lora_rank
            served = f"adapter-{number}"
            try:
                sha256 = await asyncio.to_thread(take_adapter, folder, self._shapes, rank, copy)
                await self._client.load(served, copy)
            except Unavailable:
                shutil.rmtree(copy, ignore_errors=True)
                raise
            except TunesmithError as error:
                shutil.rmtree(copy, ignore_errors=True)
                if str(folder) in error.message:
                    raise
                raise InvalidArgument(f"The adapter in {folder} cannot be loaded: {error.message}") from error
            self._adapters[name] = _Adapter(served, sha256, copy)
            return sha256

    async def unload(self, name: str) -> None:
        """Forget an adapter; running requests keep it until they end."""
        async with self._loading:
            adapter = self._adapter(name)
            del self._adapters[name]
            adapter.retired = True
            self._let_go(adapter, 0)

    def abort(self, request_id: str) -> None:
        """End a request by id."""
        if running := self._by_id.get(request_id):
            running.stop()

    def info(self) -> EngineInfo:
        """What is loaded."""
        return EngineInfo(
            base_model=self._base.served,
            context_length=self._context,
            vocab_size=self._vocabulary,
            dtype=self._dtype,
            adapters=[AdapterInfo(name=name, sha256=adapter.sha256) for name, adapter in self._adapters.items()],
            capabilities=[],
            pid=os.getpid(),
        )

    def describe(self) -> str:
        """One line for the log."""
        temperatures = "any temperature" if self._any_temperature else "temperatures 0 and 1 only"
        return f"{self._server.options.environment}, context {self._context}, {temperatures}"

    async def _run(self, running: _Request, candidate: Candidate, adapter: _Adapter, params: dict[str, Any]) -> None:
        given = running.given
        interval = 1 if given.stream else _INTERVAL
        pieces = self._client.sample(adapter.served, given.prompt_ids, params, given.top_logprobs, interval)
        try:
            async for piece in pieces:
                event = candidate.accept(piece)
                if event is not None:
                    running.generation.put(event)
                if candidate.finished:
                    return
        except TunesmithError as error:
            self._fail(running, candidate, error)
        except Exception as error:  # an answer of another shape: unreported, the caller would wait for ever
            logger.exception("vLLM's answer was not understood")
            reason = f"vLLM's answer was not understood ({type(error).__name__}: {error}); see the engine's log."
            self._fail(running, candidate, Internal(reason))
        finally:
            await pieces.aclose()  # vLLM aborts what nobody reads

    @staticmethod
    def _fail(running: _Request, candidate: Candidate, error: TunesmithError) -> None:
        candidate.finished = True
        running.generation.put(error)
        running.stop()

    def _ended(self, running: _Request, adapter: _Adapter) -> None:
        self._let_go(adapter)
        name = running.given.request_id
        if name is not None and self._by_id.get(name) is running and all(task.done() for task, _ in running.tasks):
            del self._by_id[name]

    def _let_go(self, adapter: _Adapter, users: int = 1) -> None:
        adapter.users -= users
        if adapter.retired and not adapter.users:
            task = asyncio.create_task(self._forget(adapter))
            self._unloading.add(task)
            task.add_done_callback(self._unloading.discard)

    async def _forget(self, adapter: _Adapter) -> None:
        try:
            await self._client.unload(adapter.served)
        except TunesmithError:
            return  # it ended, and took everything along
        if adapter.copy is not None:
            await asyncio.to_thread(shutil.rmtree, adapter.copy, True)

    async def _try_temperature(self) -> None:
        """Does vLLM, this release on this machine, send what log-probabilities at other temperatures need?"""
        params = {"max_tokens": 1, "temperature": 0.5, "seed": 0}
        pieces = self._client.sample(self._base.served, [0], params, 0, 1)
        tokens = [token async for piece in pieces for token in piece.tokens]
        self._any_temperature = bool(tokens) and all(token.normaliser is not None for token in tokens)

    def _adapter(self, name: str | None) -> _Adapter:
        if name is None:
            return self._base
        try:
            return self._adapters[name]
        except KeyError:
            raise AdapterNotLoaded(
                f"No adapter named {name} is loaded on this engine of {self._base.served}. POST /load it first."
            ) from None

    def _check_ids(self, ids: list[int], field: str) -> None:
        if min(ids) < 0 or max(ids) >= self._vocabulary:
            wrong = next(i for i, token_id in enumerate(ids) if not 0 <= token_id < self._vocabulary)
            raise InvalidArgument(
                f"{field}[{wrong}] = {ids[wrong]} is not in the vocabulary of {self._base.served} "
                f"(0 to {self._vocabulary - 1}). Was it rendered with another model's tokenizer?"
            )


def _stop_ids(config: dict[str, Any], generation: dict[str, Any]) -> frozenset[int]:
    """Ids that end a candidate: eos_token_id of generation_config.json and of config.json."""
    found: set[int] = set()
    for value in (generation.get("eos_token_id"), config.get("eos_token_id")):
        found.update(value if isinstance(value, list) else [] if value is None else [value])
    return frozenset(found)


def _read_json(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text()) if file.is_file() else {}
    except (OSError, ValueError) as error:
        raise FailedPrecondition(f"{file} cannot be read ({error}). Fetch the model again.") from error
