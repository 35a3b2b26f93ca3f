"""Posting log lines without ever blocking or breaking the agent: a bounded queue, and a thread that sends over one kept connection.

Lines that carry a status go first and are kept while the gateway is away; chatter beyond the queue is dropped and counted. The thread
starts with the first line and ends when there has been nothing to do for a while.
"""

from __future__ import annotations

import http.client
import logging
import os
import threading
import time
from collections import deque
from typing import Any
from urllib.parse import urlsplit

import eval_protocol
from eval_protocol.proxies import proxy_for
from eval_protocol.tracing.lines import encode
from eval_protocol.tracing.route import TracingGateway

MOST_CHATTER = 1_000
"""Lines without a status that wait."""
MOST_CHATTER_BYTES = 16 * 2**20
MOST_STATUSES = 10_000
"""Lines with a status that wait: one or two for each rollout."""
TIMEOUT_SECONDS = 10.0
"""Longest wait for one answer, so that a hanging gateway holds the queue no longer."""
LONGEST_PAUSE_SECONDS = 5.0
"""Between tries while the gateway is away."""
REFUSAL_SECONDS = 300.0
"""A line that a gateway which is there answers with 5xx for so long is dropped, so that it holds up no other."""
IDLE_SECONDS = 15.0
"""After so long without a line the thread ends and the connection is closed."""
FLUSH_SECONDS = 2.0
"""What `flush` waits at most, at the end of the program, too."""

log = logging.getLogger("eval_protocol.tracing.posting")
"""What the thread itself has to say; the handler never posts these records."""


class _NoLock:
    """In place of a handler's lock."""

    def acquire(self) -> None:
        """Nothing."""

    def release(self) -> None:
        """Nothing."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


class GatewayHandler(logging.Handler):
    """Base of the handlers that post records. Posters guard themselves, so records are taken without a lock: at the end of the program
    `logging` holds a handler's lock while it flushes, and what the sending thread has to say would wait for its own sending.
    """

    def createLock(self) -> None:
        """None is needed."""
        self.lock = _NoLock()  # type: ignore[assignment]

    def is_ours(self, record: logging.LogRecord) -> bool:
        """Whether the posting itself says this, which is never posted. Where no other handler would show it, standard error does."""
        if record.name != log.name:
            return False
        shown = any(not isinstance(handler, GatewayHandler) for handler in logging.getLogger().handlers)
        if not shown and logging.lastResort is not None:
            logging.lastResort.handle(record)
        return True


class LogPoster:
    """Posts lines to one gateway. Safe to use from any thread; `put` returns at once and raises nothing.

    Args:
        gateway: where to, and the key.
        most_chatter: lines without a status that may wait; more are dropped and counted.
    """

    def __init__(self, gateway: TracingGateway, *, most_chatter: int = MOST_CHATTER) -> None:
        self.gateway = gateway
        self.dropped = 0
        """Lines that never arrived, since the poster was made."""
        self._most_chatter = most_chatter
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._changed = threading.Condition()
        self._statuses: deque[bytes] = deque()
        self._chatter: deque[bytes] = deque()
        self._chatter_bytes = 0
        self._sending = False
        self._thread: threading.Thread | None = None
        self._connection: http.client.HTTPConnection | None = None
        self._path: str | None = None
        self._away = False
        self._refused = False
        self._unsaid = 0

    def put(self, line: dict[str, Any]) -> None:
        """Queue one line (the body of `POST /logs`)."""
        if self._pid != os.getpid():
            self._reset()  # a fork has neither the thread nor the connection; what waited is the parent's to send
        data = encode(line)
        with self._changed:
            if line.get("status") is not None:
                if len(self._statuses) >= MOST_STATUSES:
                    self._drop("too many statuses wait")
                    return
                self._statuses.append(data)
            else:
                full = self._chatter_bytes + len(data) > MOST_CHATTER_BYTES
                if full or len(self._chatter) >= self._most_chatter:
                    self._drop()
                    return
                self._chatter.append(data)
                self._chatter_bytes += len(data)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="eval-protocol-logs", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def flush(self, timeout: float = FLUSH_SECONDS) -> bool:
        """Wait until all lines are sent, at most `timeout` seconds. Returns whether they are."""
        if self._pid != os.getpid():
            return True
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting() and not self._sending, timeout)

    @property
    def waiting(self) -> int:
        """Lines not yet sent."""
        with self._changed:
            return self._waiting() + self._sending

    def _waiting(self) -> int:
        return len(self._statuses) + len(self._chatter)

    def _drop(self, why: str = "") -> None:
        self.dropped += 1
        self._unsaid += 1
        if why:
            log.warning("A log line for %s was dropped: %s.", self.gateway.base, why)

    def _run(self) -> None:
        while (taken := self._take()) is not None:
            line, is_status = taken
            pause, began = 0.1, time.monotonic()
            while not self._send(line):
                with self._changed:
                    if self._refused and time.monotonic() - began > REFUSAL_SECONDS:
                        self._drop(f"{self.gateway.base} refused it for {REFUSAL_SECONDS:g} s")
                        break
                    if not is_status and self._changed.wait_for(lambda: self._statuses, pause):
                        self._chatter.appendleft(line)  # a status came meanwhile: it goes first
                        self._chatter_bytes += len(line)
                        break
                    if is_status:
                        self._changed.wait_for(lambda: False, pause)
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
            with self._changed:
                self._sending = False
                self._changed.notify_all()

    def _take(self) -> tuple[bytes, bool] | None:
        """The next line; None when there was none for a while, and the thread ends."""
        with self._changed:
            if not self._changed.wait_for(self._waiting, IDLE_SECONDS):
                self._thread = None
                connection, self._connection = self._connection, None
                if connection is not None:
                    connection.close()
                return None
            self._sending = True
            if self._statuses:
                return self._statuses.popleft(), True
            line = self._chatter.popleft()
            self._chatter_bytes -= len(line)
            return line, False

    def _send(self, line: bytes) -> bool:
        """Whether the line is dealt with: accepted, or refused for good."""
        try:
            status, answer = self._post(line)
        except (OSError, http.client.HTTPException) as error:
            self._disconnect()
            self._refused = False
            self._say_away(str(error) or type(error).__name__)
            return False
        self._refused = True
        if status in (408, 429) or status >= 500:
            self._say_away(f"it answers {status}")
            return False
        self._say_back()
        if status >= 300:
            with self._changed:
                self._drop(f"{status} {answer[:300].decode(errors='replace')}")
        return True

    def _post(self, line: bytes) -> tuple[int, bytes]:
        """One POST; the first answer that is not 404 settles whether `/logs` or `/v1/logs` it is, unless it comes from what stands in
        front of a gateway that is away (5xx)."""
        paths = [self._path] if self._path else ["/logs", "/v1/logs"]
        status, answer = 0, b""
        for path in paths:
            status, answer = self._request(path, line)
            if status != 404:
                self._path = path if status < 500 else self._path
                break
        return status, answer

    def _request(self, path: str, line: bytes) -> tuple[int, bytes]:
        parts = urlsplit(self.gateway.root)
        headers = {"Content-Type": "application/json", "User-Agent": f"eval-protocol/{eval_protocol.__version__}"}
        if self.gateway.key:
            headers["Authorization"] = f"Bearer {self.gateway.key}"
        for fresh in (self._connection is None, True):
            if self._connection is None:
                self._connection = _connect(self.gateway.root)
            try:
                self._connection.request("POST", parts.path + path, body=line, headers=headers)
                response = self._connection.getresponse()
                return response.status, response.read()
            except (OSError, http.client.HTTPException):
                self._disconnect()
                if fresh:
                    raise
                # The server closed the kept connection: once more on a new one.
        raise AssertionError("unreachable")

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _say_away(self, why: str) -> None:
        if not self._away:
            self._away = True
            log.warning(
                "The tracing gateway %s takes no log lines (%s). Statuses are kept until it does; other lines only while there is room.",
                self.gateway.base,
                why,
            )

    def _say_back(self) -> None:
        if not self._away:
            return
        self._away = False
        with self._changed:
            dropped, self._unsaid = self._unsaid, 0
        log.warning(
            "The tracing gateway %s takes log lines again; %d were dropped meanwhile.", self.gateway.base, dropped
        )


def _connect(url: str) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    proxy = proxy_for(url)
    if proxy is None:
        return kind(parts.netloc, timeout=TIMEOUT_SECONDS)
    connection = kind(urlsplit(proxy).netloc.rpartition("@")[2], timeout=TIMEOUT_SECONDS)
    connection.set_tunnel(parts.netloc)
    return connection
