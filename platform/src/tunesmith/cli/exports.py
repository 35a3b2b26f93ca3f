"""Folders that a command makes for a person: checked before anything is fetched, and marked, so that `ep upload` leaves them at home.

A person often stands in an evaluator's project when exporting. The SDK's packing knows the mark by its name (it is part of the wire between the two).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tunesmith.errors import InvalidArgument

MARK = ".tunesmith-export"


def check_new_folder(folder: Path) -> None:
    """Raise InvalidArgument when a folder holds something already, or cannot be made and written. Leaves the disk as it was."""
    made: list[Path] = []
    try:
        if folder.exists() and any(folder.iterdir()):
            raise InvalidArgument(f"{folder} is not empty; nothing was written. Name another folder with -o.")
        for each in (*reversed(folder.parents), folder):
            if not each.exists():
                each.mkdir()
                made.append(each)
        probe = folder / MARK
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InvalidArgument(
            f"{folder} cannot be written ({error.strerror or error}); nothing was fetched. Name another folder with -o."
        ) from error
    finally:
        for each in reversed(made):
            each.rmdir()


def mark(folder: Path, command: str) -> None:
    """Say in a folder what wrote it, for `ep upload` to leave it out."""
    text = f"Written by `{command}`. `ep upload` and `ep create rft` leave this folder out; remove this file to have it sent with an evaluator.\n"
    (folder / MARK).write_text(text)


@contextmanager
def marked(folder: Path, command: str) -> Iterator[None]:
    """Around the writing of files into a folder: a new or empty one has the mark before its first file, as one that breaks off is made for a
    person, too. What holds something already stays as it is; a folder that gets nothing is not left behind.

    Raises InvalidArgument when it cannot be written.
    """
    try:
        made = not folder.exists()
        empty = made or not any(folder.iterdir())
        if empty:
            folder.mkdir(parents=True, exist_ok=True)
            mark(folder, command)
    except OSError as error:
        raise InvalidArgument(f"{folder} cannot be written: {error.strerror or error}.") from error
    try:
        yield
    except BaseException:
        if empty and [each.name for each in folder.iterdir()] == [MARK]:
            (folder / MARK).unlink()
            if made:
                folder.rmdir()
        raise
