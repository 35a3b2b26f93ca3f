"""Unpack an uploaded .tar.gz that nobody vouches for.

The whole archive is read once and judged before a byte is written: size, number of members, path lengths, kinds, and links.
A link may only point inside the archive: `..` only at the front of its target, and no member may lie beneath a link,
so that no chain of links leads out. `tarfile`'s `data` filter then checks everything a second time while extracting.
"""

from __future__ import annotations

import gzip
import io
import posixpath
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tunesmith.errors import InvalidArgument


@dataclass(frozen=True)
class Caps:
    """The largest archive that is unpacked."""

    bytes: int = 1024 * 1024 * 1024
    """Decompressed size of the whole archive."""
    members: int = 20_000
    path_length: int = 512
    """Bytes of one path inside the archive, and of a link's target."""


def unpack(archive: Path, target: Path, caps: Caps = Caps()) -> list[str]:
    """Extract into the new folder `target`, without the one top folder if there is one; the paths of the files, sorted.

    Raises InvalidArgument, naming the member and the rule, before anything is written.
    """
    with _readable(archive, caps) as tar:
        members = _judge(tar, caps)
    top = _top_folder(members)
    target.mkdir(parents=True)

    def inside(member: tarfile.TarInfo, destination: str) -> tarfile.TarInfo | None:
        name = _strip(_clean(member.name), top)
        if not name:
            return None
        linkname = _strip(_clean(member.linkname), top) if member.islnk() else member.linkname
        return tarfile.data_filter(member.replace(name=name, linkname=linkname, deep=False), destination)

    try:
        with _readable(archive, caps) as tar:
            tar.extractall(target, filter=inside)
    except (tarfile.TarError, OSError) as error:
        raise InvalidArgument(f"The archive cannot be unpacked: {error}") from error
    return sorted(str(path.relative_to(target)) for path in target.rglob("*") if path.is_file())


def read_small(archive: Path, path: str, most: int, caps: Caps = Caps()) -> bytes | None:
    """What one file at the top of an archive holds, up to `most` bytes of it, without unpacking anything; None: there is no such file.

    `path` is as `unpack` would write it, without the one top folder. Raises InvalidArgument when the archive cannot be read.
    """
    members: list[tarfile.TarInfo] = []
    found: dict[str, bytes] = {}
    try:
        with _readable(archive, caps) as tar:
            for member in tar:
                members.append(member)
                if len(members) > caps.members:
                    raise InvalidArgument(f"The archive holds more than {caps.members} files.")
                folder, _, file = _clean(member.name).rpartition("/")
                # Of two folders neither is the one top folder: what lies in a third need not be kept.
                wanted = file == path and "/" not in folder and (not folder or folder in found or len(found) < 2)
                stream = tar.extractfile(member) if wanted and member.isreg() else None
                if stream is not None:
                    found[folder] = stream.read(most)
    except (tarfile.TarError, ValueError) as error:
        raise InvalidArgument(f"The archive cannot be read: {error}") from error
    return found.get(_top_folder(members))


@contextmanager
def _readable(archive: Path, caps: Caps) -> Iterator[tarfile.TarFile]:
    try:
        with gzip.open(archive) as stream, tarfile.open(fileobj=_Capped(stream, caps.bytes), mode="r|") as tar:
            yield tar
    except (tarfile.ReadError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InvalidArgument(
            f"The upload is not a whole .tar.gz archive: {error}. Pack and upload it again."
        ) from error


class _Capped(io.RawIOBase):
    """A readable stream that refuses to go past `limit` bytes, also when asked for too much at once."""

    def __init__(self, stream: gzip.GzipFile, limit: int) -> None:
        super().__init__()
        self._stream = stream
        self._left = limit
        self._limit = limit

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= self._left:
            raise InvalidArgument(
                f"The archive unpacks to more than {self._limit} bytes. Leave out what is not needed."
            )
        data = self._stream.read(size)
        self._left -= len(data)
        return data


def _judge(tar: tarfile.TarFile, caps: Caps) -> list[tarfile.TarInfo]:
    members: list[tarfile.TarInfo] = []
    size = 0
    for member in tar:
        members.append(member)
        size += member.size
        if len(members) > caps.members:
            raise InvalidArgument(f"The archive holds more than {caps.members} files. Leave out what is not needed.")
        if size > caps.bytes:
            raise InvalidArgument(f"The archive unpacks to more than {caps.bytes} bytes. Leave out what is not needed.")
        _judge_member(member, caps)
    links = {_clean(member.name) for member in members if member.issym()}
    files = {_clean(member.name) for member in members if member.isreg()}
    for member in members:
        through = next((parent for parent in _parents(_clean(member.name)) if parent in links), None)
        if through:
            raise InvalidArgument(f"The archive's member {member.name!r} lies beneath the link {through!r}.")
        if member.islnk() and _clean(member.linkname) not in files:
            raise InvalidArgument(
                f"The archive's member {member.name!r} is a hard link to {member.linkname!r}, no file of it."
            )
    if not members:
        raise InvalidArgument("The archive is empty. Pack the evaluator's folder and upload it again.")
    return members


def _judge_member(member: tarfile.TarInfo, caps: Caps) -> None:
    problem = None
    if max(len(member.name.encode(errors="replace")), len(member.linkname.encode(errors="replace"))) > caps.path_length:
        problem = f"has a path of more than {caps.path_length} bytes"
    elif not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
        problem = "is neither a file, a folder nor a link"
    elif _leads_out(member.name):
        problem = "would be written outside the evaluator's folder"
    elif member.issym() and _link_leads_out(member):
        problem = f"is a link to {member.linkname!r}, outside the evaluator's folder"
    if problem:
        raise InvalidArgument(f"The archive's member {member.name[:200]!r} {problem}. It was not unpacked.")


def _leads_out(name: str) -> bool:
    return name.startswith(("/", "\\")) or "\0" in name or ".." in name.split("/")


def _link_leads_out(member: tarfile.TarInfo) -> bool:
    target = member.linkname
    words = [word for word in target.split("/") if word not in ("", ".")]
    climbs = len(words) - len(_without_leading_dots(words))
    inner = posixpath.dirname(_clean(member.name))
    depth = len(inner.split("/")) if inner else 0
    return target.startswith("/") or ".." in _without_leading_dots(words) or climbs > depth


def _without_leading_dots(words: list[str]) -> list[str]:
    first = next((i for i, word in enumerate(words) if word != ".."), len(words))
    return words[first:]


def _clean(name: str) -> str:
    cleaned = posixpath.normpath(name)
    return "" if cleaned == "." else cleaned


def _parents(name: str) -> list[str]:
    words = name.split("/")
    return ["/".join(words[:i]) for i in range(1, len(words))]


def _top_folder(members: list[tarfile.TarInfo]) -> str:
    """The one folder that holds everything, or "" when the files lie at the archive's root."""
    names = [name for member in members if (name := _clean(member.name))]
    tops = {name.split("/")[0] for name in names}
    only = tops.pop() if len(tops) == 1 else ""
    is_folder = any("/" in name for name in names) and not any(
        _clean(m.name) == only and not m.isdir() for m in members
    )
    return only if is_folder else ""


def _strip(name: str, top: str) -> str:
    if not top:
        return name
    return "" if name == top else name.removeprefix(f"{top}/")
