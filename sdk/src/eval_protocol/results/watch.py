"""Telling open UIs that something was committed, with nobody asking every second.

Each UI listens on a datagram socket of its own in the folder `{store}.watch/`; a writer sends a word to each after a commit. The word
only wakes: what changed is read from the store, by ids that only grow. So a word that is lost because a UI's queue is
full costs nothing, another one is waiting there already.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from eval_protocol.errors import ResultsError

WORD = b"!"
LONGEST_ADDRESS = 100
"""Bytes; the kernel takes 107 for the path of a unix socket."""


def watch_folder(store: Path) -> Path:
    """Where the sockets of a store's UIs lie."""
    return store.with_name(store.name + ".watch")


class Caller:
    """A writer's end. Never waits, and never fails: without a UI a call is one look at a folder that is not there."""

    def __init__(self, store: Path) -> None:
        self._folder = watch_folder(store)
        self._socket: socket.socket | None = None

    def call(self) -> None:
        """Wake all UIs."""
        try:
            names = os.listdir(self._folder)
        except OSError:
            return
        for name in names:
            with (
                suppress(OSError),
                _address(self._folder, name) as address,
            ):  # it ended, or has words enough in its queue
                self._opened().sendto(WORD, address)

    def close(self) -> None:
        """Give the socket back."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _opened(self) -> socket.socket:
        if self._socket is None:
            self._socket = _datagrams()
        return self._socket


class Ear:
    """A UI's end: a socket in the folder. Those of UIs that have died are removed.

    Raises:
        ResultsError: the folder cannot be made or written.
    """

    def __init__(self, store: Path) -> None:
        self._folder = watch_folder(store)
        self._name = f"{os.getpid()}-{os.urandom(3).hex()}"
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _remove_stale(self._folder)
            self.socket = _datagrams()
            with _address(self._folder, self._name) as address:
                self.socket.bind(address)
        except OSError as error:
            raise ResultsError(
                f"{self._folder} cannot be used to hear of new rows: {error}. Put the store where you may write (EP_RESULTS_DB, --store)."
            ) from error

    def drain(self) -> None:
        """Take all words that wait."""
        with suppress(BlockingIOError):
            while True:
                self.socket.recv(16)

    def close(self) -> None:
        """Close the socket and remove its file."""
        self.socket.close()
        (self._folder / self._name).unlink(missing_ok=True)


def _datagrams() -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.setblocking(False)
    return made


def _remove_stale(folder: Path) -> None:
    for path in folder.iterdir():
        with _datagrams() as probe:
            try:
                with _address(folder, path.name) as address:
                    probe.connect(address)
            except (ConnectionRefusedError, FileNotFoundError):
                path.unlink(missing_ok=True)
            except OSError:  # not ours to judge
                continue


@contextmanager
def _address(folder: Path, name: str) -> Iterator[str]:
    """The socket's path as the kernel takes it: one that is too long goes by way of the open folder."""
    direct = str(folder / name)
    if len(os.fsencode(direct)) <= LONGEST_ADDRESS:
        yield direct
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{name}"
    finally:
        os.close(descriptor)
