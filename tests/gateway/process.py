"""A gateway in a process of its own, to be killed: `python -m tests.gateway.process DATA_DIR PORT_FILE`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from tunesmith.gateway import GatewayState, gateway_routes
from tunesmith.runs.files import write_atomic
from tunesmith.settings import Settings

from tests.gateway.conftest import serve_app


async def modules(_request: Request) -> Response:
    """What this process has imported by now."""
    return JSONResponse(sorted(sys.modules))


async def main(data_dir: Path, port_file: Path) -> None:
    """Serve until killed."""
    state = GatewayState(Settings.load(data_dir=data_dir))
    app = Starlette(routes=[*gateway_routes(state), Route("/modules", modules)], lifespan=state.lifespan)
    _server, task, url = await serve_app(app)
    write_atomic(port_file, url)
    await task


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
