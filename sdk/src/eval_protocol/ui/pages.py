"""The page itself: the built web app, with the headers that keep what a model wrote from running.

The bundle is put into `ui/bundle/` by the web build (`make web`) and into the wheel with the package.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from aiohttp import web

BUNDLE = Path(__file__).parent / "bundle"
ENTRY = "local.html"
NONCE_PLACE = '<meta name="csp-nonce" content="'
MISSING = (
    "The page of the local UI is not built: run 'make web' in the repository, or install the package from a wheel. "
    "The data is there meanwhile: /api/rows, /api/invocations.\n"
)
TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".woff2": "font/woff2"}
"""Not left to the machine's own list, which may say otherwise, and then `nosniff` stops the page."""
CACHED = "public, max-age=31536000, immutable"
"""Assets are named by their content."""


def security_headers(nonce: str = "") -> dict[str, str]:
    """The headers of every answer; scripts from here only, pictures from here or inlined, nothing from another host."""
    style = f"'self' 'nonce-{nonce}'" if nonce else "'self'"
    policy = (
        f"default-src 'none'; script-src 'self'; style-src {style}; img-src 'self' data: blob:; font-src 'self'; "
        "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    )
    return {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Resource-Policy": "same-origin",
    }


async def page(request: web.Request) -> web.Response:
    """`local.html`, for every path of the app, with a nonce of its own."""
    try:
        html = (BUNDLE / ENTRY).read_text(encoding="utf-8")
    except FileNotFoundError:
        return web.Response(status=503, text=MISSING)
    nonce = secrets.token_urlsafe(16)
    html = html.replace(f'{NONCE_PLACE}"', f'{NONCE_PLACE}{nonce}"')
    headers = {**security_headers(nonce), "Cache-Control": "no-store"}
    return web.Response(text=html, content_type="text/html", charset="utf-8", headers=headers)


async def asset(request: web.Request) -> web.StreamResponse:
    """A file of the bundle."""
    folder = (BUNDLE / "assets").resolve()
    path = (folder / request.match_info["name"]).resolve()
    if not path.is_relative_to(folder) or not path.is_file():
        raise web.HTTPNotFound(text="There is no such file; reload the page.\n")
    headers = {"Cache-Control": CACHED}
    if path.suffix in TYPES:
        headers["Content-Type"] = TYPES[path.suffix]
    return web.FileResponse(path, headers=headers)
