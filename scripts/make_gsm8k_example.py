"""Writes the data of the GSM8K-style example: training rows, held-out rows, rows of held-out templates.

Each row is a conversation that ends in a gold assistant turn, with the same text as its ground truth, like
the rows of the GSM8K quickstart. No question occurs twice, in any two of the files, or in pre-training (the
tiny model's pre-training prompts of one seed are generated again and compared).

    python -m scripts.make_gsm8k_example [--out examples/gsm8k] [--check-seed 0]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from scripts.tiny_model.sums.demonstrations import pretraining_problem
from scripts.tiny_model.sums.problems import INSTRUCTION, Part, Problem, problem, solution
from scripts.tiny_model.sums.task import STAGES

BATCH = 32
"""Examples a step of the pre-training that the bundled weights had (on a CPU)."""
TRAIN_ROWS, HELD_OUT_ROWS, TEMPLATE_ROWS = 800, 1000, 600


def row(item: Problem) -> dict[str, object]:
    """Gives one row in the quickstart's format."""
    gold = solution(item)
    return {
        "messages": [
            {"role": "system", "content": INSTRUCTION},
            {"role": "user", "content": item.question},
            {"role": "assistant", "content": gold},
        ],
        "ground_truth": gold,
    }


def draw(stream: str, part: Part, count: int, *, held_out_templates: bool = False) -> list[Problem]:
    """Gives the first ``count`` different questions of a stream."""
    found: dict[str, Problem] = {}
    index = 0
    while len(found) < count:
        item = problem(stream, index, part, held_out_templates=held_out_templates)
        found.setdefault(item.question, item)
        index += 1
    return list(found.values())


def pretraining_questions(seed: int) -> set[str]:
    """Gives every question that pre-training with this seed can have shown (whole pools of batches)."""
    seen: set[str] = set()
    for stage in STAGES:
        for index in range((stage.steps + 16) * BATCH):
            seen.add(pretraining_problem(f"pretrain-{seed}-{stage.name}", index, stage.mixture)[0].question)
    return seen


def main() -> None:
    """Writes the three files and prints the overlaps, which must all be 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("examples/gsm8k"))
    parser.add_argument("--check-seed", type=int, default=0, help="pre-training seed to compare with")
    arguments = parser.parse_args()
    files = {
        "gsm8k_sample.jsonl": draw("example-train", Part.TRAIN, TRAIN_ROWS),
        "gsm8k_heldout.jsonl": draw("example-held-out", Part.HELD_OUT, HELD_OUT_ROWS),
        "gsm8k_heldout_templates.jsonl": draw(
            "example-templates", Part.HELD_OUT, TEMPLATE_ROWS, held_out_templates=True
        ),
    }
    questions = {name: {item.question for item in items} for name, items in files.items()}
    questions["pre-training"] = pretraining_questions(arguments.check_seed)
    names = list(questions)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            shared = questions[first] & questions[second]
            print(f"{first} and {second}: {len(shared)} questions in common")
            if shared:
                raise SystemExit(f"{first} and {second} share questions, for example: {min(shared)}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, items in files.items():
        text = "".join(json.dumps(row(item), ensure_ascii=False) + "\n" for item in items)
        (arguments.out / name).write_text(text)
        print(f"{len(items)} rows -> {arguments.out / name}")


if __name__ == "__main__":
    main()
