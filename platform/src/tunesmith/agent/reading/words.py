"""Text into tokens that know where they stand: words, numbers in every spelling, punctuation.

A number is what it says: `1e-4`, `0.0001`, `1.5 × 10^-4`, `5e−5` (a typographic minus), `1,000`, `1k`, `two`, `five hundred`.
Positions are those of the original text, so that a question can quote the person's own words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_TYPOGRAPHIC = str.maketrans(
    {
        "\u2212": "-", "\u2010": "-", "\u2011": "-", "\u2012": "-", "\u2013": "-", "\u2014": ",", "\u2015": ",",
        "\u00d7": "x", "\u22c5": "x", "\u00b7": "x", "\u2019": "'", "\u2018": "'", "\u201b": "'", "\u201c": '"', "\u201d": '"',
        "\u00a0": " ", "\u2009": " ", "\u202f": " ", "\u2026": ".", "\u207b": "\u207b",
    }
)  # fmt: skip
"""One character for one character: positions stay."""
_SUPERSCRIPT = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")

_UNITS = {
    "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
    "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16, "seventeen": 17,
    "eighteen": 18, "nineteen": 19, "zero": 0,
}  # fmt: skip
_TENS = {
    "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90,
}  # fmt: skip
_SCALES = {"hundred": 100, "thousand": 1000, "million": 1_000_000}
_SPELLED = "|".join(sorted([*_UNITS, *_TENS, *_SCALES], key=len, reverse=True))

_TOKEN = re.compile(
    r"""
    (?P<path>(?!and/or)[A-Za-z][\w.-]*(?:/[A-Za-z0-9][\w.-]*)+ | (?<!\w)/[\w.-]+(?:/[\w.-]+)+)
  | (?P<power>(?<![\w.])(?:\d+(?:\.\d+)?\s*[x*]\s*)?10\s*(?:\^|\*\*)\s*[-+]?\(?[-+]?\d+\)? |
              (?<![\w.])(?:\d+(?:\.\d+)?\s*[x*]\s*)?10[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+)
  | (?P<money>[$€£]\s?\d[\d,]*(?:\.\d+)?)
  | (?P<percent>\d+(?:\.\d+)?\s?%)
  | (?P<ordinal>(?<![\w.])\d+(?:st|nd|rd|th)\b)
  | (?P<id>(?<![\w.])(?=[\w.-]*[A-Za-z])(?!\d+(?:\.\d+)?[eE][-+]?\d+(?![\w-]))(?!\d[\d,.]*[kK](?![\w-]))\w+(?:[.-]\w+)+(?![\w]))
  | (?P<number>(?<![\w.])(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)?(?:\.\d+|(?<=\d))(?:[eE][-+]?\d+)?(?P<kilo>[kK])?(?![\w]))
  | (?P<word>\w+(?:'\w+)?)
  | (?P<mark>\S)
    """,
    re.VERBOSE,
)
_SPELLED_NUMBER = re.compile(
    rf"(?:a|{_SPELLED})(?:(?:[\s-]+|(?<=hundred)\s+and\s+|(?<=thousand)\s+and\s+)(?:{_SPELLED}))*(?:\s+and\s+a\s+half\b)?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Token:
    """A piece of the text."""

    kind: str
    """`word`, `number`, `id` (letters and digits with hyphens or dots), `path` (with slashes), `ordinal`, `money`, `percent`, `mark`."""
    text: str
    """As it was written, with typographic characters made plain."""
    start: int
    end: int
    value: float | None = None
    rough: bool = False
    """A number in thousands (`4k`): 4000, or 4096 where people count in powers of two."""

    @property
    def lower(self) -> str:
        """For comparing."""
        return self.text.lower()


def plain(text: str) -> str:
    """The text with typographic minus signs, quotes and spaces made plain, of the same length."""
    return text.translate(_TYPOGRAPHIC)


def tokens(text: str) -> list[Token]:
    """The tokens of a text, in order."""
    text = plain(text)
    found: list[Token] = []
    position = 0
    while match := _TOKEN.search(text, position):
        kind, start, end = str(match.lastgroup), match.start(), match.end()
        if kind == "kilo":
            kind = "number"
        spelled = _SPELLED_NUMBER.match(text, start) if kind in ("word", "id") else None
        value = _spelled_value(spelled.group()) if spelled and _ends_a_word(text, spelled.end()) else None
        if value is not None and spelled is not None:
            found.append(Token("number", text[start : spelled.end()], start, spelled.end(), value))
            end = spelled.end()
        elif kind == "path":
            end = start + len(text[start:end].rstrip(".-"))
            found.append(Token("path", text[start:end], start, end))
        elif kind == "id":
            found += _id_parts(text, start, end)
        else:
            found.append(Token(kind, text[start:end], start, end, _value(kind, text[start:end]), bool(match["kilo"])))
        position = end
    return found


def _ends_a_word(text: str, end: int) -> bool:
    return end == len(text) or not text[end].isalnum()


def _value(kind: str, text: str) -> float | None:
    if kind == "power":
        head, _, power = re.sub(r"[\s()]", "", text.replace("**", "^").replace("*", "x")).rpartition("10")
        exponent = int(power.translate(_SUPERSCRIPT).lstrip("^"))
        return float(f"{head.rstrip('x') or '1'}e{exponent}")
    if kind == "number":
        thousand = text[-1] in "kK"
        return float(text.rstrip("kK").replace(",", "")) * (1000 if thousand else 1)
    if kind == "ordinal":
        return float(text[:-2])
    if kind in ("percent", "money"):
        return float(re.sub(r"[^\d.]", "", text))
    return None


def _id_parts(text: str, start: int, end: int) -> list[Token]:
    """An id stays whole, but for a number with its unit: `3-epoch`, `rank-8`, `two-epoch`."""
    word = text[start:end]
    match = re.fullmatch(r"(\d+(?:\.\d+)?)-([A-Za-z]+)|(rank|r|lr|seed|beta)-(\d+)", word, re.IGNORECASE)
    if match is None:
        return [Token("id", word, start, end)]
    cut = start + word.index("-")
    left, right = text[start:cut], text[cut + 1 : end]
    return [_part(left, start), _part(right, cut + 1)]


def _part(text: str, start: int) -> Token:
    number = text[0].isdigit()
    return Token("number" if number else "word", text, start, start + len(text), float(text) if number else None)


def _spelled_value(words: str) -> float | None:
    half = 0.5 if re.search(r"and\s+a\s+half$", words, re.IGNORECASE) else 0.0
    words = re.sub(r"(?i)\s+and\s+a\s+half$", "", words)
    parts = [part for part in re.split(r"[\s-]+", words.lower()) if part != "and"]
    if parts == ["a"] or (parts[0] == "a" and parts[1] not in _SCALES):
        return None
    total = current = 0.0
    for index, part in enumerate(parts):
        if part in _UNITS or part in _TENS:
            if index and parts[index - 1] in _UNITS:
                return None  # "one two": two numbers, not one
            current += _UNITS.get(part, _TENS.get(part, 0))
        elif part in _SCALES:
            current = (current or 1) * _SCALES[part]
            if _SCALES[part] > 100:
                total, current = total + current, 0.0
    return total + current + half
