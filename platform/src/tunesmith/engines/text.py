"""From sampled ids to the text a user sees: incremental decoding and stop strings.

Never shown: broken UTF-8, the beginning of what may become a stop string, a stop string and what follows it.
The joined pieces equal `Tokenizer.decode(ids, skip_special_tokens=False)`.
"""

from __future__ import annotations

import codecs
import json
from pathlib import Path
from typing import Protocol

from tokenizers import Tokenizer

from tunesmith.errors import InvalidArgument

_HELD_TOKENS = 4
"""Tokens that may wait for the rest of a character: UTF-8 needs four bytes at most, so a fifth token cannot mend it."""
_CONTEXT_TOKENS = 6
"""Tokens decoded again with each new one, for decoders whose pieces depend on what stands before them."""


class TextDecoder(Protocol):
    """Decodes the ids of one candidate as they come."""

    def feed(self, token_id: int) -> str:
        """Text that is complete with this token; may be empty."""
        ...

    def finish(self) -> str:
        """What was held back, with the replacement character for bytes that never became one."""
        ...


class Tokens:
    """The model's tokenizer, as far as an engine needs it."""

    def __init__(self, tokenizer: Tokenizer, byte_level: bool) -> None:
        self._tokenizer = tokenizer
        self._byte_level = byte_level
        self._bytes: dict[int, bytes] = {}

    @classmethod
    def read(cls, folder: Path) -> Tokens:
        """Read `tokenizer.json`. Raises InvalidArgument when it is missing or cannot be read."""
        file = folder / "tokenizer.json"
        try:
            content = file.read_text(encoding="utf-8")
            decoder = (json.loads(content).get("decoder") or {}).get("type")
            return cls(Tokenizer.from_str(content), byte_level=decoder == "ByteLevel")
        except Exception as error:
            raise InvalidArgument(
                f"{file} cannot be read as a tokenizer: {error}. The engine needs that file."
            ) from error

    def decoder(self) -> TextDecoder:
        """A fresh decoder for one candidate."""
        return _ByteDecoder(self) if self._byte_level else _WindowDecoder(self._tokenizer)

    def bytes_of(self, token_id: int) -> bytes:
        """The bytes a byte-level token stands for; none for an id without a token."""
        found = self._bytes.get(token_id)
        if found is None:
            token = self._tokenizer.id_to_token(token_id) or ""
            try:
                found = bytes(_BYTE_OF_CHARACTER[character] for character in token)
            except KeyError:  # an added token, written as it is
                found = token.encode()
            self._bytes[token_id] = found
        return found


class _ByteDecoder:
    """Byte-level vocabularies: tokens are bytes, and UTF-8 is decoded as it comes."""

    def __init__(self, tokens: Tokens) -> None:
        self._bytes_of = tokens.bytes_of
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, token_id: int) -> str:
        return self._utf8.decode(self._bytes_of(token_id))

    def finish(self) -> str:
        return self._utf8.decode(b"", final=True)


class _WindowDecoder:
    """Any other tokenizer: decode a window of the last tokens and hand out what is new."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._window: list[int] = []
        self._held = 0
        self._known = ""

    def feed(self, token_id: int) -> str:
        self._window.append(token_id)
        self._held += 1
        text = self._decode()
        if text.endswith("\ufffd") and self._held < _HELD_TOKENS:
            return ""
        return self._give(text)

    def finish(self) -> str:
        return self._give(self._decode())

    def _give(self, text: str) -> str:
        new = text[len(self._known) :]
        self._held = 0
        self._known = text
        if len(self._window) > 2 * _CONTEXT_TOKENS:
            del self._window[:-_CONTEXT_TOKENS]
            self._known = self._decode()
        return new

    def _decode(self) -> str:
        return self._tokenizer.decode(self._window, skip_special_tokens=False)


class StopScanner:
    """Cuts text before the earliest stop string and holds back what may be the beginning of one."""

    def __init__(self, stops: list[str]) -> None:
        self._stops = stops
        self._held = ""
        self.found = False

    def feed(self, text: str) -> str:
        """Text that can be shown now. After `found` nothing more is."""
        if not text or self.found or not self._stops:
            return "" if self.found else text
        held = self._held + text
        cuts = [at for stop in self._stops if (at := held.find(stop)) >= 0]
        if cuts:
            self.found, self._held = True, ""
            return held[: min(cuts)]
        keep = max(_overlap(held, stop) for stop in self._stops)
        self._held = held[len(held) - keep :]
        return held[: len(held) - keep]

    def finish(self) -> str:
        """What was held back: no stop string came of it."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that is a proper beginning of `stop`."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's printable stand-ins for the 256 bytes: those that print are themselves, the others follow from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(others)}


_BYTE_OF_CHARACTER = _byte_alphabet()
