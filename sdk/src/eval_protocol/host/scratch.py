"""Temporary files of scorers: a folder for each, removed with it, and room made again where one left files elsewhere."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path

_PREFIX = "row-"
_FULL = 0.5
"""From this share of a folder's room on, what scorers left in it is removed."""


class Scratch:
    """Folders that belong to this host alone.

    Args:
        folders: The first is where scorers get folders of their own; in all of them, what was there at the start stays.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = [os.fspath(folder) for folder in folders]
        self._kept = {folder: set(os.listdir(folder)) for folder in self._folders}

    def enter(self, number: int) -> None:
        """In a scorer: make its folder, and have temporary files made there."""
        if not self._folders:
            return
        folder = f"{self._folders[0]}/{_PREFIX}{number}"
        with contextlib.suppress(OSError):  # full: it goes on with the shared folder
            os.mkdir(folder, 0o700)
            os.environ["TMPDIR"] = folder
            tempfile.tempdir = None  # looked up anew

    def leave(self, number: int, running: Collection[int]) -> None:
        """After a scorer's end: remove its folder, and where a folder is half full, whatever no running one owns."""
        for folder in self._folders[:1]:
            own = f"{folder}/{_PREFIX}{number}"
            try:
                os.rmdir(own)
            except OSError:  # it is not empty
                shutil.rmtree(own, ignore_errors=True)
        for folder in self._folders:
            found = os.statvfs(folder)
            if found.f_bavail < found.f_blocks * (1 - _FULL) or found.f_favail < found.f_files * (1 - _FULL):
                owned = {f"{_PREFIX}{each}" for each in running}
                for name in set(os.listdir(folder)) - self._kept[folder] - owned:
                    _remove(Path(folder, name))


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()
