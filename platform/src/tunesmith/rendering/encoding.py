"""From text to ids, with a say in whether special tokens that are spelled in it count.

What a template writes (`<|im_end|>`) is a special token; the same letters in a user's message are text. Without that difference
a message could end its own turn and speak for the system.
"""

from __future__ import annotations

import re
import threading
from typing import Any

from tokenizers import AddedToken, Tokenizer

from tunesmith.errors import InvalidArgument

_MARK = "\ue001"
"""Put behind the first character of a special token that a user spelled, while the template writes around it. Private use."""


class TextEncoder:
    """Encodes text with a model's tokenizer. Safe for several threads."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._lock = threading.Lock()  # whether special tokens count is a switch of the tokenizer itself
        added: dict[int, AddedToken] = tokenizer.get_added_tokens_decoder()
        # A mark goes behind the first character, so a token of one character cannot carry it.
        self._special = {token.content: token for token in added.values() if token.special and len(token.content) > 1}
        spelled = sorted(map(re.escape, self._special), key=len, reverse=True)
        self._pattern = re.compile(f"({'|'.join(spelled)})") if spelled else None
        marked = sorted((self._marked(content) for content in self._special), key=len, reverse=True)
        self._marked_pattern = re.compile("|".join(map(re.escape, marked))) if marked else None
        self.separable = self._pattern is not None and self._pieces_join()
        """Whether text between special tokens can be encoded on its own; not so where pieces depend on their place."""
        self._mark_ids = self._ids_of_mark()

    def encode(self, text: str) -> list[int]:
        """Ids of text; special tokens spelled in it are special tokens."""
        with self._lock:
            return self._tokenizer.encode(text, add_special_tokens=False).ids

    def encode_text(self, text: str) -> list[int]:
        """Ids of text; special tokens spelled in it are the text that they are spelled with."""
        with self._lock:
            self._tokenizer.encode_special_tokens = True
            try:
                return self._tokenizer.encode(text, add_special_tokens=False).ids
            finally:
                self._tokenizer.encode_special_tokens = False

    def mark(self, value: Any) -> tuple[Any, bool]:
        """A JSON value with the special tokens spelled in its strings marked as text, and whether there were any."""
        if not self._spells(value):
            return value, False
        return self._mark(value), True

    def encode_marked(self, text: str) -> list[int]:
        """Ids of text in which some spellings are marked: these are text, the others special tokens."""
        if not self.separable:
            return self._without_marks(text)
        assert self._pattern is not None
        pieces = self._pattern.split(text)  # text and special tokens in turn
        ids: list[int] = []
        plain = ""  # what can be encoded in one go
        for number, piece in enumerate(pieces):
            if number % 2 or _MARK not in piece:
                plain += piece
                continue
            before = self._special[pieces[number - 1]] if number else None
            after = self._special[pieces[number + 1]] if number + 1 < len(pieces) else None
            ids += self.encode(plain)
            plain = ""
            piece = piece.lstrip() if before and before.rstrip else piece
            ids += self.encode_text(self._unmark(piece.rstrip() if after and after.lstrip else piece))
        return ids + self.encode(plain)

    def _without_marks(self, text: str) -> list[int]:
        """The marks are encoded with everything else, which keeps the special tokens apart, and their ids taken out."""
        ids, mark = self.encode(text), self._mark_ids
        places = [at for at in range(len(ids) - len(mark) + 1) if mark and ids[at : at + len(mark)] == mark]
        if len(places) != text.count(_MARK):
            raise InvalidArgument(
                "The messages spell a special token of this model, and its tokenizer cannot write it as text. Take it out."
            )
        for at in reversed(places):
            del ids[at : at + len(mark)]
        return ids

    def _ids_of_mark(self) -> list[int]:
        """What a mark between letters becomes; empty where it melts into them."""
        apart, joined = self.encode_text("a") + self.encode_text("b"), self.encode_text("ab")
        marked = self.encode_text(f"a{_MARK}b")
        head = next((at for at, (a, b) in enumerate(zip(marked, apart, strict=False)) if a != b), 0)
        tail = len(marked) - len(joined) + head if head else 0
        return marked[head:tail] if head and marked[:head] + marked[tail:] in (apart, joined) else []

    def _mark(self, value: Any) -> Any:
        if isinstance(value, str):
            assert self._pattern is not None
            return self._pattern.sub(lambda match: self._marked(match.group()), value)
        if isinstance(value, dict):
            return {self._mark(key): self._mark(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._mark(item) for item in value]
        return value

    def _unmark(self, text: str) -> str:
        assert self._marked_pattern is not None
        return self._marked_pattern.sub(lambda match: match.group().replace(_MARK, "", 1), text)

    def _spells(self, value: Any) -> bool:
        if isinstance(value, str):
            return self._pattern is not None and self._pattern.search(value) is not None
        if isinstance(value, dict):
            return any(self._spells(key) or self._spells(item) for key, item in value.items())
        return isinstance(value, list) and any(map(self._spells, value))

    @staticmethod
    def _marked(content: str) -> str:
        return content[0] + _MARK + content[1:]

    def _pieces_join(self) -> bool:
        special = next(iter(self._special))
        for left, right in (("a b", "c d"), (" a", " b"), ("a\n", "\nb")):
            token = self._special[special]
            stripped = left.rstrip() if token.lstrip else left, right.lstrip() if token.rstrip else right
            apart = [*self.encode(stripped[0]), *self.encode(special), *self.encode_text(stripped[1])]
            if self.encode(left + special + right) != apart:
                return False
        return True
