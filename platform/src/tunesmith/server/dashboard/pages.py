"""The app's files: its page at `/dashboard` and everywhere below, and what the page loads from `/assets`.

The page holds nothing of an account, so it asks for no key; what it shows comes from the API, which does. It may run its own scripts only
and talk to its own origin only: the Content-Security-Policy is the second wall behind the app's own care with what models write.
"""

from __future__ import annotations

import gzip
import mimetypes
import re
import secrets
from functools import lru_cache
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from tunesmith.errors import NotFound

router = APIRouter(include_in_schema=False)
BUNDLE = Path(__file__).with_name("bundle")
"""What `make setup` builds from `web/`: `dashboard.html`, `run-viewer.html`, `assets/`."""
_MISSING = "The dashboard was not built: run `make setup` in Tunesmith's repository, then reload this page."
_NONCE = re.compile(r'(<meta name="csp-nonce" content=")[^"]*"')
_ASSET = re.compile(r"[A-Za-z0-9_.-]{1,200}")
_PLAIN = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}
_TEXT = ("text/", "application/json", "application/javascript", "image/svg+xml")


def policy(nonce: str) -> str:
    """The Content-Security-Policy of every page. `nonce` lets libraries add the styles that they make while they run."""
    return (
        f"default-src 'none'; script-src 'self'; style-src 'self' 'nonce-{nonce}'; img-src 'self' data: blob:; "
        "font-src 'self'; connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    )


@router.get("/")
def root() -> Response:
    """The front door leads to the dashboard."""
    return RedirectResponse("/dashboard")


@router.get("/dashboard")
@router.get("/dashboard/{path:path}")
def page() -> HTMLResponse:
    """The app, whichever page of it is asked for: it reads the address itself."""
    file, nonce = BUNDLE / "dashboard.html", secrets.token_urlsafe(16)
    headers = {**_PLAIN, "content-security-policy": policy(nonce), "cache-control": "no-store"}
    if not file.is_file():
        return HTMLResponse(f"<!doctype html><title>Tunesmith</title><p>{_MISSING}</p>", 503, headers)
    return HTMLResponse(_NONCE.sub(rf'\g<1>{nonce}"', file.read_text()), headers=headers)


@router.get("/assets/{name}")
def asset(name: str, request: Request) -> Response:
    """A file of the app. Its name changes with its content, so browsers keep it."""
    file = BUNDLE / "assets" / name
    if not _ASSET.fullmatch(name) or not file.is_file():
        raise NotFound(
            f"There is no file {name[:80]!r} of the dashboard. Reload the page: it may have been built anew."
        )
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    packed = kind.startswith(_TEXT) and "gzip" in request.headers.get("accept-encoding", "")
    content = _content(file, file.stat().st_mtime_ns, packed)
    headers = {**_PLAIN, "cache-control": "public, max-age=31536000, immutable", "vary": "accept-encoding"}
    return Response(content, headers={**headers, **({"content-encoding": "gzip"} if packed else {})}, media_type=kind)


@lru_cache(256)
def _content(file: Path, _changed: int, packed: bool) -> bytes:
    content = file.read_bytes()
    return gzip.compress(content, 9, mtime=0) if packed else content
