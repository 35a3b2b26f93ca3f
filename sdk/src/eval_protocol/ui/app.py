"""The application: routes, who may ask, and how errors are told."""

from __future__ import annotations

import ipaddress
import logging
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from aiohttp import web

from eval_protocol.errors import EvalProtocolError, UsageError
from eval_protocol.tracing.route import TracingGateway
from eval_protocol.ui.live import Live
from eval_protocol.ui.logs import RolloutLogs
from eval_protocol.ui.pages import asset, page, security_headers
from eval_protocol.ui.reader import Reader
from eval_protocol.ui.routes import LIVE, LOGS, READER, add_routes

log = logging.getLogger("eval_protocol.ui")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def make_app(store: Path, gateway: TracingGateway | None = None) -> web.Application:
    """The local UI over a results store.

    Args:
        store: the SQLite file; made when it is not there.
        gateway: where lines of remote rollouts are looked up, too.

    Raises:
        ResultsError: the store cannot be opened.
    """
    app = web.Application(middlewares=[_this_machine_only, _errors])
    app[READER] = Reader(store)
    app[LIVE] = Live(app[READER])
    app[LOGS] = RolloutLogs(app[READER], gateway, app[LIVE].tell)
    add_routes(app)
    app.router.add_get("/assets/{name:.+}", asset)
    app.router.add_get("/{path:.*}", page)
    app.on_response_prepare.append(_headers)
    app.cleanup_ctx.append(_running)
    app.on_shutdown.append(_end_streams)
    return app


async def _running(app: web.Application) -> AsyncIterator[None]:
    app[LIVE].start()
    yield
    app[READER].close()


async def _end_streams(app: web.Application) -> None:
    await app[LIVE].close()
    await app[LOGS].close()


async def _headers(request: web.Request, response: web.StreamResponse) -> None:
    for name, value in security_headers().items():
        response.headers.setdefault(name, value)
    if request.path.startswith("/api/"):
        response.headers.setdefault("Cache-Control", "no-store")


@web.middleware
async def _this_machine_only(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A page of another site may point a name of its own at this machine (DNS rebinding), so the name must be this machine's, too."""
    if not (_is_loopback(request.remote or "") and _is_loopback(_host(request))):
        return _error(403, "The local UI answers this machine only, at http://localhost.")
    if request.headers.get("Sec-Fetch-Site") not in (None, "same-origin", "none") and request.path.startswith("/api/"):
        return _error(403, "Another site may not read the local UI.")
    return await handler(request)


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except UsageError as error:
        return _error(400, str(error))
    except EvalProtocolError as error:
        return _error(500, str(error))
    except UnicodeEncodeError:
        return _error(400, "A field or value holds half a character (a lone surrogate), which no rollout can hold.")
    except sqlite3.Error as error:
        log.warning("%s %s: %s", request.method, request.path, error)
        return _error(500, f"The results store {request.app[READER].path} could not be read: {error}.")
    except web.HTTPNotFound as error:
        return _error(404, error.text or "There is nothing here.")
    except web.HTTPMethodNotAllowed:
        return _error(405, "The local UI only shows; it takes GET requests.")


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"error": {"message": message}}, status=status)


def _host(request: web.Request) -> str:
    """The host of the Host header, without its port and brackets."""
    host = request.host
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
