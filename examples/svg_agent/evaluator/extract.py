"""The SVG in a model's answer: a fenced block, or bare."""

import re

FENCE = re.compile(r"```[ \t]*[\w+-]*[ \t]*\r?\n?(.*?)```", re.DOTALL)
OPEN, CLOSE = re.compile(r"<svg(?=[\s>/])"), "</svg>"


class NoDrawing(ValueError):
    """The answer holds no drawing; the message is the reason."""


def extract_svg(answer: str) -> str:
    """The drawing in `answer`: the last fenced block that holds one, else what stands bare.

    The last one counts, since an agent that corrects itself ends with what it means.

    Raises:
        NoDrawing: there is none, or it was cut off before `</svg>`.
    """
    for block in reversed(FENCE.findall(answer)):
        if found := _drawing(block):
            return found
    if found := _drawing(answer):
        return found
    if OPEN.search(answer):
        raise NoDrawing("The drawing has no </svg>: the answer was cut off, or the element never closed.")
    raise NoDrawing("The answer holds no <svg> element.")


def _drawing(text: str) -> str | None:
    """From the first `<svg` to the last `</svg>` after it, since drawings may be nested."""
    start, end = OPEN.search(text), text.rfind(CLOSE)
    return text[start.start() : end + len(CLOSE)] if start and end > start.start() else None
