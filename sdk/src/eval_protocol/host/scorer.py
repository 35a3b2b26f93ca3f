"""A scorer process: one request, with the runner's own scoring code, in the process's main thread."""

from __future__ import annotations

import asyncio
import inspect
import json
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from eval_protocol.datasets import adapt_rows
from eval_protocol.errors import EvalProtocolError
from eval_protocol.evaluation import scoring
from eval_protocol.evaluation.aggregation import invalid_reason, valid_score
from eval_protocol.evaluation.experiments import preprocess
from eval_protocol.host.evaluator import HostedEvaluator
from eval_protocol.host.wire import TAKEN, dump_row, encode, score_request
from eval_protocol.models import EvaluateResult, EvaluationRow, ExecutionMetadata, Message, MetricResult

_PIECE_BYTES = 1 << 16
_REHEARSALS = 16
"""Python 3.11 makes code fast that has run 8 times."""


def scorer_main(evaluator: HostedEvaluator, connection: socket.socket) -> None:
    """Answer one request, and wait to be killed: coming to an end would only take longer."""
    _serve(evaluator, connection)
    while True:
        signal.pause()


def _serve(evaluator: HostedEvaluator, connection: socket.socket) -> None:
    line = _line(connection)
    if not line:
        return
    connection.sendall(TAKEN)
    request = json.loads(line)
    if request["op"] == "adapt":
        reply = encode(_adapt(evaluator, request["rows"]))
    else:
        reply = _reply(evaluator.spec.function, evaluator.kwargs, request["row"], line)
    for stream in (sys.stdout, sys.stderr):  # after the answer, this process may be killed at any moment
        with suppress(Exception):  # the evaluator may have put anything in their place
            stream.flush()
    connection.sendall(reply)


def _line(connection: socket.socket) -> str:
    """The request; empty when the other end closed before the end of it."""
    pieces: list[bytes] = []
    while not pieces or not pieces[-1].endswith(b"\n"):
        if not (piece := connection.recv(_PIECE_BYTES)):
            return ""
        pieces.append(piece)
    return b"".join(pieces).decode()


def _reply(function: Callable[..., Any], kwargs: dict[str, Any], given: dict[str, Any], line: str) -> bytes:
    row = _score(function, EvaluationRow.model_validate(given), kwargs)
    try:
        return encode(_scored(row))
    except (ValueError, TypeError) as error:  # what the evaluator put on the row is no JSON
        reason = f"The evaluator put something on the row that cannot be written as JSON: {error}"
        before = EvaluationRow.model_validate(json.loads(line)["row"])
        return encode(_scored(scoring.invalidate(before, reason.splitlines()[0], error=str(error))))


def _score(function: Callable[..., Any], row: EvaluationRow, kwargs: dict[str, Any]) -> EvaluationRow:
    """`scoring.score`, with an event loop only for what needs one: making it costs several times what scoring does.

    A body that is no coroutine function sees none, as in the local runner, where it has a thread of its own.
    """
    if inspect.iscoroutinefunction(function):
        return _in_loop(scoring.score(function, row, kwargs))

    def body(**arguments: Any) -> Any:
        returned = function(**arguments)
        return _in_loop(returned) if inspect.isawaitable(returned) else returned

    try:
        scoring.score(body, row, kwargs).send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("Scoring waited for something without an event loop.")


def _in_loop(work: Awaitable[Any]) -> Any:
    """The result. The loop is left open: what the evaluator left running in it ends with the process, and nobody waits for it."""

    async def waiting() -> Any:
        return await work

    runner = asyncio.Runner()
    _left_open.append(runner)
    return runner.run(waiting())


_left_open: list[asyncio.Runner] = []


def _scored(row: EvaluationRow) -> dict[str, Any]:
    score = valid_score(row)
    result = row.evaluation_result
    reason = invalid_reason(row) if score is None else (result.reason or "" if result else "")
    return {"row": dump_row(row), "score": score, "reason": reason}


def _adapt(evaluator: HostedEvaluator, raw: list[dict[str, Any]]) -> dict[str, Any]:
    """The dataset_adapter and preprocess_fn of the test; the rows get their ids."""
    try:
        rows = preprocess(evaluator.spec, adapt_rows(evaluator.spec.parameters.dataset_adapter, raw))
        for row in rows:
            row.ensure_row_id()
        return {"rows": [dump_row(row) for row in rows]}
    except (EvalProtocolError, ValueError, TypeError, AttributeError) as error:
        return {"error": str(error)}


def rehearse(evaluator: HostedEvaluator) -> None:
    """Score a made-up row in the process that scorers are forked from, with a body of ours in the evaluator's place.

    What is built and remembered on the way (validators, caches, code made fast) is then there for all of them, on pages that they share.
    So is what Python itself does in each new process; where there is one thread, doing it here changes nothing.
    """
    after_fork = getattr(threading, "_after_fork", None)
    if after_fork is not None and threading.active_count() == 1:
        for _ in range(_REHEARSALS):
            after_fork()
    row = EvaluationRow(messages=[Message(role="user", content="1+1"), Message(role="assistant", content="2")])
    row.ground_truth = "2"
    row.ensure_row_id()
    row.execution_metadata = ExecutionMetadata(invocation_id="i", experiment_id="i", run_id="k0", rollout_id="r")
    line = score_request(encode(dump_row(row)))
    body = _right_in_loop if evaluator.spec.is_async else _right
    stand_in = replace(evaluator, spec=replace(evaluator.spec, function=body), kwargs={})
    for _ in range(_REHEARSALS):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with ours, theirs:
            ours.sendall(line)
            ours.shutdown(socket.SHUT_WR)
            _serve(stand_in, theirs)
    while _left_open:
        _left_open.pop().close()


def _right(row: EvaluationRow) -> EvaluationRow:
    assert row.last_assistant_message() is not None
    row.evaluation_result = EvaluateResult(
        score=1.0, reason="right", metrics={"right": MetricResult(score=1.0, is_score_valid=True, reason="right")}
    )
    return row


async def _right_in_loop(row: EvaluationRow) -> EvaluationRow:
    return _right(row)
