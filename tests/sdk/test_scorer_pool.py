"""The pool of scorers against a fork server that has no process to give, or none yet."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
from eval_protocol.host import pool as pools
from eval_protocol.host.pool import ScorerLost, ScorerPool
from eval_protocol.host.wire import TAKEN

LINE = b'{"op":"score","row":{}}\n'


class ForkServer:
    """The other end of the pool's socket."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control

    async def asked(self) -> tuple[int, int, socket.socket | None]:
        """(number to start, number to end, the new one's socket)."""
        loop = asyncio.get_running_loop()
        readable = loop.create_future()
        loop.add_reader(self._control, readable.set_result, None)
        try:
            await asyncio.wait_for(readable, 20)
        finally:
            loop.remove_reader(self._control)
        message, descriptors, _, _ = socket.recv_fds(self._control, 4096, 1)
        new, old = map(int, message.split())
        return new, old, socket.socket(fileno=descriptors[0]) if descriptors else None

    def says(self, message: str) -> None:
        self._control.send(message.encode())


@pytest.fixture
async def fork_server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[ScorerPool, ForkServer]]:
    monkeypatch.setattr(pools, "SPAWN_PAUSE_SECONDS", 0.01)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        pool = ScorerPool(ours, 1)
        pool.start()
        yield pool, ForkServer(theirs)
        pool.close()


async def test_a_row_that_no_process_has_seen_waits_for_the_next(fork_server: tuple[ScorerPool, ForkServer]):
    pool, server = fork_server
    answer = asyncio.create_task(pool.ask(LINE, 20))
    number, _, connection = await server.asked()
    assert connection is not None
    server.says(f"failed {number} fork failed: no room")
    connection.close()
    again, old, connection = await server.asked()
    assert connection is not None
    assert (again, old) == (number + 1, 0), "nothing is to be ended: it never began"
    with connection:
        assert connection.recv(4096) == LINE
        connection.sendall(TAKEN + b'{"score": 1}\n')
        assert await answer == {"score": 1}
    _, old, connection = await server.asked()
    assert old == again, "what has answered is ended"
    assert connection is not None
    connection.close()


async def test_in_the_end_a_row_hears_why_there_is_no_process(fork_server: tuple[ScorerPool, ForkServer]):
    pool, server = fork_server
    answer = asyncio.create_task(pool.ask(LINE, 20))
    for _ in range(pools.SPAWN_TRIES):
        number, _, connection = await server.asked()
        server.says(f"failed {number} fork failed: no room")
        assert connection is not None
        connection.close()
    with pytest.raises(ScorerLost, match="No process could be started for this row: fork failed: no room"):
        await answer
    number, _, connection = await server.asked()  # it goes on trying for the next row
    assert number == pools.SPAWN_TRIES + 1
    assert connection is not None
    connection.close()


async def test_a_scorer_that_died_while_it_was_idle_costs_no_row(fork_server: tuple[ScorerPool, ForkServer]):
    pool, server = fork_server
    number, _, connection = await server.asked()
    assert connection is not None
    connection.close()
    server.says(f"ended {number} killed by SIGKILL")
    await asyncio.sleep(0)  # the pool reads that
    while pool._scorers:
        await asyncio.sleep(0.001)
    answer = asyncio.create_task(pool.ask(LINE, 20))
    again, old, connection = await server.asked()
    assert connection is not None
    assert (again, old) == (number + 1, number)
    with connection:
        assert connection.recv(4096) == LINE
        connection.sendall(TAKEN + b'{"score": 1}\n')
        assert await answer == {"score": 1}
    _, _, connection = await server.asked()
    assert connection is not None
    connection.close()


async def test_scorers_that_always_die_are_told_of(fork_server: tuple[ScorerPool, ForkServer]):
    pool, server = fork_server
    answer: asyncio.Task[object] | None = None
    while answer is None or not answer.done():
        number, _, connection = await server.asked()
        assert connection is not None
        connection.close()
        server.says(f"ended {number} killed by SIGKILL")
        while number in pool._scorers:
            await asyncio.sleep(0.001)
        answer = answer or asyncio.create_task(pool.ask(LINE, 20))
        await asyncio.sleep(0.01)
    with pytest.raises(ScorerLost, match="killed by SIGKILL"):
        await answer


async def test_a_row_has_its_time_from_when_a_process_has_it(fork_server: tuple[ScorerPool, ForkServer]):
    pool, server = fork_server
    answer = asyncio.create_task(pool.ask(LINE, 0.1))
    _, _, connection = await server.asked()
    assert connection is not None
    with connection:
        await asyncio.wait({answer}, timeout=0.3)
        assert not answer.done(), "it waits for a process as long as that takes"
        assert connection.recv(4096) == LINE
        connection.sendall(TAKEN)
        with pytest.raises(ScorerLost, match=r"did not return within 0.1 s for this row; its process was killed"):
            await answer
    _, _, connection = await server.asked()
    assert connection is not None
    connection.close()


async def test_a_process_that_never_begins_is_given_up(
    fork_server: tuple[ScorerPool, ForkServer], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(pools, "START_SECONDS", 0.05)
    pool, server = fork_server
    answer = asyncio.create_task(pool.ask(LINE, 20))
    number, _, connection = await server.asked()
    assert connection is not None
    with connection, pytest.raises(ScorerLost, match=r"No process took this row within 0.05 s"):
        await answer
    _, old, connection = await server.asked()
    assert old == number, "it is ended"
    assert connection is not None
    connection.close()
