"""The process between the platform and a sandbox: `python -I -m tunesmith.evaluators.guard JSON`.

It stands outside, starts the sandboxed command in a control group, takes in what that prints (without what would steer a terminal,
and no more than a log can hold), serves the proxy that is its way to the network, and ends it with everything in it. Hostile bytes are
handled here and not in the worker; when this process dies, the sandbox dies with it. Stdlib only, so that it starts fast.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tunesmith.evaluators import cgroups, seccomp
from tunesmith.evaluators.proxy import Proxy, Rules

PROXY_PORT = 18079
"""Where the proxy is reached inside a network namespace of its own."""
LISTEN_FD, FILTER_FD, PROXY_PORT_WORD = "@listen@", "@filter@", "@proxy@"
"""Words of the command that stand for what is known only here."""
_BURST_BYTES = 8 * 1024 * 1024
_BYTES_PER_SECOND = 1024 * 1024
"""What a host may print: so much at once, and so much a second in the long run. The rest is counted and dropped."""
_NOT_PRINTED = bytes(b for b in (*range(32), 127) if b not in (9, 10, 13))
_C1_CONTROLS = re.compile(rb"\xc2[\x80-\x9f]")
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Plan:
    """What to start, and how it is watched; as JSON on the command line. No secrets: those are in the environment."""

    argv: list[str]
    name: str = "sandbox"
    listen: str | None = None
    """Unix socket on which the command serves; it gets it open, and never sees its folder."""
    hosts: list[tuple[str, int]] = field(default_factory=list)
    everything: bool = False
    routes: list[tuple[str, int, str]] = field(default_factory=list)
    own_ports: list[int] = field(default_factory=list)
    proxy_socket: str | None = None
    """Unix socket of the proxy, which the sandbox shows; None: no proxy, or with `proxy_tcp` a port on loopback."""
    proxy_tcp: bool = False
    memory_bytes: int | None = None
    """Of all processes together; None: no control group."""
    processes: int = 1024

    def command(self) -> list[str]:
        """The argv that carries it out."""
        return [sys.executable, "-I", "-m", "tunesmith.evaluators.guard", json.dumps(asdict(self))]


def main() -> int:
    """Returns the exit status of the command."""
    raw = json.loads(sys.argv[1])
    raw["hosts"] = [(host, port) for host, port in raw["hosts"]]
    raw["routes"] = [(host, port, path) for host, port, path in raw["routes"]]
    return asyncio.run(_watch(Plan(**raw)))


async def _watch(plan: Plan) -> int:
    loop = asyncio.get_running_loop()
    log = _Log()
    port = await _serve_proxy(plan, log)
    cgroups.sweep()
    group = None
    if plan.memory_bytes is not None:
        bounds = cgroups.Bounds(plan.memory_bytes, plan.processes)
        group = cgroups.make("host", bounds)
    try:
        child = _start(plan, port, group)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, child.kill)
        assert child.stdout is not None
        reading = asyncio.create_task(_take_in(child.stdout.fileno(), log))
        await _ended(child.pid)
        code = child.wait()
        if group is not None:
            group.end()
        # Everything that could hold the pipe's other end is dead, or, without a sandbox, not ours to wait for.
        await asyncio.wait({reading}, timeout=1.0)
        reading.cancel()
        log.close()
        return code if code >= 0 else 128 - code
    finally:
        if group is not None:
            group.end()
        for path in (plan.listen, plan.proxy_socket):
            if path is not None:
                Path(path).unlink(missing_ok=True)


def _start(plan: Plan, proxy_port: int, group: cgroups.Group | None) -> subprocess.Popen[bytes]:
    words = {PROXY_PORT_WORD: str(proxy_port)}
    passed: list[int] = []
    if plan.listen is not None:
        passed.append(_listen(plan.listen))
        words[LISTEN_FD] = str(passed[-1])
    if FILTER_FD in plan.argv:
        passed.append(_filter())
        words[FILTER_FD] = str(passed[-1])
    argv = [re.sub(r"@\w+@", lambda found: words.get(found[0], found[0]), word) for word in plan.argv]
    parent = os.getpid()

    def in_child() -> None:  # this process has one thread: nothing can hold a lock here
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(125)
        if group is not None:
            group.join()

    env = {**os.environ, **_proxy_environment(proxy_port)} if proxy_port else dict(os.environ)
    try:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=env,
            pass_fds=passed,
            preexec_fn=in_child,
        )
    except (OSError, subprocess.SubprocessError) as error:
        sys.exit(f"{argv[0]}: {error}")
    finally:
        for descriptor in passed:
            os.close(descriptor)


def _filter() -> int:
    descriptor = os.memfd_create("filter")
    os.write(descriptor, seccomp.program())
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _listen(path: str) -> int:
    """The descriptor of a socket that appears under its name only once it listens, for this user alone."""
    temporary = f"{path[:-1]}~"
    Path(temporary).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        listener.bind(temporary)
    finally:
        os.umask(mask)
    listener.listen(128)
    os.replace(temporary, path)
    return listener.detach()


async def _serve_proxy(plan: Plan, log: _Log) -> int:
    """Start the proxy; the port under which the command finds it, 0 for none."""
    if plan.proxy_socket is None and not plan.proxy_tcp:
        return 0
    routes = {(host, port): path for host, port, path in plan.routes}
    rules = Rules(frozenset(plan.hosts), plan.everything, routes, frozenset(plan.own_ports))
    proxy = Proxy(rules, log.say)
    if plan.proxy_socket is not None:
        Path(plan.proxy_socket).unlink(missing_ok=True)
        await asyncio.start_unix_server(proxy.serve, plan.proxy_socket)
        return PROXY_PORT
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    return server.sockets[0].getsockname()[1]


def _proxy_environment(port: int) -> dict[str, str]:
    proxy, direct = f"http://127.0.0.1:{port}", "localhost,127.0.0.1,::1"
    names = {"HTTP_PROXY": proxy, "HTTPS_PROXY": proxy, "NO_PROXY": direct}
    return {**names, **{name.lower(): value for name, value in names.items()}}


class _Log:
    """Our standard output, which is the log."""

    def __init__(self) -> None:
        self._allowance = float(_BURST_BYTES)
        self._last = time.monotonic()
        self._dropped = 0
        self._at_line_start = True

    def take(self, data: bytes) -> None:
        """What the command printed."""
        now = time.monotonic()
        self._allowance = min(_BURST_BYTES, self._allowance + (now - self._last) * _BYTES_PER_SECOND)
        self._last = now
        if len(data) > self._allowance:
            self._dropped += len(data)
            return
        self._allowance -= len(data)
        self._tell_dropped()
        # A carriage return would let a line be written over by the next.
        clean = _C1_CONTROLS.sub(b"", data.translate(None, _NOT_PRINTED).replace(b"\r\n", b"\n").replace(b"\r", b"\n"))
        self._write(clean)

    def say(self, line: str) -> None:
        """A line of ours."""
        start = b"" if self._at_line_start else b"\n"
        self._write(start + line.encode(errors="replace").translate(None, _NOT_PRINTED + b"\n\r") + b"\n")

    def close(self) -> None:
        """At the end."""
        self._tell_dropped()

    def _tell_dropped(self) -> None:
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            self.say(f"sandbox: {dropped} bytes were printed too fast and left out of this log")

    def _write(self, data: bytes) -> None:
        if data:
            self._at_line_start = data.endswith(b"\n")
            with contextlib.suppress(OSError):  # the disk is full: the evaluator goes on
                os.write(1, data)


async def _take_in(descriptor: int, log: _Log) -> None:
    loop = asyncio.get_running_loop()
    os.set_blocking(descriptor, False)
    while True:
        readable = loop.create_future()
        loop.add_reader(descriptor, lambda f=readable: f.done() or f.set_result(None))
        try:
            await readable
        finally:
            loop.remove_reader(descriptor)
        try:
            data = os.read(descriptor, 1 << 16)
        except BlockingIOError:
            continue
        if not data:
            return
        log.take(data)


async def _ended(pid: int) -> None:
    loop = asyncio.get_running_loop()
    handle = os.pidfd_open(pid)
    ended = loop.create_future()
    loop.add_reader(handle, lambda: ended.done() or ended.set_result(None))
    try:
        await ended
    finally:
        loop.remove_reader(handle)
        os.close(handle)


if __name__ == "__main__":
    sys.exit(main())
