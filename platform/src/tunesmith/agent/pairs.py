"""Delta learning: preference pairs from prompts alone, by preferring the answers of a strong model to those of a weak one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tunesmith.agent.rows import Row, prompt_of
from tunesmith.errors import InvalidArgument


@dataclass(frozen=True)
class Pairs:
    """Preference rows, and what became of the rest."""

    rows: list[Row]
    lines: list[int]
    """Line of the prompt that each row was made from, from 1."""
    equal: int
    """Prompts left out because both models gave the same answer."""
    missing: int
    """Prompts left out because a model gave no answer, or an empty one."""

    def summary(self) -> str:
        """What was made, in a sentence."""
        left = [f"{self.equal} where both answers are equal"] if self.equal else []
        left += [f"{self.missing} without an answer of both models"] if self.missing else []
        tail = f"; left out: {', '.join(left)}" if left else ""
        return f"{len(self.rows)} preference pairs from {len(self.rows) + self.equal + self.missing} prompts{tail}."


def make_pairs(prompts: Iterable[Row], strong: Sequence[str | None], weak: Sequence[str | None]) -> Pairs:
    """Pair the answers of two models to the same prompts, in their order. None: the model gave no answer.

    A row's own answer, if it ends in one, is not used. Answers that differ in nothing but white space at their ends are equal.
    Raises InvalidArgument when the numbers of prompts and answers differ, or when no pair is left.
    """
    prompts = list(prompts)
    if not len(prompts) == len(strong) == len(weak):
        raise InvalidArgument(
            f"There are {len(prompts)} prompts, {len(strong)} answers of the strong model and {len(weak)} of the weak one; "
            "each prompt needs one of each."
        )
    rows: list[Row] = []
    lines: list[int] = []
    equal = missing = 0
    for line, (prompt, better, worse) in enumerate(zip(prompts, strong, weak, strict=True), start=1):
        if not (better or "").strip() or not (worse or "").strip():
            missing += 1
        elif str(better).strip() == str(worse).strip():
            equal += 1
        else:
            rows.append(_pair(prompt, str(better), str(worse)))
            lines.append(line)
    pairs = Pairs(rows, lines, equal, missing)
    if not rows:
        raise InvalidArgument(
            f"No preference pair could be made: {pairs.summary()} Choose two models that answer differently."
        )
    return pairs


def _pair(prompt: Row, better: str, worse: str) -> Row:
    asked: Row = {"messages": prompt_of(prompt)}
    if prompt.get("tools"):
        asked["tools"] = prompt["tools"]
    return {
        "input": asked,
        "preferred_output": [{"role": "assistant", "content": better}],
        "non_preferred_output": [{"role": "assistant", "content": worse}],
    }
