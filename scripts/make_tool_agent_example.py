"""Writes the data of the tool-agent example: training rows and held-out rows.

A row's question names its shop; what the shop sells at which price stands in no row. The two files ask about different shops,
and pre-training about yet others (see `scripts/tiny_model/tools/questions.py`).

    python -m scripts.make_tool_agent_example [--out examples/tool_agent]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from scripts.tiny_model.tools.questions import INSTRUCTION, Part, Question, question

FILES = {"evaluator/shop_questions.jsonl": (Part.TRAIN, 400), "held_out.jsonl": (Part.HELD_OUT, 600)}
"""The held-out rows stand outside of what is uploaded with the evaluator."""


def row(item: Question) -> dict[str, object]:
    """Gives one row: the prompt, and for the evaluator the right number and the items that it depends on."""
    return {
        "messages": [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": item.text}],
        "ground_truth": {"answer": item.answer, "items": list(item.items)},
    }


def draw(part: Part, count: int) -> list[Question]:
    """Gives the first `count` different questions of a part."""
    found: dict[str, Question] = {}
    index = 0
    while len(found) < count:
        item = question("example", index, part)
        found.setdefault(item.text, item)
        index += 1
    return list(found.values())


def main() -> None:
    """Writes the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("examples/tool_agent"))
    arguments = parser.parse_args()
    for name, (part, count) in FILES.items():
        text = "".join(json.dumps(row(item)) + "\n" for item in draw(part, count))
        (arguments.out / name).write_text(text)
        print(f"{count} rows -> {arguments.out / name}")


if __name__ == "__main__":
    main()
