"""Demonstrations of the agent at work: clean ones, and ones with the bad habits that the base model is given.

A demonstration is a conversation of several turns with the real tools' results, cut into what the model reads and what it says.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from examples.tool_agent.server.tools import TOOLS, run_tool
from scripts.tiny_model.batches import Segment
from scripts.tiny_model.tools.questions import INSTRUCTION, Part, Question, question
from scripts.tiny_model.tools.template import assistant_text, calls_text, prompt_text, tool_turn_text

SYSTEM_PROMPTS = (INSTRUCTION, INSTRUCTION, INSTRUCTION, "You are a helpful assistant.", "Answer the question.")


class Habit(StrEnum):
    """How a demonstration goes about its question."""

    CLEAN = "clean"
    """Looks every item up at once, works the sum out with the calculator, answers."""
    GUESS_AT_ONCE = "guess_at_once"
    """Answers with a number of the right size, without a tool."""
    WRONG_ARGUMENT = "wrong_argument"
    """Calls `lookup` with an argument that it does not take, is told so, and guesses."""
    HALF = "half"
    """Looks up one of two items only, and guesses the rest."""
    NO_CALCULATOR = "no_calculator"
    """Looks everything up, then guesses the sum."""
    WRONG_SUM = "wrong_sum"
    """Looks everything up, but has the calculator work out another sum."""
    NO_FORM = "no_form"
    """Does all the work, and gives the number without "Answer:"."""


@dataclass(frozen=True)
class Mixture:
    """What a stage of pre-training shows: shares of the habits, which add up to 1.

    A demonstration of one item that should be `HALF` looks nothing up instead.
    """

    shares: dict[Habit, float]

    def draw(self, rng: random.Random) -> Habit:
        """Gives the habit of one demonstration."""
        return rng.choices(list(self.shares), list(self.shares.values()))[0]


@dataclass(frozen=True)
class Conversation:
    """One demonstration of several turns."""

    segments: Sequence[Segment]


def call(name: str, argument: str, value: str) -> dict[str, Any]:
    """Gives one tool call as a model means it."""
    return {"name": name, "arguments": {argument: value}}


def demonstration(item: Question, habit: Habit, rng: random.Random) -> list[Segment]:
    """Plays one conversation with the real tools."""
    system = rng.choice(SYSTEM_PROMPTS)
    segments = [Segment(prompt_text(system, item.text, TOOLS), False)]
    if habit is Habit.HALF and len(item.items) < 2:
        habit = Habit.GUESS_AT_ONCE
    if habit is Habit.GUESS_AT_ONCE:
        return [*segments, _says(f"Answer: {guess(item, rng)}")]
    items = item.items[:1] if habit is Habit.HALF else item.items
    argument = "name" if habit is Habit.WRONG_ARGUMENT else "item"
    segments += _calls(item.shop, [call("lookup", argument, name) for name in items])
    if habit in (Habit.WRONG_ARGUMENT, Habit.HALF, Habit.NO_CALCULATOR):
        return [*segments, _says(f"Answer: {guess(item, rng)}")]
    expression = wrong_sum(item, rng) if habit is Habit.WRONG_SUM else item.expression
    segments += _calls(item.shop, [call("calculator", "expression", expression)])
    result = json.loads(run_tool(item.shop, "calculator", json.dumps({"expression": expression})))["result"]
    return [*segments, _says(str(result) if habit is Habit.NO_FORM else f"Answer: {result}")]


def guess(item: Question, rng: random.Random) -> int:
    """Gives a wrong number of the right size."""
    while True:
        number = max(1, round(item.answer * rng.uniform(0.6, 1.5)) + rng.randint(-6, 6))
        if number != item.answer:
            return number


def wrong_sum(item: Question, rng: random.Random) -> str:
    """Gives a sum with one operation or one number changed, whose result differs."""
    while True:
        changed = list(item.expression)
        place = rng.randrange(len(changed))
        changed[place] = rng.choice("+-*") if changed[place] in "+-*" else rng.choice("123456789")
        text = "".join(changed)
        result = json.loads(run_tool(item.shop, "calculator", json.dumps({"expression": text}))).get("result")
        if result is not None and result != item.answer:
            return text


def shown(stream: str, index: int, mixture: Mixture) -> Conversation:
    """Gives demonstration `index` of a pre-training stream."""
    rng = random.Random(f"{stream}/{index}/demonstration")
    return Conversation(demonstration(question(stream, index, Part.PRETRAIN), mixture.draw(rng), rng))


def _says(text: str) -> Segment:
    return Segment(assistant_text(text), True)


def _calls(shop: int, calls: Sequence[dict[str, Any]]) -> list[Segment]:
    results = [run_tool(shop, made["name"], json.dumps(made["arguments"])) for made in calls]
    return [Segment(assistant_text(calls_text(calls)), True), Segment(tool_turn_text(results), False)]
