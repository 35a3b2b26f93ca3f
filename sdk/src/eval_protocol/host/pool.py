"""The loop's side of the scorers: who is idle, how long they may take, and what it means when one is gone."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import sys
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from eval_protocol.errors import EvalProtocolError
from eval_protocol.host.forks import CONTROL_BYTES
from eval_protocol.host.wire import TAKEN

SPAWN_TRIES = 5
SPAWN_PAUSE_SECONDS = 0.5
"""Between tries when the system has no process to give."""
START_SECONDS = 600.0
"""For a scorer to take its request. It has no process yet while the system is short of something; one that cannot begin is given up."""
ADDED_BYTES = 16 * 1024 * 1024
"""An answer to a row may be that much longer than the row."""
DEEPEST = 64
"""Lists and objects inside each other in an answer."""
_PIECE_BYTES = 1 << 16
ENDING_SECONDS = 2.0
"""How long to wait for the word on how a scorer ended, once its socket is closed."""


class ScorerLost(EvalProtocolError):
    """The scorer did not answer: it took too long, or its process ended. The message is the row's reason."""


class _NeverStarted(Exception):
    """No process came of the scorer that the request was meant for: nobody has seen it."""


@dataclass
class _Scorer:
    number: int
    connection: socket.socket
    """Its other end goes to the fork server, and with the process into the scorer: what is written before that waits there."""
    tries: int
    ended: asyncio.Future[str] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    """How, in the fork server's words."""
    started: bool = True
    """False once the fork server could not fork it."""


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
        self._scorers: dict[int, _Scorer] = {}
        self._unsent: deque[tuple[bytes, socket.socket | None]] = deque()

    def start(self) -> None:
        """Have all scorers forked."""
        self._control.setblocking(False)
        asyncio.get_running_loop().add_reader(self._control, self._on_control)
        for _ in range(self._size):
            self._spawn()

    def close(self) -> None:
        """Let go of all scorers. The fork server ends them with the loop."""
        asyncio.get_running_loop().remove_reader(self._control)
        for scorer in self._scorers.values():
            scorer.connection.close()

    async def ask(
        self, line: bytes, timeout: float, *, what: str = "this row", longest: int | None = None
    ) -> dict[str, Any]:
        """The answer of the next idle scorer.

        Args:
            line: the request.
            timeout: seconds from the moment that a scorer has the request.
            what: it works on, for messages.
            longest: bytes of an answer; None = the request's and ADDED_BYTES.

        Raises:
            ScorerLost: no answer, or none that can be read.
        """
        died = 0
        while True:
            scorer = await self._idle.get()
            if isinstance(scorer, str):
                self._spawn()
                raise ScorerLost(f"No process could be started for {what}: {scorer}.")
            if scorer.ended.done() and died < SPAWN_TRIES:  # while it was idle, so it is none of this row's doing
                died += scorer.started
                self._replace(scorer)
                continue
            try:
                return await self._exchange(scorer, line, timeout, what, longest or len(line) + ADDED_BYTES)
            except _NeverStarted:
                continue
            finally:
                self._replace(scorer)

    async def _exchange(self, scorer: _Scorer, line: bytes, timeout: float, what: str, longest: int) -> dict[str, Any]:
        answer, taken = b"", False
        try:
            async with asyncio.timeout(START_SECONDS) as limit:
                taken = await _hand_over(scorer.connection, line)
                limit.reschedule(asyncio.get_running_loop().time() + timeout)
                answer = await _answer(scorer.connection, longest) if taken else b""
        except TimeoutError:
            if not taken:
                raise ScorerLost(f"No process took {what} within {START_SECONDS:g} s.") from None
            raise ScorerLost(
                f"The evaluator did not return within {timeout:g} s for {what}; its process was killed."
            ) from None
        except ConnectionError:
            pass  # it has ended
        if len(answer) > longest:
            raise ScorerLost(
                f"The evaluator's answer for {what} is longer than the row by more than {ADDED_BYTES} bytes."
            )
        if answer:
            return _understood(answer, what)
        done, _ = await asyncio.wait({scorer.ended}, timeout=ENDING_SECONDS)
        if not scorer.started:
            raise _NeverStarted
        how = scorer.ended.result() if done else "it closed its connection"
        raise ScorerLost(f"The evaluator's process ended while it worked on {what} ({how}).")

    def _replace(self, scorer: _Scorer) -> None:
        scorer.connection.close()
        self._scorers.pop(scorer.number, None)
        if scorer.started:
            self._spawn(instead_of=scorer.number)

    def _spawn(self, instead_of: int = 0, tries: int = 1) -> None:
        """Put a new scorer among the idle ones, and have an old one ended."""
        number = next(self._numbers)
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        except OSError as error:
            self._tell(b"0 %d" % instead_of)
            self._failed(str(error), tries)
            return
        ours.setblocking(False)
        scorer = self._scorers[number] = _Scorer(number, ours, tries)
        self._idle.put_nowait(scorer)
        self._tell(b"%d %d" % (number, instead_of), theirs)

    def _failed(self, reason: str, tries: int) -> None:
        """Try again in a while; in the end, somebody who waits for a scorer gets the reason why there is none."""
        print(f"evaluator host: no scorer could be started: {reason}", file=sys.stderr, flush=True)
        if tries >= SPAWN_TRIES:
            self._idle.put_nowait(reason)
        else:
            asyncio.get_running_loop().call_later(SPAWN_PAUSE_SECONDS, self._spawn, 0, tries + 1)

    def _tell(self, message: bytes, descriptor: socket.socket | None = None) -> None:
        self._unsent.append((message, descriptor))
        if len(self._unsent) == 1:
            self._send()

    def _send(self) -> None:
        """What the fork server has room for; the rest when it has."""
        loop = asyncio.get_running_loop()
        loop.remove_writer(self._control)
        while self._unsent:
            message, theirs = self._unsent[0]
            try:
                socket.send_fds(self._control, [message], [theirs.fileno()] if theirs else [])
            except BlockingIOError:
                loop.add_writer(self._control, self._send)
                return
            except ConnectionError:
                pass  # the main process is gone, and the kernel is about to kill us, too
            except OSError as error:  # the system is out of something
                print(f"evaluator host: no scorer could be asked for: {error}", file=sys.stderr, flush=True)
                loop.call_later(SPAWN_PAUSE_SECONDS, self._send)
                return
            self._unsent.popleft()
            if theirs:
                theirs.close()

    def _on_control(self) -> None:
        try:
            message = self._control.recv(CONTROL_BYTES)
        except BlockingIOError:
            return
        if not message:  # the main process is gone, as above
            asyncio.get_running_loop().remove_reader(self._control)
            return
        told, number, text = message.decode().split(" ", 2)
        scorer = self._scorers.pop(int(number), None)
        if scorer is None:
            return
        if told == "failed":
            scorer.started = False
            self._failed(text, scorer.tries)
        scorer.ended.set_result(text)
        with suppress(OSError):  # whoever waits for its answer, from it or from what it left behind, hears no more
            scorer.connection.shutdown(socket.SHUT_RDWR)


async def _hand_over(connection: socket.socket, line: bytes) -> bool:
    """Send the request and wait until a process has it; False when the connection was closed before that."""
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(connection, line)
    return await loop.sock_recv(connection, len(TAKEN)) == TAKEN


async def _answer(connection: socket.socket, longest: int) -> bytes:
    """The answering line; empty when the connection was closed before its end; its beginning when it is longer than `longest`."""
    loop = asyncio.get_running_loop()
    pieces, size = [], 0
    while piece := await loop.sock_recv(connection, _PIECE_BYTES):
        answer, newline, _ = piece.partition(b"\n")
        pieces.append(answer)
        size += len(answer)
        if newline or size > longest:
            return b"".join(pieces)
    return b""


def _understood(line: bytes, what: str) -> dict[str, Any]:
    """A scorer's answer, which its code may have written itself. Raises ScorerLost."""
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
