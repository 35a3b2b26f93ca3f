"""What a task brings to the shared machinery: its tokenizer, its stages, its demonstrations and its judge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedModel

from scripts.tiny_model.batches import Shown
from scripts.tiny_model.stages import Stage
from scripts.tiny_model.tokenizer import CHAT_TEMPLATE

NAMES = ("sums", "drawings", "tools")


@dataclass(frozen=True)
class Task:
    """One kind of tiny model.

    Attributes:
        name: As on the command line; also the folder of its modules.
        stages: How it is pre-trained, in order.
        train_tokenizer: Trains its tokenizer; deterministic.
        demonstrate: Gives demonstration `index` of a stream under a mixture: `(stream, index, mixture)`.
        evaluate: Scores a model on held-out items at all temperatures: `(model, tokenizer, items, with_pass_at)`.
        card: Prints the figures of the model card: `(model, tokenizer, items, seed)`.
        progress_items: Items of the evaluations during a stage, on a CPU; four times as many on an accelerator.
        chat_template: Of the saved tokenizer.
    """

    name: str
    stages: tuple[Stage, ...]
    train_tokenizer: Callable[[], Tokenizer]
    demonstrate: Callable[[str, int, Any], Shown]
    evaluate: Callable[[PreTrainedModel, Tokenizer, int, bool], dict[str, float]]
    card: Callable[[PreTrainedModel, Tokenizer, int, int], None]
    progress_items: int = 100
    chat_template: str = CHAT_TEMPLATE


def named(name: str) -> Task:
    """Gives a task; imports only its own modules."""
    return import_module(f"scripts.tiny_model.{name}.task").TASK
