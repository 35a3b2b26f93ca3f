"""The bytes that each token id stands for, for the two families of vocabularies in use: byte-level BPE and SentencePiece."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import lru_cache

from tokenizers import Tokenizer

_HEX_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class Vocabulary:
    """Reads single tokens. One id may be a part of a character, which only bytes can show."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        added = tokenizer.get_added_tokens_decoder()
        self._added = set(added)
        self._special = {id for id, token in added.items() if token.special}
        decoder = json.loads(tokenizer.to_str()).get("decoder")
        self._byte_level = "ByteLevel" in json.dumps(decoder)
        self._spelled: dict[int, tuple[str, list[int]]] = {}

    def token_bytes(self, id: int) -> bytes:
        """The bytes of one token; empty for an id that the tokenizer does not know (padding of the embedding)."""
        token = self._tokenizer.id_to_token(id)
        if token is None:
            return b""
        if id in self._added:
            return token.encode()
        if self._byte_level:
            table = _byte_of_character()
            return b"".join(bytes([table[c]]) if c in table else c.encode() for c in token)
        if match := _HEX_BYTE.fullmatch(token):
            return bytes([int(match.group(1), 16)])
        return token.replace("\u2581", " ").encode()

    def is_special(self, id: int) -> bool:
        """Whether an id is a mark (end of turn, ...), not text."""
        return id in self._special

    def spelled(self, id: int) -> tuple[str, list[int]]:
        """One token as text, with U+FFFD for a part of a character, and its bytes. Remembered: a vocabulary has an end."""
        found = self._spelled.get(id)
        if found is None:
            raw = self.token_bytes(id)
            found = self._spelled[id] = raw.decode(errors="replace"), list(raw)
        return found

    def text(self, ids: Sequence[int]) -> str:
        """Text of ids, special tokens included."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=False)


@lru_cache(maxsize=1)
def _byte_of_character() -> dict[str, int]:
    """The byte-level alphabet: printable Latin-1 stands for itself, the other 68 bytes for U+0100 onwards."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + n): byte for n, byte in enumerate(others)}
