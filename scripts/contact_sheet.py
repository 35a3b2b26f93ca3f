"""Many drawings on one picture: each rendered by the SVG example's own guarded renderer, with its prompt and its score beneath."""

from __future__ import annotations

import base64
import sys
import textwrap
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from xml.sax.saxutils import escape

from scripts.story import REPO

EVALUATOR = REPO / "examples" / "svg_agent" / "evaluator"
THUMBNAIL, GAP, LINE = 128, 14, 13
"""Pixels: a drawing's side, the space between two, the height of a line of text."""
COLUMNS, LINES, LETTERS = 4, 5, 25
"""Drawings a row; lines of a prompt that are shown, and letters in one."""
FORM = "Answer with an SVG code block."
"""How every prompt ends; left out."""


def contact_sheet(samples: Sequence[tuple[str, str, float]], title: str) -> bytes:
    """A PNG of (prompt, answer, score) in the order given."""
    if str(EVALUATOR) not in sys.path:
        sys.path.insert(0, str(EVALUATOR))
    # The evaluator is a project of its own, whose files import one another by name.
    render, extract, guard = (import_module(name) for name in ("render", "extract", "guard"))
    renderer = render.Resvg(render.Limits(longest_side=THUMBNAIL))
    cells = []
    try:
        for prompt, answer, score in samples:
            try:
                picture, problem = renderer.render(extract.extract_svg(answer)).png, ""
            except (extract.NoDrawing, guard.BadDrawing) as error:
                picture, problem = None, str(error)
            cells.append(_cell(prompt, picture, problem, score, len(cells)))
    finally:
        renderer.close()
    rows = -(-len(cells) // COLUMNS)
    width, height = COLUMNS * (THUMBNAIL + GAP) + GAP, rows * _row_height() + GAP + 30
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}">'
        f'<text x="{GAP}" y="26" font-size="18" font-weight="bold">{escape(title)}</text>{"".join(cells)}</svg>'
    )
    sheet = render.Resvg(render.Limits(longest_side=max(width, height)))
    try:
        return sheet.render(svg).png
    finally:
        sheet.close()


def _row_height() -> int:
    return THUMBNAIL + (LINES + 1) * LINE + GAP


def _cell(prompt: str, picture: bytes | None, problem: str, score: float, place: int) -> str:
    x, y = GAP + place % COLUMNS * (THUMBNAIL + GAP), 40 + place // COLUMNS * _row_height()
    shown = textwrap.wrap(prompt.removesuffix(FORM).strip(), LETTERS, max_lines=LINES, placeholder=" …")
    parts = [f'<rect x="{x}" y="{y}" width="{THUMBNAIL}" height="{THUMBNAIL}" fill="none" stroke="#bbb"/>']
    if picture is not None:
        data = base64.b64encode(picture).decode()
        parts.append(
            f'<image x="{x}" y="{y}" width="{THUMBNAIL}" height="{THUMBNAIL}" href="data:image/png;base64,{data}"/>'
        )
    lines = [*shown, f"score {score:.2f}"]
    if problem:
        for number, line in enumerate(textwrap.wrap(problem, 20, max_lines=4, placeholder=" …")):
            parts.append(_text(x + 6, y + 40 + number * LINE, line, "#a00"))
    parts += [
        _text(x, y + THUMBNAIL + (number + 1) * LINE, line, "#000" if number < len(shown) else "#666")
        for number, line in enumerate(lines)
    ]
    return "".join(parts)


def _text(x: int, y: int, text: str, colour: str) -> str:
    return f'<text x="{x}" y="{y}" font-size="10.5" fill="{colour}">{escape(text)}</text>'


def write_sheets(
    folder: Path, before: Sequence[tuple[str, str, float]], after: Sequence[tuple[str, str, float]]
) -> list[Path]:
    """`svg-before.png` and `svg-after.png` in `folder`: the same prompts in the same places."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name, samples, title in (("before", before, "Before"), ("after", after, "After")):
        path = folder / f"svg-{name}.png"
        path.write_bytes(contact_sheet(samples, title))
        files.append(path)
    return files
