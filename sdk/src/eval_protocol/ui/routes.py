"""The routes under `/api`: parse, ask the store, answer. The shapes are in docs/reference/dashboard.md."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from typing import Any

from aiohttp import web

from eval_protocol.errors import UsageError
from eval_protocol.results import filters
from eval_protocol.results.compare import compare
from eval_protocol.results.download import export
from eval_protocol.results.fields import fields
from eval_protocol.results.listing import iso, models, page_of, whole_row
from eval_protocol.results.pivot import AGG_SCORE, pivot
from eval_protocol.results.queries import Invocation, invocations
from eval_protocol.ui.live import Live
from eval_protocol.ui.logs import RolloutLogs
from eval_protocol.ui.reader import Reader

READER = web.AppKey("reader", Reader)
LIVE = web.AppKey("live", Live)
LOGS = web.AppKey("logs", RolloutLogs)
FORMS = {"jsonl": "application/x-ndjson", "csv": "text/csv"}


def add_routes(app: web.Application) -> None:
    """Everything but the page."""
    app.router.add_get("/health", health)
    app.router.add_get("/api/status", status)
    app.router.add_get("/api/rows", rows)
    app.router.add_get("/api/rows/{rollout_id}", row)
    app.router.add_get("/api/fields", list_fields)
    app.router.add_get("/api/pivot", show_pivot)
    app.router.add_get("/api/compare", show_compare)
    app.router.add_get("/api/invocations", list_invocations)
    app.router.add_get("/api/models", list_models)
    app.router.add_get("/api/export", download)
    app.router.add_get("/api/watch", watch)
    app.router.add_get("/api/logs/{rollout_id}", logs)
    app.router.add_get("/api/{rest:.*}", nothing)


async def nothing(request: web.Request) -> web.Response:
    """No page of the app, whatever its path."""
    raise web.HTTPNotFound(text=f"There is no route {request.path} in the local UI.")


async def health(request: web.Request) -> web.Response:
    """That the server is there."""
    return web.json_response({"status": "ok"})


async def status(request: web.Request) -> web.Response:
    """As the published local UI answers, and which store this one shows."""
    reader, gateway = request.app[READER], request.app[LOGS].gateway
    return web.json_response(
        {
            "status": "ok",
            "build_dir": None,
            "active_connections": request.app[LIVE].streams,
            "watch_paths": [],
            "elasticsearch_enabled": False,
            "backend": "fireworks" if gateway else "local",
            "fireworks_enabled": gateway is not None,
            "store": str(reader.path),
        }
    )


async def rows(request: web.Request) -> web.Response:
    """One page of the table."""
    found = await request.app[READER].run(
        page_of,
        filters.read(request.query.get("filterConfig")),
        sort_field=request.query.get("sortField") or "created_at",
        descending=_choice(request, "sortDirection", ("desc", "asc")) == "desc",
        page=_whole(request, "page", 1),
        page_size=_whole(request, "pageSize", 25),
    )
    return web.json_response(
        {
            "rows": found.rows,
            "total": found.total,
            "matching": found.matching,
            "page": found.page,
            "pageSize": found.page_size,
        }
    )


async def row(request: web.Request) -> web.Response:
    """A whole row."""
    rollout_id = request.match_info["rollout_id"]
    data = await request.app[READER].run(whole_row, rollout_id)
    if data is None:
        raise web.HTTPNotFound(text=f"There is no rollout {rollout_id} in {request.app[READER].path}.")
    return web.Response(text=data, content_type="application/json")


async def list_fields(request: web.Request) -> web.Response:
    """What can be filtered and pivoted by."""
    return web.json_response({"fields": await request.app[READER].run(fields)})


async def show_pivot(request: web.Request) -> web.Response:
    """The pivot."""
    query = request.query
    return web.json_response(
        await request.app[READER].run(
            pivot,
            filters.read(query.get("filterConfig")),
            rows=_paths(request, "rows"),
            columns=_paths(request, "columns"),
            value=query.get("value") or AGG_SCORE,
            aggregator=query.get("aggregator") or "avg",
            k=_whole(request, "k", 1),
            threshold=_number(request, "threshold", 1.0),
        )
    )


async def show_compare(request: web.Request) -> web.Response:
    """Two invocations, or two models."""
    query = request.query
    return web.json_response(
        await request.app[READER].run(
            compare,
            query.get("by", "invocation"),
            query.get("left", ""),
            query.get("right", ""),
            filters.read(query.get("filterConfig")),
            page=_whole(request, "page", 1),
            page_size=_whole(request, "pageSize", 50),
        )
    )


async def list_invocations(request: web.Request) -> web.Response:
    """Invocations, newest first."""
    limit, offset = _whole(request, "limit", 100), _whole(request, "offset", 0)
    if not 1 <= limit <= 1000 or offset < 0:
        raise UsageError(f"limit must be 1 to 1000 and offset 0 or more; not {limit} and {offset}.")

    def listed(connection: sqlite3.Connection) -> list[Invocation]:
        return invocations(connection, limit=limit, offset=offset)

    return web.json_response({"invocations": [_invocation(each) for each in await request.app[READER].run(listed)]})


async def list_models(request: web.Request) -> web.Response:
    """Models, by name."""
    return web.json_response({"models": await request.app[READER].run(models)})


async def download(request: web.Request) -> web.StreamResponse:
    """Rows as a file, streamed."""
    form = _choice(request, "format", tuple(FORMS))
    where = filters.read(request.query.get("filterConfig"))
    connection, loop = request.app[READER].separate(), asyncio.get_running_loop()
    try:
        pieces = export(connection, form, where)
        first = await loop.run_in_executor(None, next, pieces, None)  # what cannot be asked fails here, before any byte
        response = web.StreamResponse(
            headers={
                "Content-Type": f"{FORMS[form]}; charset=utf-8",
                "Content-Disposition": f'attachment; filename="rollouts.{form}"',
            }
        )
        response.enable_chunked_encoding()
        await response.prepare(request)
        while first is not None:
            await response.write(first.encode(errors="replace"))
            first = await loop.run_in_executor(None, next, pieces, None)
        await response.write_eof()
        return response
    except ConnectionResetError:
        return web.Response()  # the reader has gone, and nobody gets this
    finally:
        connection.close()


async def watch(request: web.Request) -> web.StreamResponse:
    """Server-sent events."""
    return await request.app[LIVE].stream(request)


async def logs(request: web.Request) -> web.Response:
    """What was logged while a rollout ran."""
    limit = _whole(request, "limit", 100)
    if not 1 <= limit <= 10_000:
        raise UsageError(f"limit must be 1 to 10000, not {limit}.")
    found = await request.app[LOGS].lines(request.match_info["rollout_id"], request.query.get("level") or None, limit)
    return web.json_response(found)


def _invocation(found: Invocation) -> dict[str, Any]:
    return {
        "invocationId": found.invocation_id,
        "names": found.names,
        "models": found.models,
        "createdAt": iso(found.created),
        "rollouts": found.rollouts,
        "running": found.running,
        "aborted": found.aborted,
        "failed": found.failed,
        "valid": found.valid,
        "meanScore": found.mean_score,
    }


def _choice(request: web.Request, name: str, choices: tuple[str, ...]) -> str:
    value = request.query.get(name) or choices[0]
    if value not in choices:
        raise UsageError(f"{name} must be {' or '.join(choices)}, not {value!r}.")
    return value


def _whole(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name) or str(default)
    try:
        value = int(text)
    except ValueError:
        value = None
    if value is None or abs(value) > 10**9:
        raise UsageError(f"{name} must be a whole number, not {text[:80]!r}.")
    return value


def _number(request: web.Request, name: str, default: float) -> float:
    text = request.query.get(name) or str(default)
    try:
        return float(text)
    except ValueError as error:
        raise UsageError(f"{name} must be a number, not {text[:80]!r}.") from error


def _paths(request: web.Request, name: str) -> list[str]:
    text = request.query.get(name) or "[]"
    try:
        value = json.loads(text)
    except ValueError as error:
        raise UsageError(f"{name} is not valid JSON ({error}): {text[:80]}") from error
    if not isinstance(value, list):
        raise UsageError(f'{name} must be a JSON list of fields, such as ["$.eval_metadata.name"].')
    return value
