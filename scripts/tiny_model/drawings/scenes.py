"""Scenes of one or two objects, the requirements that describe them, and drawings of them.

Everything is a pure function of a seed. What keeps the parts apart is the scene itself, not the seed: `part_of` hashes
its objects into the part that may use it, so that no combination of objects that reinforcement fine-tuning or its
evaluation meets has occurred in pre-training, nor one of the evaluation in fine-tuning.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from enum import StrEnum

SHAPES = ("circle", "square", "triangle", "bar")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "black")
SIZES = {"small": 10, "medium": 20, "large": 32}
"""Longest side or diameter on the canvas of 100 x 100."""
_DRAWN_SIZES = ("small", "small", "medium", "large", "large")
# The middle one is rarer: the base model always draws it, and should rarely be right by chance.
BAR_HEIGHTS = {"small": 4, "medium": 6, "large": 10}
_STOPS = (18, 50, 82)
PLACES = {
    "top-left": "in the top-left corner",
    "top": "at the top",
    "top-right": "in the top-right corner",
    "left": "at the left",
    "center": "in the center",
    "right": "at the right",
    "bottom-left": "in the bottom-left corner",
    "bottom": "at the bottom",
    "bottom-right": "in the bottom-right corner",
}
"""The nine cells row by row, and how requirements name them."""


class Part(StrEnum):
    """Who may use a scene."""

    PRETRAIN = "pretrain"
    """Pre-training of the base model."""
    TRAIN = "train"
    """Rows that reinforcement fine-tuning trains on."""
    HELD_OUT = "held_out"
    """Rows that only evaluations see."""


@dataclass(frozen=True, order=True)
class Object:
    """One object of a scene."""

    shape: str
    colour: str
    place: str
    size: str

    @property
    def requirement(self) -> str:
        """The sentence that the judge checks."""
        return f"{article(self.size)} {self.size} {self.colour} {self.shape} {PLACES[self.place]}"

    def draw(self) -> str:
        """The SVG element."""
        column, row = list(PLACES).index(self.place) % 3, list(PLACES).index(self.place) // 3
        x, y, side = _STOPS[column], _STOPS[row], SIZES[self.size]
        half, end = side // 2, f'fill="{self.colour}"/>'
        if self.shape == "circle":
            return f'<circle cx="{x}" cy="{y}" r="{half}" {end}'
        if self.shape == "triangle":
            return f'<polygon points="{x},{y - half} {x + half},{y + half} {x - half},{y + half}" {end}'
        height = side if self.shape == "square" else BAR_HEIGHTS[self.size]
        return f'<rect x="{x - half}" y="{y - height // 2}" width="{side}" height="{height}" {end}'


Scene = tuple[Object, ...]


def article(word: str) -> str:
    """ "a" or "an"."""
    return "an" if word[0] in "aeiou" else "a"


def requirements(scene: Scene) -> list[str]:
    """What a drawing of the scene must meet: a sentence for each object, and how many there are."""
    count = "exactly one shape" if len(scene) == 1 else "exactly two shapes"
    return [item.requirement for item in scene] + [count]


def answer(scene: Scene) -> str:
    """The assistant's message: a fenced block."""
    return f'```svg\n<svg viewBox="0 0 100 100">{"".join(item.draw() for item in scene)}</svg>\n```'


def part_of(scene: Scene) -> Part:
    """Says which part may use a scene, in whatever order its objects come: an eighth each for training and held out."""
    key = "; ".join(item.requirement for item in sorted(scene))
    return {0: Part.TRAIN, 1: Part.HELD_OUT}.get(hashlib.sha256(key.encode()).digest()[0] % 8, Part.PRETRAIN)


def draw_scene(rng: random.Random, part: Part, count: int) -> Scene:
    """Draws a scene of `count` objects in different places that the part may use."""
    while True:
        scene = tuple(
            Object(rng.choice(SHAPES), rng.choice(COLOURS), place, rng.choice(_DRAWN_SIZES))
            for place in rng.sample(list(PLACES), count)
        )
        if part_of(scene) is part:
            return scene
