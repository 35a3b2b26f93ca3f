"""Drawings as a task, scored by the geometric judge of `examples/svg_agent`."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer
from transformers import PreTrainedModel

from examples.svg_agent.evaluator import geometric
from examples.svg_agent.evaluator.extract import NoDrawing, extract_svg
from scripts.tiny_model import tokenizer as tokenizers
from scripts.tiny_model.batches import prompt_text
from scripts.tiny_model.drawings.demonstrations import INSTRUCTION, SYSTEM_PROMPTS, WORDS, Mixture, demonstration
from scripts.tiny_model.drawings.scenes import Part, draw_scene, requirements
from scripts.tiny_model.drawings.wordings import Wording, word
from scripts.tiny_model.sampling import TEMPERATURES, complete
from scripts.tiny_model.stages import Stage
from scripts.tiny_model.task import Task

STAGES = (
    Stage("skill", 1200, Mixture(singles=0.25, plain=0.0, careless=0.0), "muon", 0.02, 3e-3, 0.02, 0.5),
    Stage("plain", 300, Mixture(singles=0.25, plain=0.85, careless=0.12), "adamw", 1e-3, 1e-3, 0.05, 1.0),
)
SINGLES = 0.25
"""Share of rows that ask for one object."""
LONGEST = 80
"""Tokens of an answer."""

# Markup as pieces of its own, so that a drawing of two objects takes some 30 tokens; numbers go in pairs of digits.
PIECES = (
    r"```svg\n|\n```|<svg viewBox=\"0 0 100 100\">|<\p{L}+ \p{L}+=\"|\" \p{L}+=\"|\"/>|</\p{L}+>|\p{N}{1,2}|"
    + tokenizers.PIECES
)


@dataclass(frozen=True)
class Item:
    """One prompt with what is asked for."""

    prompt: str
    requirements: tuple[str, ...]
    wording: Wording


def item(stream: str, index: int, part: Part) -> Item:
    """Gives item `index` of a stream; the same for ever."""
    rng = random.Random(f"{stream}/{index}")
    scene = draw_scene(rng, part, 1 if rng.random() < SINGLES else 2)
    wording, prompt = word(scene, rng, part)
    return Item(prompt, tuple(requirements(scene)), wording)


def _corpus(count: int) -> Iterator[str]:
    mixture = Mixture(singles=0.25, plain=0.0, careless=0.0)
    for index in range(count):
        shown = demonstration("tokenizer", index, mixture)
        yield shown.messages[-1]["content"]
        yield shown.answer
        if index % 10 == 0:
            yield from (INSTRUCTION, *SYSTEM_PROMPTS, tokenizers.ROLES, WORDS)
            yield " ".join(f"{i:02}" for i in range(100))
    for _ in range(5):
        yield tokenizers.OTHER_TEXT


def train_tokenizer(count: int = 3000) -> Tokenizer:
    """Trains the tokenizer; deterministic."""
    return tokenizers.train(_corpus(count), pieces=PIECES)


def score(text: str, wanted: Sequence[str]) -> float:
    """Scores an answer as the example's evaluator does: 0 without a drawing."""
    try:
        svg = extract_svg(text)
    except NoDrawing:
        return 0.0
    return geometric.score(geometric.judge(svg, wanted))


def held_out(count: int, stream: str = "progress") -> list[Item]:
    """Gives items whose scenes and wordings no training has seen."""
    return [item(stream, index, Part.HELD_OUT) for index in range(count)]


def scores(
    model: PreTrainedModel, tokenizer: Tokenizer, jobs: Sequence[tuple[Item, float]], seed: int = 0
) -> list[float]:
    """Scores one completion for each item and temperature."""
    prompts = [prompt_text([{"role": "user", "content": f"{job.prompt} {INSTRUCTION}"}]) for job, _ in jobs]
    texts = complete(model, tokenizer, prompts, [heat for _, heat in jobs], seed, LONGEST)
    return [score(text, job.requirements) for text, (job, _) in zip(texts, jobs, strict=True)]


def evaluate(
    model: PreTrainedModel, tokenizer: Tokenizer, items: Sequence[Item], seed: int = 0, *, with_pass_at: bool = True
) -> dict[str, float]:
    """Mean score at each temperature (`all T=1`: share of drawings that meet everything), and over 8 samples at T=1.

    `pass@8` is the share of items with a drawing among 8 that meets everything, `best of 8` the mean of the best score.
    """
    total, figures = len(items), dict[str, float]()
    found = scores(model, tokenizer, [(i, t) for t in TEMPERATURES for i in items], seed)
    for place, heat in enumerate(TEMPERATURES):
        part = found[place * total : (place + 1) * total]
        figures[f"T={heat:g}"] = round(sum(part) / total, 4)
        figures[f"all T={heat:g}"] = round(sum(s >= 1 for s in part) / total, 4)
    if with_pass_at:
        found = scores(model, tokenizer, [(i, 1.0) for i in items for _ in range(8)], seed + 1)
        best = [max(found[i : i + 8]) for i in range(0, len(found), 8)]
        figures["pass@8"] = round(sum(s >= 1 for s in best) / total, 4)
        figures["best of 8"] = round(sum(best) / total, 4)
    return figures


def card(model: PreTrainedModel, tokenizer: Tokenizer, count: int, seed: int) -> None:
    """Prints the figures of the model card."""
    figures = evaluate(model, tokenizer, held_out(count, "card"), seed)
    error = 1.96 * math.sqrt(0.25 / count)
    print(f"{count} held-out drawings, at most +-{error:.3f}: {json.dumps(figures)}", flush=True)


TASK = Task(
    name="drawings",
    stages=STAGES,
    train_tokenizer=train_tokenizer,
    demonstrate=demonstration,
    evaluate=lambda model, tokenizer, count, last: evaluate(model, tokenizer, held_out(count), with_pass_at=last),
    card=card,
)
