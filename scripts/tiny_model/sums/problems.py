"""Word problems, their exact solutions, and deliberately flawed demonstrations.

Everything is a pure function of a seed: ``problem(stream, index)`` gives the same problem for ever.
What keeps the sets apart is the text, not the seed: ``partition`` hashes a question into the part that may
use it, so that no question of the example data can turn up in pre-training, whatever the seeds.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from enum import StrEnum

from scripts.tiny_model.sums.templates import BOXES, HELD_OUT, ITEMS, PEOPLE, TRAINING, Template

INSTRUCTION = "Put the final number inside <answer> tags."
LARGEST_RESULT = 120
LARGEST_FACTOR = 25


class Part(StrEnum):
    """Who may use a question."""

    PRETRAIN = "pretrain"
    """Pre-training of the base model."""
    TRAIN = "train"
    """Rows that reinforcement fine-tuning trains on."""
    HELD_OUT = "held_out"
    """Rows that only evaluations see."""


class Flaw(StrEnum):
    """What is wrong with a flawed demonstration."""

    WRONG_OPERATION = "wrong_operation"
    """One step uses another operation, and the error is carried through."""
    SLIP = "slip"
    """One result is a little off, and the error is carried through."""
    SKIPPED_STEP = "skipped_step"
    """The last step is missing; the answer is the result before it."""
    NO_ANSWER = "no_answer"
    """The working is right, but no answer follows it."""
    MISCOPIED = "miscopied"
    """The working is right, the answer differs from it in one digit."""


class AnswerForm(StrEnum):
    """How a demonstration states its answer."""

    TAGGED = "tagged"
    """``<answer>12</answer>``, what the example's evaluator asks for."""
    SENTENCE = "sentence"
    """``The answer is 12.``, what the base model prefers."""


@dataclass(frozen=True)
class Step:
    """One line of working: ``left op right = result``."""

    left: int
    op: str
    right: int
    result: int

    def __str__(self) -> str:
        return f"{self.left}{self.op}{self.right}={self.result}"


@dataclass(frozen=True)
class Problem:
    """A question with its plan, its numbers and its exact solution."""

    template: str
    question: str
    plan: tuple[str, ...]
    values: dict[str, int]
    steps: tuple[Step, ...]

    @property
    def answer(self) -> int:
        """The number asked for."""
        return self.steps[-1].result


def apply(op: str, left: int, right: int) -> int:
    """Computes one operation; division rounds down (exact in every unflawed solution)."""
    if op == "+":
        return left + right
    if op == "-":
        return left - right
    if op == "*":
        return left * right
    return left // max(right, 1)


def _parse(step: str) -> tuple[str, str, str]:
    at = next(i for i, char in enumerate(step) if char in "+-*/")
    return step[:at], step[at], step[at + 1 :]


def work(
    plan: tuple[str, ...],
    values: dict[str, int],
    *,
    at: int = -1,
    op: str | None = None,
    slip: int = 0,
) -> tuple[Step, ...]:
    """Carries out a plan, with an optional error in one step that later steps carry through.

    Args:
        plan: Steps such as ``("a+b", "r1*c")``.
        values: The numbers of the problem by name.
        at: Index of the step to spoil, -1 for none.
        op: Operation that replaces the right one there.
        slip: Added to that step's result.
    """
    known, steps = dict(values), []
    for index, text in enumerate(plan):
        left_name, right_op, right_name = _parse(text)
        left = known.get(left_name, 0) if not left_name.isdigit() else int(left_name)
        right = known.get(right_name, 0) if not right_name.isdigit() else int(right_name)
        used = op if op and index == at else right_op
        result = max(0, apply(used, left, right) + (slip if index == at else 0))
        known[f"r{index + 1}"] = result
        steps.append(Step(left, used, right, result))
    return tuple(steps)


def _acceptable(steps: tuple[Step, ...]) -> bool:
    for step in steps:
        if step.op == "/":
            if step.right < 1 or step.left % step.right or not 2 <= step.result <= LARGEST_FACTOR:
                return False
        elif step.op == "*":
            if not (2 <= step.right <= 9 and 2 <= step.left <= LARGEST_FACTOR):
                return False
        elif step.op == "-" and step.left <= step.right:
            return False
        if not 1 <= step.result <= LARGEST_RESULT:
            return False
    return True


def _draw_values(template: Template, rng: random.Random) -> dict[str, int]:
    ranges: dict[str, tuple[int, int]] = {}
    for text in template.plan:
        left, op, right = _parse(text)
        for name in (left, right):
            if len(name) == 1 and name.isalpha():
                ranges.setdefault(name, (2, 25))
        if op in "*/" and right in ranges:
            ranges[right] = (2, 9)
        if op == "/" and left in ranges:
            ranges[left] = (4, 96)
    ranges |= template.ranges
    while True:
        values = {name: rng.randint(low, high) for name, (low, high) in ranges.items()}
        if _acceptable(work(template.plan, values)):
            return values


def make(template: Template, rng: random.Random) -> Problem:
    """Draws words and numbers for a template; every step of the solution is exact and positive."""
    values = _draw_values(template, rng)
    (first, pronoun), (second, _), (third, _) = rng.sample(PEOPLE, 3)
    (item, items), (_, others) = rng.sample(ITEMS, 2)
    box, boxes = rng.choice(BOXES)
    question = rng.choice(template.texts).format(
        A=first, B=second, C=third, he=pronoun, He=pronoun.capitalize(), i=item, it=items, it2=others,
        box=box, boxes=boxes, **values,
    )  # fmt: skip
    return Problem(template.name, question, template.plan, values, work(template.plan, values))


def partition(question: str) -> Part:
    """Says which part may use a question: 1/8 training rows, 1/8 held out, the rest pre-training."""
    byte = hashlib.sha256(question.encode()).digest()[0]
    return {0: Part.TRAIN, 1: Part.HELD_OUT}.get(byte % 8, Part.PRETRAIN)


def problem(stream: str, index: int, part: Part, *, held_out_templates: bool = False) -> Problem:
    """Gives problem ``index`` of a stream.

    Args:
        stream: Names the sequence, for example ``"pretrain-0"``; part of the seed.
        index: Position in the sequence.
        part: Only questions of this part are drawn.
        held_out_templates: Draw from ``HELD_OUT`` instead of ``TRAINING``.
    """
    rng = random.Random(f"{stream}/{index}")
    templates = HELD_OUT if held_out_templates else TRAINING
    while True:
        drawn = make(rng.choice(templates), rng)
        if partition(drawn.question) is part:
            return drawn


def drill(rng: random.Random) -> Problem:
    """Gives bare sums to compute, four to a prompt: much arithmetic in few tokens."""
    steps: list[Step] = []
    while len(steps) < 4:
        op = rng.choice("+-*/")
        left = rng.randint(2, LARGEST_FACTOR if op == "*" else LARGEST_RESULT)
        right = rng.randint(2, 9 if op in "*/" else rng.choice((LARGEST_FACTOR, 60)))
        if op == "/":
            left = right * rng.randint(2, LARGEST_FACTOR)
        step = Step(left, op, right, apply(op, left, right))
        if _acceptable((step,)):
            steps.append(step)
    question = "Compute " + ", ".join(f"{s.left}{s.op}{s.right}" for s in steps) + "."
    return Problem("drill", question, (), {}, tuple(steps))


def _write(steps: tuple[Step, ...], answer: int | None, form: AnswerForm) -> str:
    working = "".join(f"{step}\n" for step in steps)
    text = f"<think>\n{working}</think>\n"
    if answer is None:
        return text
    return text + (f"<answer>{answer}</answer>" if form is AnswerForm.TAGGED else f"The answer is {answer}.")


def solution(item: Problem, form: AnswerForm = AnswerForm.TAGGED) -> str:
    """Writes the right solution as an assistant's message."""
    return _write(item.steps, item.answer, form)


def flawed(item: Problem, form: AnswerForm, rng: random.Random) -> str:
    """Writes a demonstration with one flaw drawn at random (some flaws leave the answer right by chance)."""
    kinds = list(Flaw) if item.plan else [Flaw.NO_ANSWER, Flaw.MISCOPIED]
    kind = rng.choice([k for k in kinds if k is not Flaw.SKIPPED_STEP or len(item.steps) > 1])
    at = rng.randrange(len(item.steps))
    if kind is Flaw.WRONG_OPERATION:
        op = rng.choice([o for o in "+-*" if o != item.steps[at].op])
        steps = work(item.plan, item.values, at=at, op=op)
        return _write(steps, steps[-1].result, form)
    if kind is Flaw.SLIP:
        steps = work(item.plan, item.values, at=at, slip=rng.choice((-10, -2, -1, 1, 2, 10)))
        return _write(steps, steps[-1].result, form)
    if kind is Flaw.SKIPPED_STEP:
        steps = list(item.steps[:-1])
        return _write(tuple(steps), steps[-1].result, form)
    if kind is Flaw.NO_ANSWER:
        return _write(item.steps, None, form)
    digits = list(str(item.answer))
    place = rng.randrange(len(digits))
    digits[place] = rng.choice([d for d in "123456789" if d != digits[place]])
    return _write(item.steps, int("".join(digits)), form)
