"""Files to and from signed URLs, in pieces, on the standard library alone."""

from __future__ import annotations

import http.client
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tunesmith.cli.client import ApiError
from tunesmith.errors import InvalidArgument, Unavailable

_SILENCE_SECONDS = 120
_PIECE = 1 << 20


def upload(url: str, file: Path) -> None:
    """PUT a file to a signed URL. Raises ApiError, Unavailable, InvalidArgument when the file cannot be read."""
    try:
        with file.open("rb") as content:
            size = str(file.stat().st_size)
            headers = {"Content-Type": "application/octet-stream", "Content-Length": size}
            with _opened(urllib.request.Request(url, method="PUT", data=content, headers=headers)):
                pass
    except OSError as error:
        raise InvalidArgument(f"{file} cannot be read: {error.strerror or error}.") from error


def fetch(url: str) -> bytes:
    """What a signed URL holds. Raises ApiError, Unavailable."""
    with _opened(urllib.request.Request(url)) as response:
        return response.read()


def download(url: str, target: Path) -> Path:
    """Save what a signed URL holds: the file appears whole or not at all. Raises as `fetch`, InvalidArgument."""
    partial = target.with_name(f".{target.name}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file, _opened(urllib.request.Request(url)) as response:
            shutil.copyfileobj(response, file, _PIECE)
        partial.replace(target)
    except OSError as error:
        raise InvalidArgument(f"{target} cannot be written: {error.strerror or error}.") from error
    finally:
        partial.unlink(missing_ok=True)
    return target


@contextmanager
def _opened(request: urllib.request.Request) -> Iterator[http.client.HTTPResponse]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=_SILENCE_SECONDS) as response:
            yield response
    except urllib.error.HTTPError as error:
        with error:
            text = error.read(2000).decode(errors="replace")
        raise ApiError(f"The platform refused the file (HTTP {error.code}): {text}", error.code) from error
    except (urllib.error.URLError, TimeoutError, ConnectionError, http.client.HTTPException) as error:
        raise Unavailable(f"The file did not get through ({getattr(error, 'reason', error)}). Try again.") from error
