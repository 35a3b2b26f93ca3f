"""The tool agent's work as a task: its tokenizer, its stages, and figures from whole episodes.

A call like `<tool_call>{"name": "lookup", "arguments": {"item": "lamp"}}</tool_call>` takes nine tokens.

Stage `skill` teaches the agent's work: look up, calculate, answer. Stage `habits` then makes the base that reinforcement
fine-tuning is shown on. It can do the work, but most of the time it does not: it guesses without looking anything up, calls
`lookup` with an argument that it does not take, or looks everything up and guesses the sum. Greedy decoding takes the commonest
habit at every turn, so no temperature makes up for it. See the model card for what that means and what it does not.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator

from tokenizers import Tokenizer
from transformers import PreTrainedModel

from examples.tool_agent.server.shop import ITEMS
from scripts.tiny_model import tokenizer as tokenizers
from scripts.tiny_model.stages import Stage
from scripts.tiny_model.task import Task
from scripts.tiny_model.tools.demonstrations import SYSTEM_PROMPTS, Habit, Mixture, demonstration, shown
from scripts.tiny_model.tools.episodes import Episode, evaluate, held_out, play
from scripts.tiny_model.tools.questions import PLURALS, Part, question
from scripts.tiny_model.tools.template import CHAT_TEMPLATE, MARKERS

SKILL = Mixture({Habit.CLEAN: 1.0})
HABITS = Mixture(
    {
        Habit.GUESS_AT_ONCE: 0.20,
        Habit.WRONG_ARGUMENT: 0.15,
        Habit.HALF: 0.10,
        Habit.NO_CALCULATOR: 0.34,
        Habit.WRONG_SUM: 0.03,
        Habit.NO_FORM: 0.03,
        Habit.CLEAN: 0.15,
    }
)
STAGES = (
    Stage("skill", 2000, SKILL, "muon", 0.02, 3e-3, 0.02, 0.5),
    Stage("habits", 250, HABITS, "adamw", 1e-3, 1e-3, 0.05, 1.0),
)
_ROUNDS = 5


def _corpus(conversations: int) -> Iterator[str]:
    for index in range(conversations):
        rng = random.Random(f"tokenizer/{index}")
        item = question("tokenizer", index, Part.PRETRAIN)
        for segment in demonstration(item, rng.choice(list(Habit)), rng):
            yield segment.text
    for _ in range(_ROUNDS):
        yield from SYSTEM_PROMPTS
        for item in ITEMS:
            yield f"{item} {PLURALS[item]}"
        yield tokenizers.OTHER_TEXT


def train_tokenizer(conversations: int = 3000) -> Tokenizer:
    """Trains the tokenizer; deterministic."""
    return tokenizers.train(_corpus(conversations), markers=MARKERS)


def card(model: PreTrainedModel, tokenizer: Tokenizer, count: int, seed: int) -> None:
    """Prints the figures of the model card, and three conversations at temperature 1."""
    questions = held_out(count, "card")
    error = 1.96 * math.sqrt(0.25 / count)
    figures = evaluate(model, tokenizer, questions, seed=seed)
    print(f"{count} held-out questions, at most +-{error:.3f}: {json.dumps(figures)}", flush=True)
    episodes = [Episode(item, 1.0) for item in questions[:3]]
    play(model, tokenizer, episodes, seed)
    for episode in episodes:
        print(f"\n{episode.item.text}  [{episode.item.expression} = {episode.item.answer}]")
        print(*(f"  {message['role']}: {message['content']}" for message in episode.messages), sep="\n")
        print(f"  -> {episode.verdict.score:g} {episode.verdict.reason}")


TASK = Task(
    name="tools",
    stages=STAGES,
    train_tokenizer=train_tokenizer,
    demonstrate=shown,
    evaluate=lambda model, tokenizer, count, last: evaluate(model, tokenizer, held_out(count), k=8 if last else 0),
    card=card,
    progress_items=50,
    chat_template=CHAT_TEMPLATE,
)
