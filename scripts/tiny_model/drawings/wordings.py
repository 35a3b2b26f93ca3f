"""English prompts for scenes. A wording is a frame, a way to put an object, and a way to join two of them.

Every ninth combination is held out: no text of training was made from it. Frames, phrases and joiners themselves are
shared, so that held-out wordings are new combinations of known clauses.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from scripts.tiny_model.drawings.scenes import Object, Part, Scene, article

FRAMES = (
    "Draw {x}.",
    "Please draw {x}.",
    "Could you draw {x}?",
    "Make a picture of {x}.",
    "Create an image with {x}.",
    "I want {x}.",
    "I need a drawing that shows {x}.",
    "Show {x}.",
    "Paint {x}.",
    "Sketch {x}.",
    "Give me {x}.",
    "Write SVG code for {x}.",
)
PHRASES = (
    "{a_size} {colour} {shape} {place}",
    "{a_size} {shape} in {colour} {place}",
    "{a_size} {colour} {shape}, placed {place},",
    "{a_shape} {place}, {size} and {colour},",
    "{place} {a_size} {colour} {shape}",
    "{a_colour} {shape} that is {size} {place}",
)
JOINERS = (
    "{p} and {q}",
    "{p} and also {q}",
    "{p} with {q}",
    "{p} plus {q}",
    "{p} together with {q}",
    "{p} as well as {q}",
)

_SIZES = {
    "small": ("small", "small", "little", "tiny"),
    "medium": ("medium", "medium-sized", "middle-sized"),
    "large": ("large", "large", "big", "huge"),
}
_PLACES = {
    "top-left": ("in the top-left corner", "at the top left", "in the upper left"),
    "top": ("at the top", "in the top middle", "at the top center"),
    "top-right": ("in the top-right corner", "at the top right", "in the upper right"),
    "left": ("at the left", "on the left side", "on the left"),
    "center": ("in the center", "in the middle", "at the center"),
    "right": ("at the right", "on the right side", "on the right"),
    "bottom-left": ("in the bottom-left corner", "at the bottom left", "in the lower left"),
    "bottom": ("at the bottom", "in the bottom middle", "at the bottom center"),
    "bottom-right": ("in the bottom-right corner", "at the bottom right", "in the lower right"),
}


@dataclass(frozen=True)
class Wording:
    """Indices of frame, phrase and joiner."""

    frame: int
    phrase: int
    joiner: int

    @property
    def is_held_out(self) -> bool:
        """Whether only evaluations may use it: a ninth, with every frame, phrase and joiner among them and among the rest."""
        return (self.frame + 2 * self.phrase + 4 * self.joiner) % 9 == 0


WORDINGS = tuple(
    Wording(frame, phrase, joiner)
    for frame in range(len(FRAMES))
    for phrase in range(len(PHRASES))
    for joiner in range(len(JOINERS))
)
HELD_OUT = tuple(wording for wording in WORDINGS if wording.is_held_out)
TRAINING = tuple(wording for wording in WORDINGS if not wording.is_held_out)


def word(scene: Scene, rng: random.Random, part: Part) -> tuple[Wording, str]:
    """Puts a scene into words, in a wording that the part may use; synonyms are drawn at random."""
    wording = rng.choice(HELD_OUT if part is Part.HELD_OUT else TRAINING)
    parts = [_phrase(item, PHRASES[wording.phrase], rng) for item in scene]
    text = parts[0] if len(parts) == 1 else JOINERS[wording.joiner].format(p=parts[0], q=parts[1])
    return wording, FRAMES[wording.frame].format(x=text.rstrip(",")).replace(",,", ",")


def _phrase(item: Object, pattern: str, rng: random.Random) -> str:
    size, place = rng.choice(_SIZES[item.size]), rng.choice(_PLACES[item.place])
    return pattern.format(
        a_size=f"{article(size)} {size}",
        a_shape=f"{article(item.shape)} {item.shape}",
        a_colour=f"{article(item.colour)} {item.colour}",
        size=size,
        colour=item.colour,
        shape=item.shape,
        place=place,
    )
