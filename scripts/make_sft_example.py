"""Writes the data of the fine-tuning example: word problems with worked answers inside `<answer>` tags.

The bundled model solves such problems, but ends with a sentence more often than with tags; the rows show the form that is wanted. No
question occurs twice, in the GSM8K-style example, or in pre-training.

    python -m scripts.make_sft_example [--out examples/sft] [--check-seed 0]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from scripts.make_gsm8k_example import draw, pretraining_questions, row
from scripts.tiny_model.sums.problems import Part

ROWS = 500
GSM8K = Path("examples/gsm8k")


def main() -> None:
    """Writes the file and stops where a question is known from elsewhere."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("examples/sft"))
    parser.add_argument("--check-seed", type=int, default=0, help="pre-training seed to compare with")
    arguments = parser.parse_args()
    known = set()
    for file in GSM8K.glob("gsm8k_*.jsonl"):
        known |= {json.loads(line)["messages"][-2]["content"] for line in file.read_text().splitlines()}
    items = [item for item in draw("example-sft", Part.TRAIN, ROWS + 1000) if item.question not in known][:ROWS]
    shared = {item.question for item in items} & pretraining_questions(arguments.check_seed)
    if shared or len(items) < ROWS:
        raise SystemExit(f"{len(items)} rows; {len(shared)} questions are those of pre-training")
    rows = [{"messages": row(item)["messages"]} for item in items]
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "problems.jsonl"
    path.write_text("".join(json.dumps(each, ensure_ascii=False) + "\n" for each in rows))
    print(f"{len(rows)} rows -> {path}")


if __name__ == "__main__":
    main()
