"""A short text, compared as it is."""

import unicodedata


def value_of(text: str) -> str | None:
    """The text without what does not count: white space, and the way in which accents are encoded; None when it is empty."""
    return " ".join(unicodedata.normalize("NFC", text).split()) or None


def same(answer: str, gold: str) -> bool:
    """Whether two texts are equal; upper case counts."""
    return answer == gold
