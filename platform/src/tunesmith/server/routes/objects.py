"""Signed URLs end here: `PUT` and `GET /objects/{key}`. No key is asked for; the URL is the permission."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

from fastapi import APIRouter, Request
from starlette.responses import Response, StreamingResponse

from tunesmith.errors import InvalidArgument
from tunesmith.server.control import ControlPlane

router = APIRouter(tags=["objects"], include_in_schema=False)
_RANGE = re.compile(r"(\d+),(\d+)")


def object_path(key: str) -> str:
    """Path of an object's URL."""
    return f"/objects/{key}"


@router.put("/objects/{key:path}")
async def put(key: str, request: Request) -> Response:
    """Take exactly the number of bytes that the URL was signed for, as they come; anything else leaves nothing behind."""
    control: ControlPlane = request.app.state.control
    signed = control.signer.check("PUT", object_path(key), request.query_params)
    size = _announced(request.headers.get("x-goog-content-length-range"), signed)
    await control.objects.put_stream(key, _exactly(size, request.stream()))
    return Response(status_code=200)


@router.get("/objects/{key:path}")
async def get(key: str, request: Request) -> Response:
    """The bytes of an object."""
    control: ControlPlane = request.app.state.control
    control.signer.check("GET", object_path(key), request.query_params)
    size, chunks = await control.objects.stream(key)
    filename = re.sub(r"[^\w.-]", "_", key.rsplit("/", 1)[-1])
    headers = {"content-length": str(size), "content-disposition": f'attachment; filename="{filename}"'}
    return StreamingResponse(chunks, media_type="application/octet-stream", headers=headers)


def _announced(header: str | None, signed: int | None) -> int:
    if signed is None:
        raise InvalidArgument("This URL was not made for uploads.")
    match = _RANGE.fullmatch(header.replace(" ", "")) if header else None
    if match and not int(match.group(1)) <= signed <= int(match.group(2)):
        raise InvalidArgument(
            f"X-Goog-Content-Length-Range {header} does not fit the {signed} bytes that were announced."
        )
    return signed


async def _exactly(size: int, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    seen = 0
    async for chunk in chunks:
        seen += len(chunk)
        if seen > size:
            raise InvalidArgument(
                f"More than the announced {size} bytes arrived. Nothing was stored; announce the right size."
            )
        if chunk:
            yield chunk
    if seen < size:
        raise InvalidArgument(
            f"Only {seen} of the announced {size} bytes arrived. Nothing was stored; upload it again."
        )
