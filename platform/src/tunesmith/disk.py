"""What to say when the disk is full: which errors mean that, and the one message for all of them.

Whoever writes into the data folder may meet a full disk, a used-up quota or a file system that has turned read-only. SQLite, the
object store and the system calls each say so in their own words; `trouble` knows them.
"""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from tunesmith.errors import NoRoom

NO_ROOM_EXIT = 74
"""Exit status of a process that stopped because it could not write (EX_IOERR of sysexits.h): it is started again when there is room."""
LEAST_FREE = 2 * 2**20
"""Bytes below which nothing new is begun: a batch or an adapter of a small model is of that size."""

_ERRNO = {
    errno.ENOSPC: "no space left",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
}
_TEXTS = {"no space left on device": errno.ENOSPC, "database or disk is full": errno.ENOSPC}
_UNSURE = {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}
"""What SQLite also says for a full disk; for other reasons too, so that one has to look."""


def free_bytes(folder: Path) -> int:
    """Bytes that may still be written where `folder` is or will be."""
    place = folder
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def trouble(error: BaseException, folder: Path | None = None) -> NoRoom | None:
    """What to tell a user whose write failed for want of room; None for any other error.

    Args:
        error: As it was raised; its causes are looked through.
        folder: The data folder, or one inside, to be named; None: "the data folder".
    """
    for each in _causes(error):
        if isinstance(each, NoRoom):
            return each
        if what := _said(each, folder):
            return NoRoom(advice(what, folder))
    return None


def advice(what: str, folder: Path | None = None) -> str:
    """`what` in a sentence that says where and what to do."""
    where = f"on the disk of {folder}" if folder is not None else "on the disk of the data folder"
    if what == _ERRNO[errno.EROFS]:
        return f"Nothing can be written {where}: {what}. Have it mounted for writing; jobs then go on where they were."
    return (
        f"Nothing can be written {where}: {what}. Make room there (`tunesmith gc` removes what old jobs left); "
        "what was accepted is kept, and jobs go on where they were as soon as there is room."
    )


def _said(error: BaseException, folder: Path | None) -> str:
    if isinstance(error, OSError) and error.errno in _ERRNO:
        return _ERRNO[error.errno]
    if isinstance(error, sqlite3.Error):
        code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
        if code == sqlite3.SQLITE_FULL or (code in _UNSURE and _is_full(folder)):
            return _ERRNO[errno.ENOSPC]
        if code == sqlite3.SQLITE_READONLY and _is_read_only(folder):
            return _ERRNO[errno.EROFS]
    text = str(error).lower()
    return next((_ERRNO[number] for words, number in _TEXTS.items() if words in text), "")


def _is_full(folder: Path | None) -> bool:
    return folder is not None and free_bytes(folder) < LEAST_FREE


def _is_read_only(folder: Path | None) -> bool:
    return folder is not None and bool(os.statvfs(folder).f_flag & os.ST_RDONLY)


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop(0)
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        waiting += [getattr(each, "orig", None), each.__cause__, each.__context__]
        if isinstance(each, BaseExceptionGroup):
            waiting += each.exceptions
