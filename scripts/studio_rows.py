"""Writes the rows of the studio's example from those of the SVG agent: `python -m scripts.studio_rows`.

What is wanted stands in a row as `[kind, colour, size, place]` for each shape, read out of the agent's requirements.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[1]

STUDIO = REPO / "platform/src/tunesmith/catalog/examples/svg"
AGENT = REPO / "examples/svg_agent"
FILES = {
    STUDIO / "rows.jsonl": (AGENT / "evaluator/drawings_dataset.jsonl", 400),
    STUDIO / "held_out.jsonl": (AGENT / "held_out.jsonl", 16),
}
"""What is written -> (where it comes from, how many rows)."""
_SHAPE = re.compile(r"an? (?P<size>\w+) (?P<colour>\w+) (?P<kind>\w+) (?:in|at) the (?P<place>[\w-]+)(?: corner)?")


def rows_of(source: Path, count: int) -> list[dict[str, Any]]:
    """The first rows of a file of the SVG agent, as the studio's evaluator reads them."""
    rows = []
    for number, line in enumerate(source.read_text().splitlines()[:count]):
        row = json.loads(line)
        wanted = [
            [shape["kind"], shape["colour"], shape["size"], shape["place"]]
            for requirement in row["input_metadata"]["dataset_info"]["requirements"]
            if (shape := _SHAPE.fullmatch(requirement))
        ]
        metadata = {"row_id": f"drawing_{number}", "dataset_info": {"wanted": wanted}}
        rows.append({"messages": row["messages"], "input_metadata": metadata})
    return rows


def text_of(rows: list[dict[str, Any]]) -> str:
    """As JSON lines."""
    return "".join(json.dumps(row) + "\n" for row in rows)


if __name__ == "__main__":
    for target, (source, count) in FILES.items():
        target.write_text(text_of(rows_of(source, count)))
        print(f"{count} rows in {target.relative_to(REPO)}")
