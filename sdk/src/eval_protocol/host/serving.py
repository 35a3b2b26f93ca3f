"""The loop process: the unix socket, the rollouts, and the scorers' answers as events."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from eval_protocol.evaluation import rollout
from eval_protocol.evaluation.experiments import public_params
from eval_protocol.evaluation.runner import rollout_config
from eval_protocol.host.answers import AsTheyAre
from eval_protocol.host.confine import adopt_orphans
from eval_protocol.host.evaluator import HostedEvaluator
from eval_protocol.host.pool import ScorerLost, ScorerPool
from eval_protocol.host.wire import (
    LINE_LIMIT,
    REQUEST,
    Adapt,
    Answers,
    Attempt,
    Cancel,
    Describe,
    Run,
    dump_row,
    encode,
    rollout_event,
    score_request,
)
from eval_protocol.models import EvalMetadata, EvaluationRow, ExecutionMetadata, Status
from eval_protocol.rollouts import RolloutProcessor, RolloutProcessorConfig, SingleTurnRolloutProcessor

ADAPT_TIMEOUT_SECONDS = 600.0
CLEANUP_SECONDS = 2.0
LONGEST_REASON = 100_000
"""Characters of a score's reason."""
_IDS = ("invocation_id", "experiment_id", "rollout_id", "run_id")
Send = Callable[[dict[str, Any]], Awaitable[None]]


class _NoLog:
    """Rows go to the platform, not to a local store."""

    def log(self, row: EvaluationRow) -> None:
        """Nothing."""


def loop_main(evaluator: HostedEvaluator, address: Path | int, scorers: int, control: socket.socket) -> int:
    """Serve until SIGTERM, on the socket at a path or on one that is open already. Returns the exit code."""
    adopt_orphans()
    try:
        asyncio.run(_serve(evaluator, address, scorers, control))
    except OSError as error:
        print(f"The evaluator host cannot listen on {address}: {error}.", file=sys.stderr, flush=True)
        return 1
    return 0


async def _serve(evaluator: HostedEvaluator, address: Path | int, scorers: int, control: socket.socket) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    pool = ScorerPool(control, scorers)
    pool.start()
    processor = evaluator.spec.parameters.processor()
    processor.setup()
    host = Host(evaluator, pool, processor)
    listener = _listen(address)
    server = await asyncio.start_unix_server(host.connection, sock=listener, limit=LINE_LIMIT)
    try:
        await stop.wait()
    finally:
        server.close()
        if isinstance(address, Path):
            address.unlink(missing_ok=True)
        with suppress(TimeoutError):
            await asyncio.wait_for(host.acleanup(), CLEANUP_SECONDS)
        pool.close()


def _listen(path: Path | int) -> socket.socket:
    """An open one, or one that appears under its name only once it listens, for this user alone."""
    if isinstance(path, int):
        opened = socket.socket(fileno=path)
        opened.setblocking(False)
        return opened
    temporary = path.with_name(f".{path.name[:20]}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        listener.bind(str(temporary))
    finally:
        os.umask(mask)
    listener.listen(128)
    listener.setblocking(False)
    temporary.replace(path)
    return listener


class Host:
    """Answers the requests of all connections."""

    def __init__(self, evaluator: HostedEvaluator, pool: ScorerPool, processor: Any) -> None:
        self._evaluator = evaluator
        self._pool = pool
        self._processor = processor
        self._single_turn = SingleTurnRolloutProcessor()
        """Answers for an evaluator that rolls nothing out, when a run wants a model's."""
        self._attempts: dict[str, asyncio.Task[None]] = {}
        """What is being rolled out or scored, by rollout id of the attempt."""

    async def acleanup(self) -> None:
        """Let go of what the processors hold."""
        await self._single_turn.acleanup()
        await self._processor.acleanup()

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection; when it closes, its runs are cancelled."""
        lock = asyncio.Lock()
        work: dict[str, asyncio.Task[None]] = {}

        async def send(message: dict[str, Any]) -> None:
            async with lock:
                writer.write(encode(message))
                await writer.drain()

        try:
            while line := await reader.readline():
                await self._request(line, send, work)
        except (ConnectionError, ValueError) as error:
            # ValueError: a line above the limit; what follows it cannot be made sense of.
            if isinstance(error, ValueError):
                with suppress(ConnectionError):
                    await send({"type": "error", "message": f"A line of more than {LINE_LIMIT} bytes: {error}."})
        finally:
            for task in work.values():
                task.cancel()
            await asyncio.gather(*work.values(), return_exceptions=True)
            writer.close()

    async def _request(self, line: bytes, send: Send, work: dict[str, asyncio.Task[None]]) -> None:
        request_id = None
        try:
            raw = json.loads(line)
            request_id = raw.get("request_id") if isinstance(raw, dict) else None
            request = REQUEST.validate_python(raw)
        except (ValueError, ValidationError) as error:
            await send(_error(f"Not a request of the evaluator host: {_short(error)}", request_id))
            return
        if isinstance(request, Describe):
            await send(self._evaluator.described())
        elif isinstance(request, Adapt):
            self._start(work, f"adapt {id(request)}", self._adapt(request, send))
        elif isinstance(request, Cancel):
            if request.rollouts is not None:
                for rollout_id in request.rollouts:
                    if (attempt := self._attempts.get(rollout_id)) is not None:
                        attempt.cancel()
                await send({"type": "done", "request_id": request.request_id})
            elif request.request_id in work:
                work[request.request_id].cancel()
            else:
                await send({"type": "done", "request_id": request.request_id})
        elif request.request_id in work:
            await send(_error(f"The request {request.request_id} is running already.", request.request_id))
        else:
            self._start(work, request.request_id, self._run(request, send))

    def _start(self, work: dict[str, asyncio.Task[None]], name: str, coroutine: Any) -> None:
        task = work[name] = asyncio.create_task(coroutine)
        task.add_done_callback(lambda _: work.pop(name, None))

    async def _adapt(self, request: Adapt, send: Send) -> None:
        try:
            asked = encode({"op": "adapt", "rows": request.rows})
            answer = await self._pool.ask(asked, ADAPT_TIMEOUT_SECONDS, what="the dataset", longest=LINE_LIMIT)
        except ScorerLost as error:
            answer = {"error": str(error)}
        with suppress(ConnectionError):
            await send(_error(answer["error"]) if "error" in answer else {"type": "adapted", "rows": answer["rows"]})

    async def _run(self, request: Run, send: Send) -> None:
        """Roll out and score all attempts; `done` comes last, also when cancelled."""
        config = rollout_config(
            self._evaluator.spec, request.completion_params, request.max_concurrent_rollouts, _NoLog()
        )
        begun: list[tuple[Attempt, EvaluationRow]] = []
        tasks: list[rollout.RowTask] = []
        processor = self._processor_for(request)
        try:
            for attempt in request.attempts:
                try:
                    begun.append((attempt, self._row(request, attempt)))
                except ValidationError as error:
                    reason = f"The row is not an evaluation row: {_short(error)}"
                    await send(rollout_event(request.request_id, attempt, attempt.row, reason, None))
            tasks = rollout.start(processor, [row for _, row in begun], config)
            async with asyncio.TaskGroup() as group:
                for (attempt, row), task in zip(begun, tasks, strict=True):
                    working = group.create_task(self._attempt(request, attempt, row, task, processor, config, send))
                    self._attempts[attempt.rollout_id] = working
                    working.add_done_callback(partial(self._forget, attempt.rollout_id))
        except* ConnectionError:
            pass  # nobody is there to be told
        finally:
            for task in tasks:
                task.cancel()
            with suppress(ConnectionError):
                await send({"type": "done", "request_id": request.request_id})

    async def _attempt(
        self,
        request: Run,
        attempt: Attempt,
        row: EvaluationRow,
        task: rollout.RowTask,
        processor: RolloutProcessor,
        config: RolloutProcessorConfig,
        send: Send,
    ) -> None:
        row = await rollout.settle(processor, row, task, lambda: self._row(request, attempt), config)
        await send(await self._event(request, attempt, row))

    def _forget(self, rollout_id: str, attempt: asyncio.Task[None]) -> None:
        if self._attempts.get(rollout_id) is attempt:
            del self._attempts[rollout_id]

    async def _event(self, request: Run, attempt: Attempt, row: EvaluationRow) -> dict[str, Any]:
        last_id = row.execution_metadata.rollout_id
        try:
            dumped = dump_row(row)
            asked = score_request(encode(dumped))  # finds NaN and infinity, which the dump lets pass
        except (ValueError, TypeError) as error:  # what a processor put on the row is no JSON
            row = self._row(request, attempt)
            row.execution_metadata.rollout_id = last_id
            row.rollout_status = Status.rollout_error(f"The rollout cannot be written as JSON: {_short(error)}")
            dumped, asked = dump_row(row), b""
        if row.rollout_status.is_error():
            reason = row.rollout_status.message or row.rollout_status.code.name
            return rollout_event(request.request_id, attempt, dumped, reason, None, last_id=last_id)
        try:
            answer = await self._pool.ask(asked, self._evaluator.timeout)
        except ScorerLost as error:
            answer = {"row": _unscored(dumped, str(error)), "reason": str(error), "score": None}
        scored, reason, score = _scored(answer, dumped, rolled_out=self._evaluator.rolls_out)
        return rollout_event(request.request_id, attempt, scored, reason, score, last_id=last_id)

    def _processor_for(self, request: Run) -> RolloutProcessor:
        if request.answers is Answers.SCORE:
            return AsTheyAre()
        if request.answers is Answers.REPLACE and not self._evaluator.rolls_out:
            return self._single_turn
        return self._processor

    def _row(self, request: Run, attempt: Attempt) -> EvaluationRow:
        """The row, ready for its rollout: gold answer dropped (unless it is what is scored), ids set."""
        row = EvaluationRow.model_validate(attempt.row)
        if request.answers is Answers.REPLACE or (request.answers is None and self._evaluator.rolls_out):
            row.drop_trailing_assistant_messages()
        row.ensure_row_id()
        row.pid = os.getpid()
        row.rollout_status = Status.rollout_running()
        row.evaluation_result = None
        row.input_metadata.completion_params = public_params(request.completion_params)
        row.execution_metadata = ExecutionMetadata(
            invocation_id=request.invocation_id,
            experiment_id=request.invocation_id,
            run_id=f"k{attempt.k}",
            rollout_id=attempt.rollout_id,
            extra=row.execution_metadata.extra,
        )
        row.eval_metadata = EvalMetadata(name=self._evaluator.spec.name, status=Status.eval_running())
        return row


def _scored(
    answer: dict[str, Any], asked: dict[str, Any], *, rolled_out: bool
) -> tuple[dict[str, Any], str, float | None]:
    """(row, reason, score) of a scorer's answer. The row's ids, and the messages of a rollout, are as they were asked."""
    row, reason, score = answer.get("row"), answer.get("reason"), answer.get("score")
    number = isinstance(score, int | float) and not isinstance(score, bool) and 0 <= score <= 1
    if not isinstance(row, dict) or not isinstance(reason, str) or not (score is None or number):
        problem = "The evaluator's process wrote something that is no answer for this row."
        return _unscored(asked, problem), problem, None
    row = {**row, **({name: asked[name] for name in ("messages", "tools") if name in asked} if rolled_out else {})}
    ids = {name: value for name, value in asked["execution_metadata"].items() if name in _IDS}
    row["execution_metadata"] = {**_dict(row.get("execution_metadata")), **ids}
    row["input_metadata"] = {**_dict(row.get("input_metadata")), "row_id": asked["input_metadata"]["row_id"]}
    return row, reason[:LONGEST_REASON], score


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _unscored(row: dict[str, Any], reason: str) -> dict[str, Any]:
    result = {"score": 0.0, "is_score_valid": False, "reason": reason, "metrics": {}, "error": reason}
    return {**row, "evaluation_result": result}


def _error(message: str, request_id: str | None = None) -> dict[str, Any]:
    return {"type": "error", "message": message, **({"request_id": request_id} if request_id else {})}


def _short(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"`{'.'.join(str(part) for part in first['loc'])}`: {first['msg']}"
    return str(error).splitlines()[0]
