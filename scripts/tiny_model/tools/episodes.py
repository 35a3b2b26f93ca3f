"""Evaluates a checkpoint by whole episodes: the model talks to the real tools until it answers, and the example's judge scores it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedModel

from examples.tool_agent.evaluator.scoring import Verdict, judge
from examples.tool_agent.server.tools import TOOLS, run_tool
from scripts.tiny_model.sampling import TEMPERATURES, complete
from scripts.tiny_model.tools.questions import INSTRUCTION, Part, Question, question
from scripts.tiny_model.tools.template import assistant_text, prompt_text, tool_turn_text

TURNS = 6
"""Model calls an episode may take; the example's server has the same limit."""

LONGEST_TURN = 48
"""Tokens."""

_CALL = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)


@dataclass
class Episode:
    """One conversation being played."""

    item: Question
    temperature: float
    text: str = ""
    messages: list[dict[str, Any]] = field(default_factory=list)
    is_over: bool = False

    def __post_init__(self) -> None:
        self.text = prompt_text(INSTRUCTION, self.item.text, TOOLS)

    def take(self, said: str) -> None:
        """Takes in what the model said: runs its tool calls, or ends."""
        calls = read_calls(said)
        self.messages.append({"role": "assistant", "content": said, "tool_calls": calls})
        if not calls:
            self.is_over = True
            return
        results = [run_tool(self.item.shop, call["name"], json.dumps(call["arguments"])) for call in calls]
        self.messages += [{"role": "tool", "content": result} for result in results]
        self.text += assistant_text(said) + tool_turn_text(results)

    @property
    def verdict(self) -> Verdict:
        """What the example's judge says."""
        return judge(self.messages, self.item.answer, self.item.items)


def read_calls(said: str) -> list[dict[str, Any]]:
    """Gives the tool calls of a turn; none if anything in it is not a well-formed call, as in the platform's parser."""
    calls = []
    for source in _CALL.findall(said):
        try:
            call = json.loads(source)
        except ValueError:
            return []
        if not isinstance(call, dict) or not isinstance(call.get("name"), str):
            return []
        calls.append({"name": call["name"], "arguments": call.get("arguments", {})})
    return [] if _CALL.sub("", said[said.find("<tool_call>") :]).strip() else calls


def play(model: PreTrainedModel, tokenizer: Tokenizer, episodes: Sequence[Episode], seed: int) -> None:
    """Plays all episodes to their ends, side by side."""
    for turn in range(TURNS):
        live = [episode for episode in episodes if not episode.is_over]
        if not live:
            break
        heats = [episode.temperature for episode in live]
        texts = [episode.text for episode in live]
        said = complete(model, tokenizer, texts, heats, seed + 7919 * turn, LONGEST_TURN)
        for episode, text in zip(live, said, strict=True):
            episode.take(text)


def evaluate(
    model: PreTrainedModel, tokenizer: Tokenizer, questions: Sequence[Question], *, seed: int = 0, k: int = 8
) -> dict[str, float]:
    """Gives the mean score and the share of right answers at each temperature, and pass@k at temperature 1.

    pass@k is the share of questions of which at least one of `k` episodes scores 1; 0 leaves it out.
    """
    jobs = [Episode(item, heat) for heat in TEMPERATURES for item in questions]
    tries = [Episode(item, 1.0) for item in questions for _ in range(k)]
    play(model, tokenizer, [*jobs, *tries], seed)
    total = len(questions)
    figures: dict[str, float] = {}
    for heat in TEMPERATURES:
        verdicts = [episode.verdict for episode in jobs if episode.temperature == heat]
        figures[f"T={heat:g}"] = round(sum(verdict.score for verdict in verdicts) / total, 4)
        figures[f"right T={heat:g}"] = round(sum(verdict.score == 1.0 for verdict in verdicts) / total, 4)
        figures[f"looked up T={heat:g}"] = round(sum(verdict.looked_up == 1.0 for verdict in verdicts) / total, 4)
    if k:
        scores = [episode.verdict.score for episode in tries]
        solved = sum(1.0 in scores[i : i + k] for i in range(0, len(scores), k))
        figures[f"pass@{k}"] = round(solved / total, 4)
    return figures


def held_out(count: int, stream: str = "progress") -> list[Question]:
    """Gives questions about shops that no training has seen."""
    return [question(stream, index, Part.HELD_OUT) for index in range(count)]
