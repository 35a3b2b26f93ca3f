"""Templates to answers: autoescaped, with headers that allow a page its own styles and nothing else."""

from __future__ import annotations

import time
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from starlette.responses import HTMLResponse

_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}


def _moment(seconds: float | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds)) if seconds else "–"


def _short(text: Any, length: int = 400) -> str:
    text = "" if text is None else str(text)
    return text if len(text) <= length else text[: length - 1] + "…"


def _shown(value: Any) -> Any:
    """Numbers of a run at three decimals, small ones (a learning rate) at three digits."""
    if not isinstance(value, float):
        return value
    return f"{value:.3g}" if 0 < abs(value) < 0.01 else f"{round(value, 3):g}"


_templates = Environment(
    loader=PackageLoader("tunesmith.server.dashboard"), autoescape=select_autoescape(), undefined=StrictUndefined
)
_templates.filters.update(moment=_moment, short=_short, shown=_shown, id=lambda name: str(name).rsplit("/", 1)[-1])


def render(template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """A page."""
    return HTMLResponse(_templates.get_template(template).render(**values), status, _HEADERS)
