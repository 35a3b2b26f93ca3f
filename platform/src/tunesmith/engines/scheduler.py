"""The step loop: admits requests, decodes one token for every running candidate, delivers events, and starts again.

Everything here happens in one thread, which alone runs the model. Others talk to it through `post`: a command is a
function that is called between two steps.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable

import torch

from tunesmith.engines.cache import Prefix, PrefixCache, RowCache
from tunesmith.engines.engine import CandidateEvent, FinishReason
from tunesmith.engines.model import Model
from tunesmith.engines.sampling import BatchSettings, Draw, draw
from tunesmith.engines.sequences import Deliver, Message, Request, Sequence
from tunesmith.engines.text import Tokens
from tunesmith.errors import Internal, TunesmithError

logger = logging.getLogger(__name__)

ADMISSION_SECONDS = 0.003
"""An idle engine waits this long after the first request, so that calls sent together start together."""
PREFILL_TOKENS = 4096
"""Prompt tokens computed between two decode steps; more would stall the candidates that run."""
PACKED_TOKENS = 512
"""Prompts are computed in one pass up to so many tokens together; a longer one alone. The trial at the start has tried it."""
MAX_ROWS = 256
"""Candidates that run at the same time."""

Command = Callable[[], None]
Prompt = tuple[int, ...]


class _Batch:
    """The running candidates of one model: its sub-batch of every step."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.cache = RowCache[Sequence]()
        self._settings: tuple[object, BatchSettings] | None = None

    def step(self) -> tuple[list[Sequence], Draw]:
        """Decode one token for every row."""
        rows = self.cache.decode_pass()
        sequences = self.cache.rows()
        logits = self.model.decode(rows, [sequence.last_id for sequence in sequences])
        for sequence in sequences:
            sequence.position += 1
        return sequences, draw(logits, self._settings_of(sequences), [sequence.sampled for sequence in sequences])

    def _settings_of(self, sequences: list[Sequence]) -> BatchSettings:
        if self._settings is None or self._settings[0] is not sequences:
            self._settings = sequences, BatchSettings([sequence.settings for sequence in sequences])
        return self._settings[1]


class _Prefixes:
    """What the candidates that start together begin with, found or still to be computed."""

    def __init__(self) -> None:
        self._found: dict[tuple[Model, Prompt], Prefix | None] = {}
        self._requests: dict[tuple[Model, Prompt], list[Request]] = {}

    def knows(self, request: Request) -> bool:
        return (request.model, request.prompt_ids) in self._found

    def add(self, request: Request, found: Prefix | None) -> None:
        self._found.setdefault((request.model, request.prompt_ids), found)
        self._requests.setdefault((request.model, request.prompt_ids), []).append(request)

    def put(self, model: Model, prompt: Prompt, prefix: Prefix) -> None:
        self._found[model, prompt] = prefix

    def of(self, request: Request) -> Prefix | None:
        return self._found[request.model, request.prompt_ids]

    def requests_of(self, model: Model, prompt: Prompt) -> list[Request]:
        return self._requests[model, prompt]

    def packs(self) -> list[tuple[Model, list[Prompt]]]:
        """What is to be computed, several prompts of a model in one pass."""
        packs: list[tuple[Model, list[Prompt]]] = []
        room: dict[Model, tuple[list[Prompt], int]] = {}
        for (model, prompt), found in self._found.items():
            if found is not None:
                continue
            pack, left = room.get(model, ([], 0))
            if len(prompt) > left or not model.packs_prompts:
                pack, left = [], PACKED_TOKENS
                packs.append((model, pack))
            pack.append(prompt)
            room[model] = pack, left - len(prompt)
        return packs


class Scheduler:
    """Continuous batching over one base model and its adapters."""

    def __init__(self, tokens: Tokens, stop_ids: frozenset[int], kv_tokens: int, deliver: Deliver) -> None:
        self.kv_tokens = kv_tokens
        self._tokens = tokens
        self._stop_ids = stop_ids
        self._deliver = deliver
        self._commands: queue.SimpleQueue[Command | None] = queue.SimpleQueue()
        self._waiting: deque[Request] = deque()
        self._live: set[Request] = set()
        """Accepted and not ended."""
        self._batches: dict[int, _Batch] = {}
        self._retired: set[int] = set()
        self._prefixes = PrefixCache()
        self._reserved = 0
        self._running = 0
        self._messages: list[Message] = []
        self._thread = threading.Thread(target=self._loop, name="forward", daemon=True)

    # From any thread

    def start(self) -> None:
        """Start the forward thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the forward thread after the step in hand; requests that run are dropped."""
        self._commands.put(None)
        self._thread.join()

    def post(self, command: Command) -> None:
        """Have the forward thread call this between two steps."""
        self._commands.put(command)

    def submit(self, request: Request) -> None:
        """Queue a request."""
        self._commands.put(lambda: self._accept_request(request))

    def abort(self, request: Request) -> None:
        """End a request: each unfinished candidate gets a final event with reason `abort`."""
        self._commands.put(lambda: self._abort(request))

    def retire(self, model: Model) -> None:
        """Keep nothing of this model beyond the requests that run."""
        self._commands.put(lambda: self._retire(model))

    # In the forward thread

    def _loop(self) -> None:
        with torch.inference_mode():
            while self._take_commands():
                try:
                    self._admit()
                    for batch in list(self._batches.values()):
                        self._step(batch)
                except Exception as error:  # noqa: BLE001 - a fault of ours ends the requests at hand, never the loop
                    self._start_over(error)
                self._flush()

    def _start_over(self, error: Exception) -> None:
        logger.error("A step failed; every request that runs is ended.", exc_info=error)
        for request in list(self._live):
            self._fail(request, error)
        self._waiting.clear()
        self._batches = {}
        self._prefixes = PrefixCache()
        self._running = self._reserved = 0

    def _accept_request(self, request: Request) -> None:
        self._waiting.append(request)
        self._live.add(request)

    def _take_commands(self) -> bool:
        idle = not self._running and not self._waiting
        try:
            command = self._commands.get(block=idle)
            while True:
                if command is None:
                    return False
                self._call(command)
                if idle and self._waiting:
                    idle = False
                    time.sleep(ADMISSION_SECONDS)
                command = self._commands.get_nowait()
        except queue.Empty:
            return True

    def _call(self, command: Command) -> None:
        try:
            command()
        except Exception:  # one request's command: the thread, and with it every other request, goes on
            logger.exception("A command to the forward thread failed.")

    def _admit(self) -> None:
        """Start what fits, prefilling at most PREFILL_TOKENS (one prompt may exceed them)."""
        computed, started, prefixes = 0, list[Sequence](), _Prefixes()
        while self._waiting and computed < PREFILL_TOKENS:
            request = self._waiting[0]
            count = 0 if request.ended else self._admissible(request)
            if count:
                try:
                    computed += self._find_prefix(request, prefixes)
                    started += self._start(request, count)
                except Exception as error:  # noqa: BLE001 - whatever one request provokes is answered to it; the others go on
                    self._fail(request, error)
            elif not request.ended:
                break
            if request.ended or request.admitted == request.given.n:
                self._waiting.popleft()
        if started:
            self._prefixes.shrink(self.kv_tokens - self._reserved)
            for model, prompts in prefixes.packs():
                self._prefill(model, prompts, prefixes)
            entries = [(sequence, prefixes.of(sequence.request)) for sequence in started if not sequence.request.ended]
            self._first_tokens([(sequence, prefix) for sequence, prefix in entries if prefix is not None])

    def _admissible(self, request: Request) -> int:
        left = request.given.n - request.admitted
        return min(left, MAX_ROWS - self._running, (self.kv_tokens - self._reserved) // request.cost)

    def _find_prefix(self, request: Request, prefixes: _Prefixes) -> int:
        """Note what the request's candidates begin with; returns the tokens to compute for it."""
        known = prefixes.knows(request)
        found = None if known else self._prefixes.get(request.model.number, request.prompt_ids)
        if request.cached_tokens is None:
            request.cached_tokens = len(request.prompt_ids) if known or found else 0
        prefixes.add(request, found)
        return 0 if known or found else len(request.prompt_ids)

    def _prefill(self, model: Model, prompts: list[Prompt], prefixes: _Prefixes) -> None:
        try:
            found = model.prefill(prompts)
        except Exception as error:  # noqa: BLE001 - whatever one request provokes is answered to it; the others go on
            if len(prompts) > 1:
                for prompt in prompts:
                    self._prefill(model, [prompt], prefixes)
                return
            for request in prefixes.requests_of(model, prompts[0]):
                self._fail(request, error)
            return
        for prompt, prefix in zip(prompts, found, strict=True):
            prefixes.put(model, prompt, prefix)
            if model.number not in self._retired and bool(torch.isfinite(prefix.logits).all()):
                self._prefixes.put(model.number, prompt, prefix, self.kv_tokens - self._reserved)

    def _start(self, request: Request, count: int) -> list[Sequence]:
        first = request.admitted
        sequences = [Sequence(request, first + i, self._tokens, self._stop_ids) for i in range(count)]
        request.admitted += count
        request.running.update(sequences)
        self._running += count
        self._reserved += count * request.cost
        return sequences

    def _first_tokens(self, started: list[tuple[Sequence, Prefix]]) -> None:
        """Sample each started candidate's first token from its prompt's logits; those that go on get a slot."""
        sequences = [sequence for sequence, _ in started]
        logits = torch.stack([prefix.logits for _, prefix in started])
        self._accept(
            sequences, draw(logits, BatchSettings([sequence.settings for sequence in sequences]), [0] * len(started))
        )
        by_model: dict[Model, list[tuple[Sequence, Prefix]]] = {}
        for sequence, prefix in started:
            if sequence in sequence.request.running:
                by_model.setdefault(sequence.request.model, []).append((sequence, prefix))
        for model, entries in by_model.items():
            self._batches.setdefault(model.number, _Batch(model)).cache.insert(entries)

    def _step(self, batch: _Batch) -> None:
        if not len(batch.cache):
            del self._batches[batch.model.number]
            return
        try:
            sequences, drawn = batch.step()
        except Exception as error:  # noqa: BLE001 - a fault in one model's step must not end the other models' requests
            for request in {sequence.request for sequence in batch.cache.rows()}:
                self._fail(request, error)
            return
        self._accept(sequences, drawn)

    def _accept(self, sequences: list[Sequence], drawn: Draw) -> None:
        finished: list[Sequence] = []
        for row, sequence in enumerate(sequences):
            request = sequence.request
            if request.ended:
                continue
            try:
                if not drawn.valid[row]:
                    raise Internal(
                        f"The model {request.model.name or '(base)'} gave no probabilities after {sequence.sampled} tokens "
                        "(NaN or infinite logits). Its weights are damaged or training diverged; use an earlier version."
                    )
                event = sequence.accept(drawn, row)
            except Exception as error:  # noqa: BLE001 - whatever one request provokes is answered to it; the others go on
                self._fail(request, error)
                continue
            if event is not None:
                self._messages.append(Message(request, event))
                if event.finish_reason is not None:
                    finished.append(sequence)
        self._release(finished)

    def _release(self, sequences: list[Sequence], scrub: bool = False) -> None:
        by_model: dict[int, list[Sequence]] = {}
        for sequence in sequences:
            request = sequence.request
            if sequence not in request.running:  # its request failed in the same step
                continue
            request.running.remove(sequence)
            if request.admitted == request.given.n and not request.running:
                self._end(request)
            self._running -= 1
            self._reserved -= request.cost
            by_model.setdefault(request.model.number, []).append(sequence)
        for number, gone in by_model.items():
            if batch := self._batches.get(number):
                batch.cache.remove(gone, scrub)

    def _end(self, request: Request) -> None:
        request.ended = True
        self._live.discard(request)

    def _fail(self, request: Request, error: Exception) -> None:
        if not isinstance(error, TunesmithError):
            logger.error("A request failed.", exc_info=error)
            error = Internal(f"The engine failed on this request: {type(error).__name__}: {error}. See its log.")
        # The answer first: whatever goes wrong below, the caller has it.
        self._messages.append(Message(request, error))
        self._end(request)
        self._release(list(request.running), scrub=True)

    def _abort(self, request: Request) -> None:
        if request.ended:
            return
        self._end(request)
        running = sorted(request.running, key=lambda sequence: sequence.index)
        events = [sequence.finish(FinishReason.ABORT) for sequence in running]
        for index in range(request.admitted, request.given.n):
            events.append(CandidateEvent(index, finish_reason=FinishReason.ABORT, usage=request.usage(0)))
        self._release(running)
        self._messages += [Message(request, event) for event in events]
        if request in self._waiting:
            self._waiting.remove(request)

    def _retire(self, model: Model) -> None:
        self._retired.add(model.number)
        self._prefixes.forget(model.number)

    def _flush(self) -> None:
        if self._messages:
            self._deliver(self._messages)
            self._messages = []
