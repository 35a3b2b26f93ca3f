"""Hostile and broken archives are refused with the member's name; honest ones lose their top folder."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from pathlib import Path

import pytest
from tunesmith.errors import InvalidArgument
from tunesmith.evaluators.archive import Caps, unpack


def member(name: str, data: bytes = b"", **attributes) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in attributes.items():
        setattr(info, key, value)
    return info, data


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, type=kind, linkname=target)


def pack(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return path


def test_the_top_folder_goes_and_contents_stay(tmp_path: Path):
    archive = pack(
        tmp_path / "a.tar.gz",
        member("proj", type=tarfile.DIRTYPE, mode=0o755),
        member("proj/evaluation.py", b"x = 1\n"),
        member("proj/data/rows.jsonl", b"{}\n"),
        link("proj/rows", "data/rows.jsonl"),
        link("proj/data/up", "../evaluation.py"),
        link("proj/copy.py", "proj/evaluation.py", tarfile.LNKTYPE),
    )
    files = unpack(archive, tmp_path / "out")
    assert files == ["copy.py", "data/rows.jsonl", "data/up", "evaluation.py", "rows"]
    assert (tmp_path / "out" / "rows").read_text() == "{}\n"
    assert (tmp_path / "out" / "data" / "up").read_text() == (tmp_path / "out" / "copy.py").read_text() == "x = 1\n"


def test_an_archive_without_a_top_folder_is_taken_as_it_is(tmp_path: Path):
    archive = pack(tmp_path / "a.tar.gz", member("./evaluation.py", b"1"), member("./lib/a.py", b"2"))
    assert unpack(archive, tmp_path / "out") == ["evaluation.py", "lib/a.py"]
    archive = pack(tmp_path / "b.tar.gz", member("evaluation.py", b"1"))
    assert unpack(archive, tmp_path / "out2") == ["evaluation.py"]


DEEP = "d/" * 100
HOSTILE = {
    "absolute": [member("/etc/evil", b"x")],
    "parent": [member("p/../../evil", b"x")],
    "symlink-absolute": [link("p/a", "/etc/passwd"), member("p/b", b"")],
    "symlink-out": [link("p/a", "../../out"), member("p/b", b"")],
    "symlink-zigzag": [link("p/l", "q/../../.."), member("p/q/x", b"")],
    "through-a-link": [link("p/a", "b"), member("p/a/evil", b"x"), member("p/b/c", b"")],
    "through-a-link-reversed": [member("p/a/evil", b"x"), link("p/a", "b"), member("p/b/c", b"")],
    "hardlink-out": [member("p/b", b""), link("p/a", "../../etc/passwd", tarfile.LNKTYPE)],
    "hardlink-absolute": [member("p/b", b""), link("p/a", "/etc/passwd", tarfile.LNKTYPE)],
    "hardlink-to-symlink": [member("p/b", b""), link("p/s", "b"), link("p/a", "p/s", tarfile.LNKTYPE)],
    "device": [member("p/null", type=tarfile.CHRTYPE, devmajor=1, devminor=3)],
    "fifo": [member("p/pipe", type=tarfile.FIFOTYPE)],
    "long-path": [member("p/" + DEEP * 3 + "x", b"x")],
    "too-many": [member(f"p/{i}", b"") for i in range(60)],
    "too-big": [member("p/big", bytes(300_000))],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archives_write_nothing(tmp_path: Path, name: str):
    archive = pack(tmp_path / "a.tar.gz", *HOSTILE[name])
    with pytest.raises(InvalidArgument) as caught:
        unpack(archive, tmp_path / "out" / "src", Caps(bytes=200_000, members=50, path_length=512))
    assert caught.value.message.startswith("The archive")
    assert not (tmp_path / "out").exists()
    assert os.listdir(tmp_path) == ["a.tar.gz"]


def test_a_decompression_bomb_in_a_header_is_not_read_into_memory(tmp_path: Path):
    huge = tarfile.TarInfo("./@PaxHeader")
    huge.type, huge.size = tarfile.XHDTYPE, 50 << 20
    path = tmp_path / "bomb.tar.gz"
    with gzip.open(path, "wb", 1) as file:
        file.write(huge.tobuf(tarfile.USTAR_FORMAT) + bytes(50 << 20))
    with pytest.raises(InvalidArgument, match="more than 1000000 bytes"):
        unpack(path, tmp_path / "out", Caps(bytes=1_000_000))


@pytest.mark.parametrize("content", [b"", b"not gzip", gzip.compress(b"not tar" * 200)])
def test_what_is_no_archive_says_so(tmp_path: Path, content: bytes):
    (tmp_path / "a.tar.gz").write_bytes(content)
    with pytest.raises(InvalidArgument, match=r"archive"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "out")


def test_a_cut_archive_says_so(tmp_path: Path):
    archive = pack(tmp_path / "a.tar.gz", member("p/a", os.urandom(50_000)))
    archive.write_bytes(archive.read_bytes()[:20_000])
    with pytest.raises(InvalidArgument, match="not a whole"):
        unpack(archive, tmp_path / "out")
