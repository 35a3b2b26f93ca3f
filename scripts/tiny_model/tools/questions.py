"""Questions about shops, with the sum that answers each.

Everything is a pure function of a seed: `question(stream, index, part)` gives the same question for ever. What keeps the parts
apart is the shop's number: its remainder decides who may ask about that shop, so that no price list which reinforcement
fine-tuning or its evaluation meets has occurred before, whatever the seeds. The wordings are shared by all parts.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from examples.tool_agent.server.shop import ITEMS, SHOPS, Entry, entry
from examples.tool_agent.server.tools import calculate

INSTRUCTION = 'Use the tools. End with "Answer:" and the number.'

_IRREGULAR = {"shelf": "shelves", "knife": "knives", "bench": "benches"}
PLURALS = {item: _IRREGULAR.get(item, f"{item}es" if item.endswith("s") else f"{item}s") for item in ITEMS}

PEOPLE = ("Ana", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gil", "Hana", "Ian", "Jo", "Kim", "Lea")


class Part(StrEnum):
    """Who may use a question."""

    PRETRAIN = "pretrain"
    """Pre-training of the base model."""
    TRAIN = "train"
    """Rows that reinforcement fine-tuning trains on."""
    HELD_OUT = "held_out"
    """Rows that only evaluations see."""


_PART_OF_REMAINDER = (Part.PRETRAIN, Part.PRETRAIN, Part.PRETRAIN, Part.TRAIN, Part.HELD_OUT)


@dataclass(frozen=True)
class Question:
    """One question.

    Attributes:
        shop: Number of the shop it is about.
        text: What the user says, the shop's number in front.
        items: What has to be looked up, in the order of the question.
        expression: The sum that gives the answer.
        family: Which kind of question it is.
    """

    shop: int
    text: str
    items: tuple[str, ...]
    expression: str
    family: str

    @property
    def answer(self) -> int:
        """The right number; every question has a whole, positive one."""
        return int(calculate(self.expression))


@dataclass(frozen=True)
class _Draw:
    """What the families build their questions from."""

    rng: random.Random
    a: Entry
    b: Entry

    def pick(self, *wordings: str) -> str:
        return self.rng.choice(wordings)


Built = tuple[str, tuple[str, ...], str]
"""Text without the shop, items, expression."""


def _cost(d: _Draw) -> Built:
    n = d.rng.randint(2, 9)
    items = PLURALS[d.a.item]
    text = d.pick(f"How much are {n} {items}?", f"What do {n} {items} cost?", f"What is the price of {n} {items}?")
    return text, (d.a.item,), f"{n}*{d.a.price}"


def _basket(d: _Draw) -> Built:
    n, m = d.rng.randint(2, 9), d.rng.randint(2, 9)
    both = f"{n} {PLURALS[d.a.item]} and {m} {PLURALS[d.b.item]}"
    text = d.pick(f"How much are {both}?", f"What do {both} cost together?", f"What is the price of {both}?")
    return text, (d.a.item, d.b.item), f"{n}*{d.a.price}+{m}*{d.b.price}"


def _change(d: _Draw) -> Built:
    n = d.rng.randint(2, 9)
    paid = n * d.a.price + d.rng.randint(1, 99)
    who, items = d.rng.choice(PEOPLE), PLURALS[d.a.item]
    text = d.pick(
        f"{who} buys {n} {items} and pays {paid} dollars. How much change is that?",
        f"{who} has {paid} dollars and buys {n} {items}. How much money is left?",
    )
    return text, (d.a.item,), f"{paid}-{n}*{d.a.price}"


def _dearer(d: _Draw) -> Built:
    high, low = (d.a, d.b) if d.a.price > d.b.price else (d.b, d.a)
    text = d.pick(
        f"How much more does a {high.item} cost than a {low.item}?",
        f"By how much is a {high.item} dearer than a {low.item}?",
    )
    return text, (high.item, low.item), f"{high.price}-{low.price}"


def _left(d: _Draw) -> Built:
    n = d.rng.randint(2, d.a.stock - 1)
    items = PLURALS[d.a.item]
    text = d.pick(
        f"How many {items} are left after {n} are sold?", f"{n} {items} are sold. How many are still in stock?"
    )
    return text, (d.a.item,), f"{d.a.stock}-{n}"


def _stock(d: _Draw) -> Built:
    both = f"{PLURALS[d.a.item]} and {PLURALS[d.b.item]}"
    text = d.pick(f"How many {both} are in stock together?", f"Count the {both} in stock. How many are there?")
    return text, (d.a.item, d.b.item), f"{d.a.stock}+{d.b.stock}"


def _worth(d: _Draw) -> Built:
    items = PLURALS[d.a.item]
    text = d.pick(f"What are all the {items} in stock worth?", f"How much do all the {items} in stock cost?")
    return text, (d.a.item,), f"{d.a.stock}*{d.a.price}"


_FAMILIES: dict[str, Callable[[_Draw], Built]] = {
    "cost": _cost,
    "basket": _basket,
    "change": _change,
    "dearer": _dearer,
    "left": _left,
    "stock": _stock,
    "worth": _worth,
}

FAMILIES = tuple(_FAMILIES)


def part_of(shop: int) -> Part:
    """Gives the only part that may ask about a shop."""
    return _PART_OF_REMAINDER[shop % len(_PART_OF_REMAINDER)]


def question(stream: str, index: int, part: Part) -> Question:
    """Gives question `index` of a stream."""
    rng = random.Random(f"{stream}/{index}/{part}")
    family = rng.choice(FAMILIES)
    while True:
        shop = rng.choice(SHOPS)
        first, second = (entry(shop, item) for item in rng.sample(ITEMS, 2))
        if part_of(shop) is part and first and second and first.price != second.price:
            break
    text, items, expression = _FAMILIES[family](_Draw(rng, first, second))
    return Question(shop, f"Shop {shop}: {text}", items, expression, family)
