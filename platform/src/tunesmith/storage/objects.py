"""The object store: bytes under keys such as `datasets/local/demo/1f0c….jsonl`, in `objects/` of the data folder.

An object appears whole or not at all: a write that fails or is cut leaves nothing under its key.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import obstore
from obstore.store import LocalStore

from tunesmith.errors import NotFound
from tunesmith.settings import Settings

CHUNK = 1 << 20


@dataclass(frozen=True)
class ObjectStore:
    """Objects by key. Keys are relative, `/`-separated, and may not leave the store (`..` is refused)."""

    store: LocalStore

    @classmethod
    def open(cls, settings: Settings) -> ObjectStore:
        """The store of this platform; its folder is made."""
        return cls(LocalStore(settings.path("objects"), mkdir=True))

    def put_file(self, key: str, path: Path) -> int:
        """Store a file's bytes under `key`, replacing what was there. Returns the size in bytes."""
        with path.open("rb") as file:
            obstore.put(self.store, key, file)
        return path.stat().st_size

    async def put_stream(self, key: str, chunks: AsyncIterable[bytes]) -> int:
        """Store chunks as they come. What the iterator raises is raised here, and then nothing is stored."""
        size = 0

        async def counted() -> AsyncIterator[bytes]:
            nonlocal size
            async for chunk in chunks:
                size += len(chunk)
                yield chunk

        await obstore.put_async(self.store, key, counted())
        return size

    def size(self, key: str) -> int | None:
        """Bytes of an object; None when there is none."""
        try:
            return obstore.head(self.store, key)["size"]
        except FileNotFoundError:
            return None

    def read(self, key: str) -> bytes:
        """All bytes of an object. Raises NotFound."""
        try:
            return bytes(obstore.get(self.store, key).bytes())
        except FileNotFoundError as error:
            raise NotFound(f"There is no object {key} in the store.") from error

    def head(self, key: str, length: int) -> bytes:
        """The first `length` bytes of an object, or all it has. Raises NotFound."""
        size = self.size(key)
        if size is None:
            raise NotFound(f"There is no object {key} in the store.")
        return bytes(obstore.get_range(self.store, key, start=0, end=min(length, size))) if size else b""

    def lines(self, key: str, offset: int = 0) -> Iterator[tuple[int, bytes]]:
        """`(byte offset behind the line, line)` for each line of an object from `offset` on, read in pieces. Raises NotFound."""
        size = self.size(key)
        if size is None:
            raise NotFound(f"There is no object {key} in the store.")
        rest, at = b"", offset
        while at < size:
            rest += bytes(obstore.get_range(self.store, key, start=at, end=min(at + CHUNK, size)))
            at = min(at + CHUNK, size)
            *whole, rest = rest.split(b"\n")
            for line in whole:
                offset += len(line) + 1
                yield offset, line + b"\n"
        if rest:
            yield size, rest

    def download(self, key: str, target: Path) -> Path:
        """Copy an object to a local file, in pieces. Raises NotFound."""
        try:
            result = obstore.get(self.store, key)
        except FileNotFoundError as error:
            raise NotFound(f"There is no object {key} in the store.") from error
        with target.open("wb") as file:
            for chunk in result.stream(min_chunk_size=CHUNK):
                file.write(chunk)
        return target

    async def stream(self, key: str) -> tuple[int, AsyncIterator[bytes]]:
        """Size and chunks of an object. Raises NotFound."""
        try:
            result = await obstore.get_async(self.store, key)
        except FileNotFoundError as error:
            raise NotFound(f"There is no object {key} in the store.") from error

        async def chunks() -> AsyncIterator[bytes]:
            async for chunk in result.stream(min_chunk_size=CHUNK):
                yield bytes(chunk)

        return result.meta["size"], chunks()

    def delete(self, key: str) -> None:
        """Remove an object; that it is not there is fine."""
        try:
            obstore.delete(self.store, key)
        except FileNotFoundError:
            return
