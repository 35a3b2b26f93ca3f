"""Bytes on disk, and removal by rename."""

from __future__ import annotations

import os
import shutil
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path


def freed(paths: Iterable[Path]) -> int:
    """Bytes that the disk gets back when these files and folders go: a file that is linked from elsewhere, too, gives nothing back."""
    links: Counter[tuple[int, int]] = Counter()
    found: dict[tuple[int, int], os.stat_result] = {}
    for path in paths:
        for file in _files(path):
            try:
                stat = file.lstat()
            except OSError:
                continue
            links[stat.st_dev, stat.st_ino] += 1
            found[stat.st_dev, stat.st_ino] = stat
    return sum(stat.st_blocks * 512 for inode, stat in found.items() if stat.st_nlink <= links[inode])


def remove(path: Path, trash: Path) -> None:
    """Take a file or folder out of its place at once, then delete it. That it is gone already is fine."""
    trash.mkdir(exist_ok=True, mode=0o700)
    target = trash / uuid.uuid4().hex
    try:
        path.rename(target)
    except FileNotFoundError:
        return
    empty(target)


def empty(path: Path) -> None:
    """Delete what was taken out of its place."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def newest(path: Path) -> float:
    """When something in a file or folder was last written (Unix seconds); 0 when it is gone."""
    times = [0.0]
    for file in _files(path):
        try:
            times.append(file.lstat().st_mtime)
        except OSError:
            continue
    return max(times)


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir() and not path.is_symlink():
        for folder, _, names in os.walk(path):
            yield Path(folder)
            yield from (Path(folder, name) for name in names)
    elif path.exists() or path.is_symlink():
        yield path
