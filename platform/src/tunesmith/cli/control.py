"""The supervisor's unix socket (`docs/reference/seams.md`, "Supervisor"): engines on demand, and who runs."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web
from pydantic import BaseModel, ConfigDict, ValidationError

from tunesmith.cli.supervisor import Supervisor
from tunesmith.errors import FailedPrecondition, InvalidArgument, TunesmithError

_LONGEST_SOCKET_PATH = 107  # bytes of sun_path, less the closing zero


class EngineRequest(BaseModel):
    """Body of `POST /engines`."""

    model_config = ConfigDict(extra="forbid")

    base_model: str


def check_socket_path(path: Path) -> None:
    """Raises FailedPrecondition when the kernel takes no unix socket at that path."""
    if len(os.fsencode(path)) > _LONGEST_SOCKET_PATH:
        raise FailedPrecondition(f"The path {path} is too long for a unix socket. Use a shorter --data-dir.")


@asynccontextmanager
async def serve(supervisor: Supervisor, path: Path) -> AsyncIterator[None]:
    """Answer on the socket at `path` (0600), which must belong to nobody else. Raises FailedPrecondition when it is too long."""
    check_socket_path(path)
    path.unlink(missing_ok=True)
    app = web.Application(middlewares=[_errors])
    routes = _Routes(supervisor)
    app.add_routes([web.post("/engines", routes.engines), web.get("/processes", routes.processes)])
    # A call may wait minutes for an engine; when we go down, it is cut at once.
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    old = os.umask(0o177)
    try:
        await web.UnixSite(runner, str(path)).start()
    finally:
        os.umask(old)
    try:
        yield
    finally:
        await runner.cleanup()
        path.unlink(missing_ok=True)


class _Routes:
    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    async def engines(self, request: web.Request) -> web.Response:
        try:
            wanted = EngineRequest.model_validate_json(await request.read())
        except ValidationError as error:
            raise InvalidArgument(f'The body must be {{"base_model": "accounts/..."}}: {error}') from error
        engine = await self._supervisor.engines.get(wanted.base_model)
        return web.json_response({"url": engine.url, "pid": engine.process.pid, "base_model": engine.base_model})

    async def processes(self, _request: web.Request) -> web.Response:
        return web.json_response({"processes": self._supervisor.processes()})


@web.middleware
async def _errors(request: web.Request, handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except TunesmithError as error:
        body = {"error": {"code": error.code, "message": error.message}}
        return web.json_response(body, status=error.status)
