"""Numbers, lengths and transforms of SVG, as canvas geometry needs them."""

from __future__ import annotations

import math
import re

from .document import UnreadableDrawing

Point = tuple[float, float]
Matrix = tuple[float, float, float, float, float, float]
"""(a, b, c, d, e, f): x' = a x + c y + e, y' = b x + d y + f."""

IDENTITY: Matrix = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_UNITS = {"": 1.0, "px": 1.0, "pt": 4 / 3, "pc": 16.0, "mm": 96 / 25.4, "cm": 96 / 2.54, "in": 96.0}
_FURTHEST = 1e6
_CALL = re.compile(r"\s*,?\s*(\w+)\s*\(([^()]*)\)")


def number(text: str) -> float:
    """A finite number of sane magnitude; raises UnreadableDrawing."""
    try:
        value = float(text)
    except ValueError:
        raise UnreadableDrawing(f"{text!r:.40} is not a number") from None
    if not math.isfinite(value) or abs(value) > _FURTHEST:
        raise UnreadableDrawing(f"the number {text:.40} is out of bounds")
    return value


def numbers(text: str) -> list[float]:
    """All numbers of a list separated by spaces or commas."""
    return [number(match) for match in _NUMBER.findall(text)]


def length(text: str | None, default: float, whole: float) -> float:
    """A length in user units; `whole` is what 100 % means."""
    if text is None or text.strip() in ("", "auto"):
        return default
    match = re.fullmatch(r"\s*([-+.\deE]+?)\s*(%|[a-z]*)\s*", text)
    if match is None or match[2] not in ("%", *_UNITS):
        raise UnreadableDrawing(f"the length {text!r:.40} is not read here")
    return number(match[1]) * (whole / 100 if match[2] == "%" else _UNITS[match[2]])


def multiply(m: Matrix, n: Matrix) -> Matrix:
    """The transform that does `n` first, then `m`."""
    a, b, c, d, e, f = m
    g, h, i, j, k, o = n
    return (a * g + c * h, b * g + d * h, a * i + c * j, b * i + d * j, a * k + c * o + e, b * k + d * o + f)


def apply(m: Matrix, point: Point) -> Point:
    """Where a point goes."""
    x, y = point
    return (m[0] * x + m[2] * y + m[4], m[1] * x + m[3] * y + m[5])


def scale_of(m: Matrix) -> float:
    """Mean factor of lengths."""
    return math.sqrt(abs(m[0] * m[3] - m[1] * m[2]))


def transform(text: str | None) -> Matrix:
    """A `transform` attribute."""
    result, at = IDENTITY, 0
    text = (text or "").strip()
    if text == "none":
        return IDENTITY
    while at < len(text):
        call = _CALL.match(text, at)
        if call is None:
            raise UnreadableDrawing(f"the transform {text!r:.60} is not read here")
        result, at = multiply(result, _one(call[1], numbers(call[2]), text)), call.end()
        if text[at:].strip() == "":
            break
    return result


def _one(name: str, v: list[float], text: str) -> Matrix:
    if name == "translate" and len(v) in (1, 2):
        return (1, 0, 0, 1, v[0], v[1] if len(v) == 2 else 0)
    if name == "scale" and len(v) in (1, 2):
        return (v[0], 0, 0, v[-1], 0, 0)
    if name == "rotate" and len(v) in (1, 3):
        sin, cos = math.sin(math.radians(v[0])), math.cos(math.radians(v[0]))
        x, y = (v[1], v[2]) if len(v) == 3 else (0.0, 0.0)
        return multiply(multiply((1, 0, 0, 1, x, y), (cos, sin, -sin, cos, 0, 0)), (1, 0, 0, 1, -x, -y))
    if name in ("skewX", "skewY") and len(v) == 1:
        tan = math.tan(math.radians(v[0]))
        return (1, 0, tan, 1, 0, 0) if name == "skewX" else (1, tan, 0, 1, 0, 0)
    if name == "matrix" and len(v) == 6:
        return (v[0], v[1], v[2], v[3], v[4], v[5])
    raise UnreadableDrawing(f"the transform {text!r:.60} is not read here")


def fit(view: tuple[float, float, float, float], width: float, height: float, preserve: str | None) -> Matrix:
    """Maps a view box onto a viewport of this width and height at the origin."""
    x, y, w, h = view
    if w <= 0 or h <= 0 or width <= 0 or height <= 0:
        raise UnreadableDrawing("its width, height or view box is not positive")
    words = (preserve or "xMidYMid meet").split()
    sx, sy = width / w, height / h
    if "none" not in words:
        sx = sy = max(sx, sy) if "slice" in words else min(sx, sy)
    share = {"Min": 0.0, "Mid": 0.5, "Max": 1.0}
    align = next((word for word in words if re.fullmatch(r"x(Min|Mid|Max)Y(Min|Mid|Max)", word)), "xMidYMid")
    left, top = (width - w * sx) * share[align[1:4]], (height - h * sy) * share[align[5:8]]
    return (sx, 0, 0, sy, left - x * sx, top - y * sy)
