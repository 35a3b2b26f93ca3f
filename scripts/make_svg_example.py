"""Writes the drawings of the SVG example: rows to train on, and held-out rows.

Rows have the form of the published SVGBench data. No scene occurs twice, in the two files or in pre-training
(`scenes.part_of` gives each combination of objects to one part), and no wording of the held-out rows in training.

    python -m scripts.make_svg_example [--out examples/svg_agent]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from scripts.tiny_model.drawings.demonstrations import INSTRUCTION
from scripts.tiny_model.drawings.scenes import Part
from scripts.tiny_model.drawings.task import Item, item

FILES = {
    "evaluator/drawings_dataset.jsonl": ("example-train", Part.TRAIN, 400),
    "held_out.jsonl": ("example-held-out", Part.HELD_OUT, 320),
}


def row(drawn: Item, number: int) -> dict[str, object]:
    """Gives one row."""
    full = f"{drawn.prompt} {INSTRUCTION}"
    return {
        "messages": [{"role": "user", "content": full}],
        "input_metadata": {
            "row_id": f"drawing_{number}",
            "dataset_info": {
                "original_prompt": drawn.prompt,
                "requirements": list(drawn.requirements),
                "total_requirements": len(drawn.requirements),
                "formatted_prompt": full,
            },
        },
    }


def draw(stream: str, part: Part, count: int) -> list[Item]:
    """Gives the first `count` items of a stream with different scenes, in whatever order their objects come."""
    found: dict[frozenset[str], Item] = {}
    index = 0
    while len(found) < count:
        drawn = item(stream, index, part)
        found.setdefault(frozenset(drawn.requirements), drawn)
        index += 1
    return list(found.values())


def main() -> None:
    """Writes both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("examples/svg_agent"))
    arguments = parser.parse_args()
    for name, (stream, part, count) in FILES.items():
        file = arguments.out / name
        file.parent.mkdir(parents=True, exist_ok=True)
        items = draw(stream, part, count)
        file.write_text("".join(json.dumps(row(drawn, number)) + "\n" for number, drawn in enumerate(items)))
        print(f"{len(items)} rows -> {file}")


if __name__ == "__main__":
    main()
