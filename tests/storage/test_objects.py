"""Objects appear whole or not at all; signed URLs allow one thing only."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from tunesmith.errors import NotFound, PermissionDenied
from tunesmith.settings import Settings
from tunesmith.storage.objects import ObjectStore
from tunesmith.storage.signing import UrlSigner


async def _pieces(count: int, size: int, fail: bool = False) -> AsyncIterator[bytes]:
    for index in range(count):
        yield bytes([index % 256]) * size
    if fail:
        raise ConnectionResetError("cut")


async def test_streams_come_back_as_they_went_in(settings: Settings, tmp_path: Path):
    objects = ObjectStore.open(settings)
    assert await objects.put_stream("a/b c.bin", _pieces(7, 1_000_000)) == 7_000_000
    size, chunks = await objects.stream("a/b c.bin")
    data = b"".join([chunk async for chunk in chunks])
    assert size == len(data) == objects.size("a/b c.bin") == 7_000_000
    assert objects.download("a/b c.bin", tmp_path / "copy").read_bytes() == data == objects.read("a/b c.bin")
    assert objects.put_file("d", tmp_path / "copy") == 7_000_000


@pytest.mark.parametrize("count", [0, 1, 12])
async def test_a_cut_stream_leaves_nothing(settings: Settings, count: int):
    objects = ObjectStore.open(settings)
    with pytest.raises(ConnectionResetError):
        await objects.put_stream("a/cut", _pieces(count, 1_000_000, fail=True))
    assert objects.size("a/cut") is None
    assert [path for path in (settings.data_dir / "objects").rglob("*") if path.is_file()] == []


def test_missing_objects_and_keys_that_leave_the_store(settings: Settings):
    objects = ObjectStore.open(settings)
    objects.delete("nope")
    with pytest.raises(NotFound):
        objects.read("nope")
    with pytest.raises(ValueError, match="parse path"):
        objects.read("../keys/master.key")


def _ask(signer: UrlSigner, method: str, url: str) -> int | None:
    parts = urlsplit(url)
    return signer.check(method, unquote(parts.path), {k: v[0] for k, v in parse_qs(parts.query).items()})


def test_a_signed_url_allows_that_and_nothing_else():
    signer = UrlSigner.from_pepper(b"p" * 32)
    url = signer.url("http://h:1/", "PUT", "/objects/a b.gz", size=10)
    assert url.startswith("http://h:1/objects/a%20b.gz?")
    assert _ask(signer, "PUT", url) == 10
    assert _ask(signer, "GET", signer.url("http://h", "GET", "/objects/x")) is None
    for method, changed in [
        ("GET", url),
        ("PUT", url.replace("a%20b", "a%20c")),
        ("PUT", url.replace("size=10", "size=11")),
        ("PUT", url.replace("size=10&", "")),
        ("PUT", url.replace("expires=", "expires=9")),
        ("PUT", url.split("?")[0]),
        ("PUT", url + "é"),
    ]:
        with pytest.raises(PermissionDenied, match="does not fit"):
            _ask(signer, method, changed)
    with pytest.raises(PermissionDenied, match="expired"):
        _ask(signer, "PUT", signer.url("http://h", "PUT", "/objects/x", lifetime=-2))
    with pytest.raises(PermissionDenied, match="does not fit"):
        _ask(UrlSigner.from_pepper(b"q" * 32), "PUT", url)
