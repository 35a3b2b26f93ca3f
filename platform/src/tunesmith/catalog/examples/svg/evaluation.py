"""What makes a drawing good? `reward` below decides, and a model learns from it while you watch.

Change it and save: the next step uses what you wrote. Things to try:

    return {"red": share(shape.colour == "red" for shape in drawn)}      # everything turns red
    return {"big": share(shape.size == "large" for shape in drawn)}      # everything grows
    return {"long": min(1.0, len(text) / 300)}                           # it babbles: the score was a bad idea
"""

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from eval_protocol.models import EvaluateResult, EvaluationRow, MetricResult
from eval_protocol.pytest import SingleTurnRolloutProcessor, evaluation_test

HERE = Path(__file__).parent


class Shape(NamedTuple):
    """A shape that was asked for, or that was drawn on a canvas of 100 x 100."""

    kind: str  # circle, square, bar, triangle
    colour: str
    size: str  # small, medium, large
    place: str  # top, bottom, left, right, center, top-left, ...


def reward(text: str, drawn: list[Shape], wanted: list[Shape]) -> dict[str, float]:
    """The parts of the score, each from 0 to 1; their mean is the score. This is the place to play."""
    pairs = list(zip(drawn, wanted, strict=False))
    return {
        "count": float(len(drawn) == len(wanted)),
        "kind": share(have.kind == want.kind for have, want in pairs),
        "colour": share(have.colour == want.colour for have, want in pairs),
        "size": share(have.size == want.size for have, want in pairs),
        "place": share(have.place == want.place for have, want in pairs),
    }


@evaluation_test(
    input_dataset=[str(HERE / "rows.jsonl")],
    completion_params=[{"model": "accounts/tunesmith/models/tiny-svg-v1", "temperature": 1.0, "max_tokens": 64}],
    rollout_processor=SingleTurnRolloutProcessor(),
    max_dataset_rows=16,
    mode="pointwise",
)
def drawing(row: EvaluationRow) -> EvaluationRow:
    """Read the drawing out of the answer and have `reward` judge it."""
    message = row.last_assistant_message()
    text = str(message.content or "") if message else ""
    wanted = [Shape(*shape) for shape in (row.input_metadata.dataset_info or {})["wanted"]]
    try:
        drawn = shapes_in(text)
    except ET.ParseError as error:
        row.evaluation_result = EvaluateResult(score=0.0, reason=f"No drawing that can be read: {error}")
        return row
    parts = reward(text, drawn, wanted)
    score = sum(parts.values()) / max(1, len(parts))
    row.evaluation_result = EvaluateResult(
        score=score,
        reason="drew " + (" and ".join(f"a {s.size} {s.colour} {s.kind} at {s.place}" for s in drawn) or "nothing"),
        metrics={name: MetricResult(score=part, reason=f"{name}: {part:.2f}") for name, part in parts.items()},
    )
    return row


def share(truths: Iterable[bool]) -> float:
    """How many of them are true, from 0 to 1; 0 when there are none."""
    found = list(truths)
    return sum(found) / len(found) if found else 0.0


def shapes_in(text: str) -> list[Shape]:
    """The shapes of the SVG in an answer, in their order. Raises ParseError when there is no SVG that can be read."""
    source = re.search(r"<svg.*?</svg>|<svg[^>]*/>", text, re.DOTALL)
    if source is None:
        raise ET.ParseError("there is no <svg>")
    return [shape for element in ET.fromstring(source[0]).iter() if (shape := shape_of(element))]


def shape_of(element: ET.Element) -> Shape | None:
    """What an element draws, as a person would say it; None for what is no shape."""
    tag, colour = element.tag.split("}")[-1], element.get("fill", "black")
    numbers = {name: float(value) for name, value in element.items() if re.fullmatch(r"-?\d+(\.\d+)?", value)}
    if tag == "circle":
        x, y, r = numbers.get("cx", 0), numbers.get("cy", 0), numbers.get("r", 0)
        return Shape("circle", colour, size_of(2 * r), place_of(x, y))
    if tag == "rect":
        width, height = numbers.get("width", 0), numbers.get("height", 0)
        x, y = numbers.get("x", 0) + width / 2, numbers.get("y", 0) + height / 2
        kind = "square" if width == height else "bar"
        return Shape(kind, colour, size_of(max(width, height)), place_of(x, y))
    if tag == "polygon":
        points = [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", element.get("points", ""))]
        xs, ys = points[::2], points[1::2]
        if len(xs) != 3 or len(ys) != 3:
            return None
        return Shape("triangle", colour, size_of(max(xs) - min(xs)), place_of(mid(xs), mid(ys)))
    return None


def mid(values: list[float]) -> float:
    """Halfway between the smallest and the largest."""
    return (min(values) + max(values)) / 2


def size_of(extent: float) -> str:
    """Of a shape that is so wide, or so high."""
    return "small" if extent <= 14 else "medium" if extent <= 25 else "large"


def place_of(x: float, y: float) -> str:
    """Where on the canvas its middle lies."""
    across = "left" if x < 35 else "right" if x > 65 else ""
    down = "top" if y < 35 else "bottom" if y > 65 else ""
    return "-".join(part for part in (down, across) if part) or "center"
