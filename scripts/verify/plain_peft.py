"""Answer problems with a model and, if given, an adapter; transformers and PEFT alone, nothing of Tunesmith.

    python plain_peft.py --base FOLDER [--adapter FOLDER] --problems FILE --temperatures 0 0.3 0.7 1

Each line of FILE is `{"messages": [...], "answer": "12"}`. An answer is right when the first digits inside the first <answer> tags are
those. Prints one JSON line a temperature: `{"temperature", "right", "n"}`.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

TAGGED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
BATCH = 100


def main() -> None:
    """Answer every problem once at each temperature."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--adapter", type=Path)
    parser.add_argument("--problems", type=Path, required=True)
    parser.add_argument("--temperatures", type=float, nargs="+", default=[1.0])
    parser.add_argument("--max-tokens", type=int, default=80)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    logging.disable_progress_bar()
    tokenizer: Any = AutoTokenizer.from_pretrained(options.base, padding_side="left")
    model: Any = AutoModelForCausalLM.from_pretrained(options.base, dtype=torch.float32)
    if options.adapter:
        model = PeftModel.from_pretrained(model, options.adapter)
    model.eval()
    problems = [json.loads(line) for line in options.problems.read_text().splitlines()]
    for temperature in options.temperatures:
        right = sum(
            is_right(text, problem["answer"])
            for start in range(0, len(problems), BATCH)
            for text, problem in zip(
                answers(model, tokenizer, problems[start : start + BATCH], temperature, options.max_tokens),
                problems[start : start + BATCH],
                strict=True,
            )
        )
        print(json.dumps({"temperature": temperature, "right": right, "n": len(problems)}), flush=True)


def answers(model: Any, tokenizer: Any, problems: list[dict[str, Any]], temperature: float, limit: int) -> list[str]:
    """One sampled answer a problem; greedy at temperature 0."""
    prompts = [
        tokenizer.apply_chat_template(problem["messages"], tokenize=False, add_generation_prompt=True)
        for problem in problems
    ]
    inputs = tokenizer(
        prompts, return_tensors="pt", padding=True, add_special_tokens=False, return_token_type_ids=False
    )
    how = (
        {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
        if temperature
        else {"do_sample": False}
    )
    with torch.inference_mode():
        found = model.generate(**inputs, max_new_tokens=limit, **how)
    return tokenizer.batch_decode(found[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def is_right(text: str, answer: str) -> bool:
    """Whether the tags hold the expected number."""
    tagged = TAGGED.search(text)
    digits = re.search(r"\d+", tagged.group(1)) if tagged else None
    return digits is not None and digits.group() == answer


if __name__ == "__main__":
    main()
