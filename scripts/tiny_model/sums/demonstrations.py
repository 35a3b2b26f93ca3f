"""Demonstrations of word problems, as pre-training shows them."""

from __future__ import annotations

import random
from dataclasses import dataclass

from scripts.tiny_model.batches import Demonstration, Messages
from scripts.tiny_model.sums.problems import INSTRUCTION, AnswerForm, Part, Problem, drill, flawed, problem, solution

SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "Solve the problem step by step.",
    "Think first, then give the final answer.",
)


@dataclass(frozen=True)
class Mixture:
    """What a stage of pre-training shows.

    Attributes:
        tagged: Share of demonstrations that end in ``<answer>N</answer>``; the others say "The answer is N.".
        flawed: Share of demonstrations with a deliberate flaw.
        drill: Share of bare sums instead of word problems.
    """

    tagged: float
    flawed: float
    drill: float


def messages_for(question: str, rng: random.Random) -> Messages:
    """Wraps a question in one of the prompts that occur: the instruction as system prompt, after the question, or none."""
    roll = rng.random()
    if roll < 0.45:
        return [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": question}]
    if roll < 0.55:
        return [{"role": "user", "content": f"{question} {INSTRUCTION}"}]
    if roll < 0.70:
        return [{"role": "system", "content": rng.choice(SYSTEM_PROMPTS)}, {"role": "user", "content": question}]
    return [{"role": "user", "content": question}]


def pretraining_problem(stream: str, index: int, mixture: Mixture) -> tuple[Problem, random.Random]:
    """Gives problem ``index`` of a pre-training stream, and the generator that decides about its demonstration."""
    rng = random.Random(f"{stream}/{index}/demonstration")
    if rng.random() < mixture.drill:
        return drill(rng), rng
    return problem(stream, index, Part.PRETRAIN), rng


def demonstration(stream: str, index: int, mixture: Mixture) -> Demonstration:
    """Gives demonstration ``index`` of a pre-training stream."""
    item, rng = pretraining_problem(stream, index, mixture)
    form = AnswerForm.TAGGED if rng.random() < mixture.tagged else AnswerForm.SENTENCE
    text = flawed(item, form, rng) if rng.random() < mixture.flawed else solution(item, form)
    return Demonstration(messages_for(item.question, rng), text)
