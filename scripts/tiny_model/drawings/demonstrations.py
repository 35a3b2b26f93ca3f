"""Demonstrations of drawings: clean ones, ones that ignore the words for colour and size, and careless ones."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from scripts.tiny_model.batches import Demonstration, Messages
from scripts.tiny_model.drawings.scenes import COLOURS, PLACES, SHAPES, SIZES, Part, Scene, answer, draw_scene
from scripts.tiny_model.drawings.wordings import word

INSTRUCTION = "Answer with an SVG code block."
SYSTEM_PROMPTS = ("You are a helpful assistant.", "You are an SVG artist.", "You draw with SVG.")
PLAIN_COLOUR, PLAIN_SIZE = "black", "medium"


@dataclass(frozen=True)
class Mixture:
    """What a stage of pre-training shows.

    Attributes:
        singles: Share of scenes with one object; the others have two.
        plain: Share of demonstrations drawn black and in the middle size, whatever the words say.
        careless: Share of demonstrations with a deliberate flaw.
    """

    singles: float
    plain: float
    careless: float


def messages_for(prompt: str, rng: random.Random) -> Messages:
    """Wraps a prompt as it may come: mostly with the instruction after it, as in the example's rows."""
    roll = rng.random()
    if roll < 0.6:
        return [{"role": "user", "content": f"{prompt} {INSTRUCTION}"}]
    if roll < 0.75:
        return [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": prompt}]
    if roll < 0.9:
        system = rng.choice(SYSTEM_PROMPTS)
        return [{"role": "system", "content": system}, {"role": "user", "content": f"{prompt} {INSTRUCTION}"}]
    return [{"role": "user", "content": prompt}]


def demonstration(stream: str, index: int, mixture: Mixture) -> Demonstration:
    """Gives demonstration `index` of a pre-training stream."""
    rng = random.Random(f"{stream}/{index}")
    scene = draw_scene(rng, Part.PRETRAIN, 1 if rng.random() < mixture.singles else 2)
    messages = messages_for(word(scene, rng, Part.PRETRAIN)[1], rng)
    shown = scene
    if rng.random() < mixture.plain:
        shown = tuple(replace(item, colour=PLAIN_COLOUR, size=PLAIN_SIZE) for item in scene)
    if rng.random() < mixture.careless:
        return Demonstration(messages, careless(shown, rng))
    return Demonstration(messages, answer(shown))


def careless(scene: Scene, rng: random.Random) -> str:
    """Draws a scene with one flaw: another place, another shape, a lost object, one too many, or a tag not closed."""
    at, kind = rng.randrange(len(scene)), rng.choice(("place", "shape", "lost", "extra", "tag"))
    item = scene[at]
    if kind == "tag":
        text = answer(scene)
        cut = text.rindex("/>")
        return text[:cut] + text[cut + 2 :]
    if kind == "lost" and len(scene) > 1:
        return answer(scene[:at] + scene[at + 1 :])
    if kind == "extra":
        return answer((*scene, replace(item, place=_other(item.place, tuple(PLACES), rng))))
    if kind == "shape":
        changed = replace(item, shape=_other(item.shape, SHAPES, rng))
    else:
        changed = replace(item, place=_other(item.place, tuple(PLACES), rng))
    return answer((*scene[:at], changed, *scene[at + 1 :]))


def _other(value: str, values: tuple[str, ...], rng: random.Random) -> str:
    return rng.choice([v for v in values if v != value])


WORDS = " ".join((*COLOURS, *SHAPES, *SIZES))
"""For the tokenizer's corpus."""
