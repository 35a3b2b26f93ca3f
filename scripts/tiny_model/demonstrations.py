"""Turns problems into training examples: prompt ids, completion ids, batches of equal-ish length."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from scripts.tiny_model.problems import INSTRUCTION, AnswerForm, Part, Problem, drill, flawed, problem, solution
from scripts.tiny_model.tokenizer import TURN_END

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


@dataclass(frozen=True)
class Batch:
    """Right-padded examples.

    Attributes:
        ids_BT: Token ids.
        targets_BT: The token to predict at each position, -100 where none is (prompts, padding).
    """

    ids_BT: Tensor
    targets_BT: Tensor


def messages_for(question: str, rng: random.Random) -> list[dict[str, str]]:
    """Wraps a question in one of the prompts that occur: the instruction as system prompt, after the question, or none."""
    roll = rng.random()
    if roll < 0.45:
        return [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": question}]
    if roll < 0.55:
        return [{"role": "user", "content": f"{question} {INSTRUCTION}"}]
    if roll < 0.70:
        return [{"role": "system", "content": rng.choice(SYSTEM_PROMPTS)}, {"role": "user", "content": question}]
    return [{"role": "user", "content": question}]


def prompt_ids(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]]) -> list[int]:
    """Renders messages up to the point where the assistant speaks."""
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return tokenizer.encode(str(text), add_special_tokens=False)


def pretraining_problem(stream: str, index: int, mixture: Mixture) -> tuple[Problem, random.Random]:
    """Gives problem ``index`` of a pre-training stream, and the generator that decides about its demonstration."""
    rng = random.Random(f"{stream}/{index}/demonstration")
    if rng.random() < mixture.drill:
        return drill(rng), rng
    return problem(stream, index, Part.PRETRAIN), rng


def example(tokenizer: PreTrainedTokenizerBase, stream: str, index: int, mixture: Mixture) -> tuple[list[int], int]:
    """Gives the ids of one example and the length of its prompt."""
    item, rng = pretraining_problem(stream, index, mixture)
    form = AnswerForm.TAGGED if rng.random() < mixture.tagged else AnswerForm.SENTENCE
    text = flawed(item, form, rng) if rng.random() < mixture.flawed else solution(item, form)
    prompt = prompt_ids(tokenizer, messages_for(item.question, rng))
    return prompt + tokenizer.encode(text + TURN_END, add_special_tokens=False), len(prompt)


def batches(
    tokenizer: PreTrainedTokenizerBase, stream: str, mixture: Mixture, size: int, pool: int = 16
) -> Iterator[Batch]:
    """Yields batches for ever; examples are sorted by length within a pool of batches, so that little is padded."""
    index, order = 0, random.Random(f"{stream}/order")
    while True:
        examples = [example(tokenizer, stream, index + i, mixture) for i in range(size * pool)]
        index += size * pool
        examples.sort(key=lambda e: len(e[0]))
        groups = [examples[i : i + size] for i in range(0, len(examples), size)]
        order.shuffle(groups)
        for group in groups:
            yield _collate(group)


def _collate(group: list[tuple[list[int], int]]) -> Batch:
    length = max(len(ids) for ids, _ in group) - 1
    ids_BT = torch.zeros(len(group), length, dtype=torch.long)
    targets_BT = torch.full((len(group), length), -100)
    for row, (ids, prompt) in enumerate(group):
        ids_BT[row, : len(ids) - 1] = torch.tensor(ids[:-1])
        targets_BT[row, prompt - 1 : len(ids) - 1] = torch.tensor(ids[prompt:])
    return Batch(ids_BT, targets_BT)
