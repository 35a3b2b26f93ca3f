"""A session's history on the terminal: one line an event, followed over server-sent events for as long as it takes.

A connection that breaks (the platform restarts) is opened again behind the last event that was printed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import click

from tunesmith.cli.client import ApiError, call, opened
from tunesmith.cli.profile import Profile
from tunesmith.cli.terminal import plain
from tunesmith.errors import Unavailable

SILENCE_SECONDS = 60.0
"""The platform says something every 15 seconds; a connection silent for this long is dead."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 15.0
_PAGE = 1000


def past_events(profile: Profile, path: str, after: int = 0) -> Iterator[dict[str, Any]]:
    """Every event behind number `after` that is there now. `path` is the session's."""
    while True:
        page = call(profile, "GET", f"{path}/events?pageSize={_PAGE}&after={after}")
        yield from page["events"]
        if not page.get("nextPageToken"):
            return
        after = page["events"][-1]["sequence"]


def followed(profile: Profile, path: str, after: int = 0) -> Iterator[dict[str, Any]]:
    """Events behind number `after` as they come; the last item is the session itself, when it waits or has ended.

    Raises Unavailable when nobody answers at first, ApiError when the platform refuses; later breaks are waited out.
    """
    pause, told, connected = _FIRST_PAUSE, False, False
    while True:
        try:
            for kind, data in _stream(profile, path, after):
                connected, told, pause = True, False, _FIRST_PAUSE
                if kind == "done":
                    yield data
                    return
                if data is not None:
                    after = data["sequence"]
                    yield data
        except (Unavailable, ApiError) as error:
            refused = isinstance(error, ApiError) and error.status < 500
            if refused or not connected:
                raise
        if not told:
            click.echo(f"The connection to {profile.api_base} broke; trying again.", err=True)
            told = True
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def line_of(event: dict[str, Any]) -> str:
    """`[YYYY-MM-DD HH:MM:SS] kind: text`, in this machine's time zone. Control characters, which rows may hold, are spelled out."""
    when = datetime.fromisoformat(event["time"]).astimezone()
    return f"[{when:%Y-%m-%d %H:%M:%S}] {event['kind']}: {plain(event['text'])}"


def print_followed(profile: Profile, path: str, after: int, as_json: bool) -> dict[str, Any]:
    """Print a session's events until it waits or has ended; the session as it is then."""
    for item in followed(profile, path, after):
        if "sequence" not in item:
            if not as_json:
                click.echo(f"[done] session status: {item['state']}")
            return item
        click.echo(json.dumps(item) if as_json else line_of(item))
    raise AssertionError("unreachable")


def _stream(profile: Profile, path: str, after: int) -> Iterator[tuple[str, Any]]:
    """(kind, data) of each server-sent event; a first ("", None) once the platform has taken the call."""
    headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
    with opened(profile, "GET", f"{path}/events", headers=headers, silence=SILENCE_SECONDS) as response:
        yield "", None
        kind, data = "", ""
        for raw in response:
            line = raw.decode().rstrip("\r\n")
            if not line and data:
                yield kind, json.loads(data)
                kind, data = "", ""
            elif line.startswith("event:"):
                kind = line.removeprefix("event:").strip()
            elif line.startswith("data:"):
                data += line.removeprefix("data:").strip()
