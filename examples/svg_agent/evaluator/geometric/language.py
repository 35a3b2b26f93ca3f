"""The English of requirements that can be verified, read word by word.

An object:     "a large red circle in the top-left corner" - a shape word with any of size, colour and place
A count:       "exactly two shapes", "exactly one red circle", "only one shape", "no triangles"
A background:  "a white background"

Places are the nine cells of a three by three grid: "the top" is the cell in the middle of the top row, "the left"
the one in the middle of the left column. A sentence with a word that is not known, with two shapes, or with
nothing to check raises UnknownRequirement: it is never scored as failed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

SHAPES = {
    **{w: w for w in ("circle", "ellipse", "square", "rectangle", "triangle", "bar", "shape")},
    **{"oval": "ellipse", "disc": "circle", "disk": "circle", "dot": "circle", "object": "shape"},
}
COLOURS = {
    **{w: w for w in ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "gray", "cyan")},
    **{"grey": "gray", "violet": "purple", "turquoise": "cyan"},
}  # fmt: skip
SIZES = {
    **dict.fromkeys(("small", "little", "tiny"), "small"),
    **dict.fromkeys(("medium", "middling"), "medium"),
    **dict.fromkeys(("large", "big", "huge"), "large"),
}
_ROWS = {"top": 0, "upper": 0, "bottom": 2, "lower": 2}
_COLUMNS = {"left": 0, "right": 2}
_MIDDLE = frozenset({"middle", "centre", "center", "central"})
_NUMBERS = {
    w: i for i, w in enumerate(["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"])
} | {"zero": 0}
_ONLY = frozenset({"exactly", "only", "precisely"})
_FILLERS = frozenset(
    [
        "a",
        "an",
        "the",
        "in",
        "at",
        "on",
        "near",
        "of",
        "is",
        "are",
        "there",
        "be",
        "must",
        "should",
        "with",
        "corner",
        "edge",
        "side",
        "part",
        "half",
        "sized",
        "size",
        "coloured",
        "colored",
        "picture",
        "image",
        "drawing",
        "canvas",
        "page",
        "draw",
        "show",
        "include",
        "has",
        "have",
        "hand",
        "colour",
        "color",
        "it",
        "and",
    ]
)

PLACES = tuple(
    f"{row}-{column}" if row and column else row or column or "center"
    for row in ("top", "", "bottom")
    for column in ("left", "", "right")
)
"""Names of the nine cells, row by row."""


class UnknownRequirement(ValueError):
    """A requirement that the geometric judge does not understand."""


class Kind(StrEnum):
    """What a requirement is about."""

    OBJECT = "object"
    """There is such an object, and no other requirement needs the same one."""
    COUNT = "count"
    """There are exactly so many of such objects."""
    BACKGROUND = "background"
    """The background has this colour."""


@dataclass(frozen=True)
class Requirement:
    """One sentence, understood. None stands for any."""

    sentence: str
    kind: Kind
    shape: str | None = None
    colour: str | None = None
    place: str | None = None
    size: str | None = None
    count: int = 1

    @property
    def parts(self) -> tuple[str, ...]:
        """What is checked, one by one."""
        if self.kind is not Kind.OBJECT:
            return (str(self.kind),)
        return tuple(name for name in ("shape", "colour", "place", "size") if getattr(self, name) is not None)


def understand(sentence: str) -> Requirement:
    """Read one requirement; raises UnknownRequirement naming what was not understood."""
    words = re.findall(r"[a-z]+|\d+", re.sub(r"\bmiddle-sized\b", "medium", sentence.lower()))
    found: dict[str, list[str]] = {name: [] for name in ("shape", "colour", "size", "place", "count", "background")}
    for word in words:
        name, value = _sort(word)
        if name:
            found[name].append(value)
        elif word not in _FILLERS and word not in _ONLY:
            raise _unknown(sentence, f"the word {word!r} is not known")
    for name in ("shape", "colour", "size", "count"):
        if len(set(found[name])) > 1 or (name == "shape" and len(found[name]) > 1):
            raise _unknown(sentence, f"it names two of {name} ({', '.join(found[name])}); write a requirement for each")
    return _build(sentence, {name: values for name, values in found.items() if values}, only=bool(_ONLY & set(words)))


def _sort(word: str) -> tuple[str, str]:
    singular = word.removesuffix("s")
    if singular in SHAPES:
        return "shape", SHAPES[singular]
    if word in COLOURS:
        return "colour", COLOURS[word]
    if word in SIZES:
        return "size", SIZES[word]
    if word in _ROWS or word in _COLUMNS or word in _MIDDLE:
        return "place", word
    if word in _NUMBERS or word.isdigit():
        return "count", str(_NUMBERS.get(word, word))
    return ("background", word) if word == "background" else ("", "")


def _build(sentence: str, found: dict[str, list[str]], *, only: bool) -> Requirement:
    colour = found.get("colour", [None])[0]
    if "background" in found:
        if colour is None or len(found) > 2:
            raise _unknown(sentence, "a background has a colour and nothing else")
        return Requirement(sentence, Kind.BACKGROUND, colour=colour)
    if "shape" not in found:
        raise _unknown(sentence, "it names no shape")
    shape = found["shape"][0]
    count = int(found["count"][0]) if "count" in found else 1
    counted = only or count != 1
    if only and "count" not in found and "a" not in sentence.lower().split():
        raise _unknown(sentence, "it does not say how many")
    built = Requirement(
        sentence,
        Kind.COUNT if counted else Kind.OBJECT,
        shape=None if shape == "shape" else shape,
        colour=colour,
        place=_place(sentence, found["place"]) if "place" in found else None,
        size=found.get("size", [None])[0],
        count=count,
    )
    if not built.parts:
        raise _unknown(sentence, "there is nothing to check in it")
    return built


def _place(sentence: str, words: list[str]) -> str:
    rows = {_ROWS[w] for w in words if w in _ROWS}
    columns = {_COLUMNS[w] for w in words if w in _COLUMNS}
    if len(rows) > 1 or len(columns) > 1:
        raise _unknown(sentence, f"it names two places ({', '.join(words)})")
    return PLACES[3 * next(iter(rows), 1) + next(iter(columns), 1)]


def _unknown(sentence: str, why: str) -> UnknownRequirement:
    return UnknownRequirement(
        f"The geometric judge does not understand {sentence!r}: {why}. It knows sentences such as 'a large red circle in "
        "the top-left corner', 'exactly two shapes' and 'a white background'; use the vision judge for others."
    )
