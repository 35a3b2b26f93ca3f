"""The loop's side of the scorers: who is idle, how long they may take, and what it means when one is gone."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import sys
from dataclasses import dataclass, field
from typing import Any

from eval_protocol.errors import EvalProtocolError
from eval_protocol.host.forks import CONTROL_BYTES
from eval_protocol.host.wire import LINE_LIMIT, encode

SPAWN_TRIES = 5
SPAWN_PAUSE_SECONDS = 0.5
"""Between tries when the system has no process to give."""
ADDED_BYTES = 16 * 1024 * 1024
"""An answer to a row may be that much longer than the row."""
DEEPEST = 64
"""Lists and objects inside each other in an answer."""
TOO_LONG = b"too long"
_PIECE_BYTES = 1 << 16
ENDING_SECONDS = 2.0
"""How long to wait for the word on how a scorer ended, once its socket is closed."""


class ScorerLost(EvalProtocolError):
    """The scorer did not answer: it took too long, or its process ended. The message is the row's reason."""


@dataclass
class _Scorer:
    number: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    ended: asyncio.Future[str] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class ScorerPool:
    """Scorers that answer one request each and are then replaced: what the code that ran in one did to it ends with it.

    Args:
        control: our end of the fork server's socket.
        size: number of scorers.
    """

    def __init__(self, control: socket.socket, size: int) -> None:
        self._control = control
        self._size = size
        self._numbers = itertools.count(1)
        self._idle: asyncio.Queue[_Scorer | str] = asyncio.Queue()
        """Scorers, and in the place of one that could not be started the reason."""
        self._spawning: dict[int, asyncio.Future[socket.socket]] = {}
        self._scorers: dict[int, _Scorer] = {}
        self._background: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Have all scorers forked."""
        self._control.setblocking(False)
        asyncio.get_running_loop().add_reader(self._control.fileno(), self._on_control)
        await asyncio.gather(*(self._add() for _ in range(self._size)))

    async def ask(self, request: dict[str, Any], timeout: float, what: str = "this row") -> dict[str, Any]:
        """The answer of the next idle scorer.

        Args:
            timeout: seconds from the moment that a scorer has the request.
            what: what it works on, for messages.

        Raises:
            ScorerLost: no answer, or none that can be read.
        """
        scorer = await self._idle.get()
        if isinstance(scorer, str):
            self._later(self._add())
            raise ScorerLost(f"No process could be started for {what}: {scorer}.")
        try:
            return await self._exchange(scorer, request, timeout, what)
        finally:
            self._later(self._replace(scorer))

    async def _exchange(self, scorer: _Scorer, request: dict[str, Any], timeout: float, what: str) -> dict[str, Any]:
        answering = asyncio.create_task(self._talk(scorer, request))
        try:
            await asyncio.wait({answering, scorer.ended}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            spoke = answering.done() and not answering.cancelled() and answering.exception() is None
            if spoke and (line := answering.result()):
                return _understood(line, what)
            if not answering.done() and not scorer.ended.done():
                raise ScorerLost(
                    f"The evaluator did not return within {timeout:g} s for {what}; its process was killed."
                )
            how = await self._ending(scorer)
            raise ScorerLost(f"The evaluator's process ended while it worked on {what} ({how}).")
        finally:
            answering.cancel()

    async def _talk(self, scorer: _Scorer, request: dict[str, Any]) -> bytes:
        """The scorer's line, empty when it closed its connection before the end of one."""
        sent = encode(request)
        scorer.writer.write(sent)
        await scorer.writer.drain()
        longest = LINE_LIMIT if request["op"] == "adapt" else len(sent) + ADDED_BYTES
        pieces, size = [], 0
        while piece := await scorer.reader.read(_PIECE_BYTES):
            line, newline, _ = piece.partition(b"\n")
            pieces.append(line)
            size += len(line)
            if size > longest:
                return TOO_LONG
            if newline:
                return b"".join(pieces)
        return b""

    async def _ending(self, scorer: _Scorer) -> str:
        done, _ = await asyncio.wait({scorer.ended}, timeout=ENDING_SECONDS)
        return scorer.ended.result() if done else "it closed its connection"

    async def _replace(self, scorer: _Scorer) -> None:
        scorer.writer.close()
        await self._tell({"op": "kill", "id": scorer.number})
        await self._add()

    async def _add(self) -> None:
        """Put a new scorer among the idle ones, or the reason why there is none."""
        for last in range(SPAWN_TRIES):
            try:
                self._idle.put_nowait(await self._spawn())
                return
            except OSError as error:
                print(f"evaluator host: no scorer could be started: {error}", file=sys.stderr, flush=True)
                if last == SPAWN_TRIES - 1:
                    self._idle.put_nowait(str(error))
                    return
                await asyncio.sleep(SPAWN_PAUSE_SECONDS)

    async def _spawn(self) -> _Scorer:
        number = next(self._numbers)
        spawning = self._spawning[number] = asyncio.get_running_loop().create_future()
        await self._tell({"op": "spawn", "id": number})
        connection = await spawning
        reader, writer = await asyncio.open_unix_connection(sock=connection, limit=LINE_LIMIT)
        scorer = self._scorers[number] = _Scorer(number, reader, writer)
        return scorer

    async def _tell(self, message: dict[str, Any]) -> None:
        await asyncio.get_running_loop().sock_sendall(self._control, json.dumps(message).encode())

    def _on_control(self) -> None:
        try:
            message, descriptors, _, _ = socket.recv_fds(self._control, CONTROL_BYTES, 1)
        except BlockingIOError:
            return
        if not message:  # the main process is gone, and the kernel is about to kill us, too
            asyncio.get_running_loop().remove_reader(self._control.fileno())
            return
        told = json.loads(message)
        number = told["id"]
        if told["op"] == "spawned":
            self._spawning.pop(number).set_result(socket.socket(fileno=descriptors[0]))
        elif told["op"] == "failed":
            self._spawning.pop(number).set_exception(OSError(told["message"]))
        elif (scorer := self._scorers.pop(number, None)) is not None and not scorer.ended.done():
            scorer.ended.set_result(told["how"])

    def _later(self, coroutine: Any) -> None:
        task = asyncio.create_task(coroutine)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def _understood(line: bytes, what: str) -> dict[str, Any]:
    """A scorer's answer, which its code may have written itself. Raises ScorerLost."""
    if line == TOO_LONG:
        raise ScorerLost(f"The evaluator's answer for {what} is longer than the row by more than {ADDED_BYTES} bytes.")
    try:
        answer = json.loads(line, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict) or _too_deep(answer, DEEPEST):
        raise ScorerLost(f"The evaluator's process wrote something that is no answer for {what}.")
    return answer


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _too_deep(value: Any, left: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    items = value.values() if isinstance(value, dict) else value
    return left == 0 or any(_too_deep(item, left - 1) for item in items)
