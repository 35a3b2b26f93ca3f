"""Samples from the model in one batch, and judges what came out.

Each row of a batch has its own temperature, so that one pass measures all four. A score is 1 or 0: the first
digits inside ``<answer>`` tags against the right number, as the example's evaluator has it; "any form" also
accepts "The answer is N.", to tell skill from form.

    python -m scripts.tiny_model.sampling MODEL_DIR
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from scripts.tiny_model.demonstrations import prompt_ids
from scripts.tiny_model.problems import INSTRUCTION, Part, Problem, problem
from scripts.tiny_model.tokenizer import END_OF_TEXT, TURN_END

TEMPERATURES = (0.0, 0.3, 0.7, 1.0)
TAGGED = re.compile(r"<answer>\D*?(\d+)[\s\S]*?</answer>")
ANY_FORM = re.compile(r"(?:<answer>\D*?|The answer is )(\d+)")


@torch.no_grad()
def sample(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[list[int]],
    temperatures: Sequence[float],
    seed: int,
    limit: int = 64,
) -> list[str]:
    """Completes each prompt at its own temperature (0 is greedy); at most ``limit`` new tokens."""
    device = model.device
    generator = torch.Generator(device).manual_seed(seed)
    vocabulary = tokenizer.get_vocab()
    pad, stop = vocabulary[END_OF_TEXT], vocabulary[TURN_END]
    width = max(map(len, prompts))
    ids_BT = torch.tensor([[pad] * (width - len(p)) + p for p in prompts], device=device)
    mask_BT = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
    position_B = mask_BT.sum(1)
    positions_BT = (mask_BT.cumsum(1) - 1).clamp(min=0)
    heat_B = torch.tensor(temperatures, device=device)
    cache = DynamicCache(config=model.config)
    done_B = torch.zeros(len(prompts), dtype=torch.bool, device=device)
    new: list[torch.Tensor] = []
    for _ in range(limit):
        out = model(ids_BT, attention_mask=mask_BT, position_ids=positions_BT, past_key_values=cache, logits_to_keep=1)
        logits_BV = out.logits[:, -1].float()
        noise_BV = -torch.log(torch.empty_like(logits_BV).exponential_(generator=generator))
        next_B = (logits_BV + heat_B[:, None] * noise_BV).argmax(-1)
        next_B = torch.where(done_B, pad, next_B)
        new.append(next_B)
        done_B |= next_B == stop
        if bool(done_B.all()):
            break
        ids_BT, positions_BT = next_B[:, None], position_B[:, None]
        position_B = position_B + 1
        mask_BT = torch.cat([mask_BT, torch.ones(len(prompts), 1, dtype=mask_BT.dtype, device=device)], 1)
    rows = torch.stack(new, 1).tolist()
    return [str(tokenizer.decode(row[: row.index(stop)] if stop in row else row)) for row in rows]


def score(text: str, answer: int, *, any_form: bool = False) -> int:
    """Gives 1 if the text states the answer in the asked form (or in any), else 0."""
    found = (ANY_FORM if any_form else TAGGED).search(text)
    return int(bool(found) and int(found.group(1)) == answer)


def evaluate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    problems: Sequence[Problem],
    temperatures: Sequence[float] = TEMPERATURES,
    seed: int = 0,
    chunk: int = 128,
) -> dict[str, float]:
    """Scores one completion per problem and temperature: ``T=1`` is the asked form, ``any T=1`` any form."""
    jobs = [(p, t) for t in temperatures for p in problems]
    tagged, free = dict.fromkeys(temperatures, 0), dict.fromkeys(temperatures, 0)
    for start in range(0, len(jobs), chunk):
        part = jobs[start : start + chunk]
        prompts = [prompt_ids(tokenizer, _messages(p)) for p, _ in part]
        texts = sample(model, tokenizer, prompts, [t for _, t in part], seed + start)
        for (item, heat), text in zip(part, texts, strict=True):
            tagged[heat] += score(text, item.answer)
            free[heat] += score(text, item.answer, any_form=True)
    total = len(problems)
    return {f"T={t:g}": round(tagged[t] / total, 4) for t in temperatures} | {
        f"any T={t:g}": round(free[t] / total, 4) for t in temperatures
    }


def pass_at(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, problems: Sequence[Problem], k: int = 8, seed: int = 0
) -> float:
    """Gives the share of problems with at least one asked-for right answer among ``k`` samples at temperature 1."""
    solved = 0
    for start in range(0, len(problems), 16):
        part = [p for p in problems[start : start + 16] for _ in range(k)]
        prompts = [prompt_ids(tokenizer, _messages(p)) for p in part]
        texts = sample(model, tokenizer, prompts, [1.0] * len(part), seed + start)
        scores = [score(text, p.answer) for text, p in zip(texts, part, strict=True)]
        solved += sum(any(scores[i : i + k]) for i in range(0, len(scores), k))
    return round(solved / len(problems), 4)


def held_out(count: int, stream: str = "progress", *, templates: bool = False) -> list[Problem]:
    """Gives problems that no training has seen; with ``templates``, of families that no training has seen."""
    return [problem(stream, i, Part.HELD_OUT, held_out_templates=templates) for i in range(count)]


def _messages(item: Problem) -> list[dict[str, str]]:
    return [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": item.question}]


def main() -> None:
    """Prints the figures of the model card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--problems", type=int, default=600)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = AutoModelForCausalLM.from_pretrained(arguments.model).eval()
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    for name, templates in (("templates of the training", False), ("held-out templates", True)):
        problems = held_out(arguments.problems, "card", templates=templates)
        figures = evaluate(model, tokenizer, problems, seed=arguments.seed)
        figures["pass@8"] = pass_at(model, tokenizer, problems, seed=arguments.seed)
        error = 1.96 * math.sqrt(0.25 / len(problems))
        print(f"{name}, {len(problems)} problems, at most +-{error:.3f}: {json.dumps(figures)}", flush=True)


if __name__ == "__main__":
    main()
