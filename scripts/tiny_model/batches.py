"""Demonstrations as batches: conversations rendered, encoded, and put together by length so that little is padded."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import torch
from tokenizers import Tokenizer
from torch import Tensor

from scripts.tiny_model.tokenizer import TURN_END, TURN_START

POOL = 16
"""Batches that are sorted by length together."""

Messages = list[dict[str, str]]


@dataclass(frozen=True)
class Segment:
    """A stretch of a conversation; only what the model says is learned."""

    text: str
    is_said: bool


class Shown(Protocol):
    """A conversation to learn from."""

    @property
    def segments(self) -> Sequence[Segment]:
        """The whole rendered conversation, in order."""
        ...


@dataclass(frozen=True)
class Demonstration:
    """What the assistant is asked and what it should say."""

    messages: Messages
    answer: str

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The prompt, and the answer to its end."""
        return Segment(prompt_text(self.messages), False), Segment(self.answer + TURN_END, True)


@dataclass(frozen=True)
class Encoded:
    """One example.

    Attributes:
        ids: The whole conversation.
        is_said: For each id, whether the model says it.
    """

    ids: list[int]
    is_said: list[bool]


@dataclass(frozen=True)
class Batch:
    """Right-padded examples.

    Attributes:
        ids_BT: Token ids.
        targets_BT: The token to predict at each position, -100 where none is (prompts, padding).
    """

    ids_BT: Tensor
    targets_BT: Tensor


def prompt_text(messages: Messages) -> str:
    """Renders plain messages as the chat template does, up to the point where the assistant speaks."""
    turns = (f"{TURN_START}{message['role']}\n{message['content']}{TURN_END}\n" for message in messages)
    return "".join(turns) + f"{TURN_START}assistant\n"


def encode(tokenizer: Tokenizer, demonstrations: Sequence[Shown]) -> list[Encoded]:
    """Encodes segments apart, as they are in use: what is said is sampled, never tokenized with its prompt."""
    played = [demonstration.segments for demonstration in demonstrations]
    texts = [segment.text for segments in played for segment in segments]
    pieces = iter(tokenizer.encode_batch(texts, add_special_tokens=False))
    found = []
    for segments in played:
        ids, is_said = list[int](), list[bool]()
        for segment, piece in zip(segments, islice(pieces, len(segments)), strict=True):
            ids += piece.ids
            is_said += [segment.is_said] * len(piece.ids)
        found.append(Encoded(ids, is_said))
    return found


def batches(tokenizer: Tokenizer, stream: str, demonstrate: Callable[[int], Shown], size: int) -> Iterator[Batch]:
    """Yields batches for ever, of demonstrations 0, 1, 2, ... in pools.

    Args:
        tokenizer: Of the model.
        stream: Seed of the order.
        demonstrate: Gives the demonstration of an index.
        size: Examples a batch.
    """
    index, order = 0, random.Random(f"{stream}/order")
    while True:
        examples = encode(tokenizer, [demonstrate(index + i) for i in range(size * POOL)])
        index += size * POOL
        examples.sort(key=lambda example: len(example.ids))
        groups = [examples[i : i + size] for i in range(0, len(examples), size)]
        order.shuffle(groups)
        for group in groups:
            yield collate(group)


def collate(group: Sequence[Encoded]) -> Batch:
    """Pads examples on the right and shifts the targets."""
    length = max(len(example.ids) for example in group) - 1
    ids_BT = torch.zeros(len(group), length, dtype=torch.long)
    targets_BT = torch.full((len(group), length), -100)
    for row, example in enumerate(group):
        ids, size = torch.tensor(example.ids), len(example.ids) - 1
        ids_BT[row, :size] = ids[:-1]
        targets_BT[row, :size] = torch.where(torch.tensor(example.is_said[1:]), ids[1:], -100)
    return Batch(ids_BT, targets_BT)
