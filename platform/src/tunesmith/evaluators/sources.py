"""The files of an evaluator's project, in and out of its archive: to be shown, compared and edited.

An archive is only ever opened the way a build opens it (`archive.unpack`), in a folder that is removed afterwards.
"""

from __future__ import annotations

import difflib
import hashlib
import io
import os
import re
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tunesmith.errors import InvalidArgument
from tunesmith.evaluators import archive

LONGEST_TEXT = 256 * 1024
"""Bytes of a file that is shown as text."""
MOST_TEXT = 16 * 1024 * 1024
"""Bytes of all texts of a project together; the files behind that are named without theirs."""
MOST_FILES = 200
"""Files that one edit may change."""
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_BAD = re.compile(r"[\x00-\x1f\x7f\\]")


@dataclass(frozen=True)
class SourceFile:
    """One file of a project."""

    path: str
    size: int
    """Bytes."""
    text: str | None
    """None where it is too long, not UTF-8, or a link."""
    digest: str
    """Equal for equal content, or for links to the same place."""


@contextmanager
def unpacked(packed: Path) -> Iterator[Path]:
    """The project's folder, as a build sees it, for as long as this is open. Raises InvalidArgument."""
    with tempfile.TemporaryDirectory(dir=packed.parent) as folder:
        source = Path(folder) / "src"
        archive.unpack(packed, source)
        yield source


def read_files(source: Path) -> list[SourceFile]:
    """The files of an unpacked project, by path."""
    found: list[SourceFile] = []
    room = MOST_TEXT
    for path in sorted(source.rglob("*")):
        if path.is_symlink() or path.is_file():
            file = _read(path, path.relative_to(source).as_posix(), min(room, LONGEST_TEXT))
            room -= file.size if file.text is not None else 0
            found.append(file)
    return found


def compare(before: Sequence[SourceFile], after: Sequence[SourceFile]) -> list[dict[str, str | None]]:
    """What differs between two projects: `{"path", "status", "diff"}` each, by path, the diff None where a side is no text."""
    old, new = {file.path: file for file in before}, {file.path: file for file in after}
    changed: list[dict[str, str | None]] = []
    for path in sorted({*old, *new}):
        if path in old and path in new and old[path].digest == new[path].digest:
            continue
        status = "changed" if path in old and path in new else "added" if path in new else "removed"
        texts = [side[path].text if path in side else "" for side in (old, new)]
        changed.append({"path": path, "status": status, "diff": _diff(path, texts[0], texts[1])})
    return changed


def apply(source: Path, files: Mapping[str, str | None]) -> bool:
    """Write these texts into an unpacked project; None removes a file. Whether anything changed.

    Raises InvalidArgument naming the path; then the project is worth nothing.
    """
    if not files:
        raise InvalidArgument("files is empty: name at least one file of the project, with its new text or null.")
    if len(files) > MOST_FILES:
        raise InvalidArgument(
            f"files has {len(files)} entries; one edit changes at most {MOST_FILES}. Upload the project."
        )
    changed = False
    for path, text in files.items():
        target = _inside(source, path)
        if text is None:
            if not (target.is_file() or target.is_symlink()):
                raise InvalidArgument(f"files: there is no file {path!r} to remove.")
            target.unlink()
            changed = True
        else:
            changed = _write(target, path, text) or changed
    return changed


def pack(source: Path, target: Path) -> None:
    """Pack a project's folder as uploads are packed, without times and owners: equal files give equal archives."""
    with tarfile.open(target, "w:gz", format=tarfile.PAX_FORMAT, compresslevel=6) as tar:
        for path in sorted(source.rglob("*")):
            info = tar.gettarinfo(path, arcname=f"project/{path.relative_to(source).as_posix()}")
            info.mtime, info.uid, info.gid, info.uname, info.gname = 0, 0, 0, "", ""
            if info.isreg():
                with path.open("rb") as file:
                    tar.addfile(info, file)
            else:
                tar.addfile(info, io.BytesIO())


def _inside(source: Path, path: str) -> Path:
    parts = path.split("/")
    if not path or _BAD.search(path) or any(part in ("", ".", "..") for part in parts):
        raise InvalidArgument(
            f"files: {path[:200]!r} is no path of the project. Use names with / between them, from its top folder on."
        )
    if len(path.encode(errors="replace")) > archive.Caps.path_length:
        raise InvalidArgument(f"files: a path has more than {archive.Caps.path_length} bytes.")
    for depth in range(1, len(parts)):
        above = source.joinpath(*parts[:depth])
        if above.is_symlink() or (above.exists() and not above.is_dir()):
            raise InvalidArgument(f"files: {path!r} would lie beneath {'/'.join(parts[:depth])!r}, which is no folder.")
    return source.joinpath(*parts)


def _write(target: Path, path: str, text: str) -> bool:
    if target.is_dir() and not target.is_symlink():
        raise InvalidArgument(f"files: {path!r} is a folder of the project.")
    try:
        content = text.encode()
    except UnicodeEncodeError:
        raise InvalidArgument(f"files: the text of {path!r} holds half a character (a lone surrogate).") from None
    if target.is_symlink():
        target.unlink()  # written through it, another file would change
    elif target.exists() and target.read_bytes() == content:
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return True


def _read(path: Path, name: str, longest: int) -> SourceFile:
    size = path.lstat().st_size
    if path.is_symlink():
        return SourceFile(name, size, None, f"link to {os.readlink(path)}")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return SourceFile(name, size, _text(path.read_bytes()) if size <= longest else None, digest)


def _diff(path: str, before: str | None, after: str | None) -> str | None:
    if before is None or after is None:
        return None
    # By \n alone, as editors count: a form feed or a Unicode line separator inside a string ends no line.
    lines = difflib.unified_diff(_LINE.findall(before), _LINE.findall(after), f"a/{path}", f"b/{path}")
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def _text(content: bytes) -> str | None:
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text
