"""Where the SVG example's modules are found: its evaluator is a project of its own, whose files import one another by name."""

from __future__ import annotations

import importlib
import os
import struct
import sys
import zlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

REPO = Path(__file__).parents[2]
EXAMPLE = REPO / "examples" / "svg_agent"
EVALUATOR = EXAMPLE / "evaluator"
BENCH = REPO.parent / "shared" / "data" / "svgbench_dataset.jsonl"
"""The published rows; they are never copied into the repository."""


def evaluator_module(name: str) -> ModuleType:
    """A module of `evaluator/`, as its neighbours see it."""
    if str(EVALUATOR) not in sys.path:
        sys.path.insert(0, str(EVALUATOR))
    return importlib.import_module(name)


def bench_rows() -> list[str]:
    """The lines of SVGBench's rows; skips the test where they are not, unless this is CI."""
    if not BENCH.exists() and not os.environ.get("CI"):
        pytest.skip("SVGBench's rows are not here")
    return BENCH.read_text().splitlines()


def pixels(picture: Any) -> list[list[tuple[int, ...]]]:
    """The rows of a PNG, decoded here, so that the renderer's word is not taken for it."""
    png, at, data, header = picture.png, 8, b"", b""
    while at < len(png):
        (size,) = struct.unpack_from(">I", png, at)
        kind, body = png[at + 4 : at + 8], png[at + 8 : at + 8 + size]
        header, data = (body if kind == b"IHDR" else header), (data + body if kind == b"IDAT" else data)
        at += 12 + size
    width, height, depth, colour = struct.unpack(">IIBB", header[:10])
    assert (depth, colour) in ((8, 6), (8, 2))
    assert (width, height) == (picture.width, picture.height)
    n = {6: 4, 2: 3}[colour]
    raw, rows, above = zlib.decompress(data), [], bytes(width * n)
    for y in range(height):
        kind = raw[y * (width * n + 1)]
        line = bytearray(raw[y * (width * n + 1) + 1 : (y + 1) * (width * n + 1)])
        for i in range(len(line)):
            left, up, corner = (line[i - n] if i >= n else 0), above[i], (above[i - n] if i >= n else 0)
            line[i] = (line[i] + [0, left, up, (left + up) // 2, _paeth(left, up, corner)][kind]) & 255
        rows.append([tuple(line[x : x + 3]) for x in range(0, len(line), n)])
        above = bytes(line)
    return rows


def _paeth(left: int, up: int, corner: int) -> int:
    return min((left, up, corner), key=lambda value: abs(left + up - corner - value))
