"""Word problems as a task. A score is 1 or 0: the first digits inside ``<answer>`` tags against the right number.

"Any form" also accepts "The answer is N.", to tell skill from form.
"""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Iterator, Sequence

from tokenizers import Tokenizer
from transformers import PreTrainedModel

from scripts.tiny_model import tokenizer as tokenizers
from scripts.tiny_model.batches import prompt_text
from scripts.tiny_model.sampling import TEMPERATURES, complete
from scripts.tiny_model.stages import Stage
from scripts.tiny_model.sums.demonstrations import Mixture, demonstration
from scripts.tiny_model.sums.problems import INSTRUCTION, AnswerForm, Part, Problem, drill, problem, solution
from scripts.tiny_model.task import Task

TAGGED = re.compile(r"<answer>\D*?(\d+)[\s\S]*?</answer>")
ANY_FORM = re.compile(r"(?:<answer>\D*?|The answer is )(\d+)")

STAGES = (
    Stage("skill", 1800, Mixture(tagged=0.5, flawed=0.0, drill=0.25), "muon", 0.02, 3e-3, 0.02, 0.5),
    Stage("form", 250, Mixture(tagged=0.17, flawed=0.3, drill=0.05), "adamw", 1e-3, 1e-3, 0.05, 1.0),
)


def _corpus(problems: int) -> Iterator[str]:
    rng = random.Random("tokenizer")
    for index in range(problems):
        item = problem("tokenizer", index, Part.PRETRAIN)
        yield item.question
        yield solution(item, rng.choice(list(AnswerForm)))
        if index % 10 == 0:
            yield drill(rng).question
            yield INSTRUCTION
            yield tokenizers.ROLES
    for _ in range(5):
        yield tokenizers.OTHER_TEXT


def train_tokenizer(problems: int = 4000) -> Tokenizer:
    """Trains the tokenizer; deterministic. Digits are single tokens, which is what lets a model this small do sums."""
    return tokenizers.train(_corpus(problems))


def score(text: str, answer: int, *, any_form: bool = False) -> int:
    """Gives 1 if the text states the answer in the asked form (or in any), else 0."""
    found = (ANY_FORM if any_form else TAGGED).search(text)
    return int(bool(found) and int(found.group(1)) == answer)


def held_out(count: int, stream: str = "progress", *, templates: bool = False) -> list[Problem]:
    """Gives problems that no training has seen; with ``templates``, of families that no training has seen."""
    return [problem(stream, i, Part.HELD_OUT, held_out_templates=templates) for i in range(count)]


def evaluate(
    model: PreTrainedModel, tokenizer: Tokenizer, problems: Sequence[Problem], seed: int = 0
) -> dict[str, float]:
    """Scores one completion per problem and temperature: ``T=1`` is the asked form, ``any T=1`` any form."""
    jobs = [(p, t) for t in TEMPERATURES for p in problems]
    tagged, free = dict.fromkeys(TEMPERATURES, 0), dict.fromkeys(TEMPERATURES, 0)
    texts = complete(model, tokenizer, [_prompt(p) for p, _ in jobs], [t for _, t in jobs], seed)
    for (item, heat), text in zip(jobs, texts, strict=True):
        tagged[heat] += score(text, item.answer)
        free[heat] += score(text, item.answer, any_form=True)
    total = len(problems)
    return {f"T={t:g}": round(tagged[t] / total, 4) for t in TEMPERATURES} | {
        f"any T={t:g}": round(free[t] / total, 4) for t in TEMPERATURES
    }


def pass_at(
    model: PreTrainedModel, tokenizer: Tokenizer, problems: Sequence[Problem], k: int = 8, seed: int = 0
) -> float:
    """Gives the share of problems with at least one asked-for right answer among ``k`` samples at temperature 1."""
    jobs = [p for p in problems for _ in range(k)]
    texts = complete(model, tokenizer, [_prompt(p) for p in jobs], [1.0] * len(jobs), seed)
    scores = [score(text, p.answer) for text, p in zip(texts, jobs, strict=True)]
    return round(sum(any(scores[i : i + k]) for i in range(0, len(scores), k)) / len(problems), 4)


def card(model: PreTrainedModel, tokenizer: Tokenizer, count: int, seed: int) -> None:
    """Prints the figures of the model card."""
    for name, templates in (("templates of the training", False), ("held-out templates", True)):
        problems = held_out(count, "card", templates=templates)
        figures = evaluate(model, tokenizer, problems, seed)
        figures["pass@8"] = pass_at(model, tokenizer, problems, seed=seed)
        error = 1.96 * math.sqrt(0.25 / len(problems))
        print(f"{name}, {len(problems)} problems, at most +-{error:.3f}: {json.dumps(figures)}", flush=True)


def _prompt(item: Problem) -> str:
    return prompt_text([{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": item.question}])


TASK = Task(
    name="sums",
    stages=STAGES,
    train_tokenizer=train_tokenizer,
    demonstrate=demonstration,
    evaluate=lambda model, tokenizer, count, last: evaluate(model, tokenizer, held_out(count)),
    card=card,
)
