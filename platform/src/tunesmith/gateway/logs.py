"""`POST …/logs` and `GET …/logs`: what agents and evaluators say about their rollouts. A line is committed before it is acknowledged."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tunesmith.db.rollout_logs import ROLLOUT_TAG, LogFilter, LogLine
from tunesmith.gateway.auth import Key
from tunesmith.gateway.chat import decoded
from tunesmith.gateway.errors import BadRequest
from tunesmith.gateway.state import GatewayState
from tunesmith.gateway.states import CODES
from tunesmith.gateway.tracing import Query, iso, read_limited, scope_of

MOST_ENTRIES = 10_000
LONGEST_MESSAGE = 64 * 1024
"""Characters kept of a message."""
LARGEST_EXTRAS = 256 * 1024
"""Bytes kept of extras, and of a status's details, as JSON."""
MOST_TAGS = 512
LONGEST_TAG = 512
MOST_TAGS_ASKED = 16
"""Each is a join."""
WARNING_KEY = "tunesmith_warning"
"""Stands in the extras of a line of which something was not taken as posted."""
_SEVERITIES = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


async def post_log(state: GatewayState, request: Request) -> Response:
    """Take one line. 200 means committed; `dropped` says for how many of its rollouts a line is over the bounds."""
    key = await state.authenticator.authenticate(request)
    key.require_posting()
    content = await read_limited(request, state.settings.max_log_bytes, "TUNESMITH_MAX_LOG_BYTES")
    line = parse_line(content, key, state.logs.next_id())
    dropped = await state.states.post(line)
    return JSONResponse({"dropped": dropped} if dropped else {})


async def list_logs(state: GatewayState, request: Request) -> Response:
    """Lines that carry all the tags asked for, newest first."""
    key = await state.authenticator.authenticate(request)
    key.require_reading()
    query = Query(request, {"tags", "limit", "hours_back", "program", "from_timestamp", "to_timestamp"})
    since, until = query.span()
    if len(query.all("tags")) > MOST_TAGS_ASKED:
        raise BadRequest(f"tags: at most {MOST_TAGS_ASKED} may be asked for at once.", "tags")
    wanted = LogFilter(
        tags=query.all("tags"),
        program=query.text("program"),
        since=since,
        until=until,
        limit=query.whole("limit", 100, 1, MOST_ENTRIES),
    )
    found = await asyncio.to_thread(state.logs.find, wanted, *scope_of(key))
    answer: dict[str, Any] = {"entries": [_entry(line) for line in found]}
    for tag in wanted.tags:
        if tag.startswith(ROLLOUT_TAG):
            answer["dropped"] = await state.states.dropped(key.account, tag.removeprefix(ROLLOUT_TAG))
    return JSONResponse(answer)


def parse_line(content: bytes, key: Key, id: int) -> LogLine:
    """A posted body as a line; what is too long is cut with a mark, a status that is none is left out with a warning.

    Raises BadRequest for what is no line at all, naming the field.
    """
    body = decoded(content)
    if not isinstance(body, dict):
        raise BadRequest("The body must be a JSON object with message, tags and perhaps status and extras.")
    tags = _tags(body.get("tags"))
    message, program = _text(body, "message", ""), _text(body, "program", "eval_protocol")
    extras = body.get("extras") or {}
    if not isinstance(extras, dict):
        raise BadRequest("extras must be a JSON object.", "extras")
    warnings: list[str] = []
    status = _status(body.get("status"), warnings)
    extras = _bounded(extras, warnings)
    if warnings:
        extras = {**extras, WARNING_KEY: " ".join(warnings)}
    level = str(extras.get("level", "")).upper()
    return LogLine(
        id=id,
        account=key.account,
        job=key.job,
        program=program[:LONGEST_TAG],
        message=_cut(message),
        severity=level if level in _SEVERITIES else "INFO",
        status=status,
        tags=tags,
        extras=extras,
        size=len(content),
    )


def _text(body: dict[str, Any], name: str, default: str) -> str:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise BadRequest(f"{name} must be a text, not {type(value).__name__}.", name)
    return value or default


def _tags(value: Any) -> list[str]:
    tags = value if isinstance(value, list) else []
    if not all(isinstance(tag, str) and 0 < len(tag) <= LONGEST_TAG for tag in tags) or len(tags) > MOST_TAGS:
        raise BadRequest(f"tags must be at most {MOST_TAGS} texts of 1 to {LONGEST_TAG} characters.", "tags")
    if not any(tag.startswith(ROLLOUT_TAG) and tag != ROLLOUT_TAG for tag in tags):
        raise BadRequest(
            "tags must be a list that names at least one rollout, as 'rollout_id:ID': nobody would find the line otherwise.",
            "tags",
        )
    return list(dict.fromkeys(tags))


def _status(value: Any, warnings: list[str]) -> dict[str, Any] | None:
    """A status with a known code; anything else never reaches a client, whose parser it would break."""
    if value is None:
        return None
    code = value.get("code") if isinstance(value, dict) else None
    if not isinstance(code, int) or isinstance(code, bool) or code not in CODES:
        shown = f"code {code!r}"[:80] if isinstance(value, dict) else repr(value)[:80]
        warnings.append(
            f"The status of this line was ignored: {shown} is not one of 0 to 16 and 100 to 103. The rollout's status is unchanged."
        )
        return None
    message, details = value.get("message"), value.get("details")
    if not isinstance(details, list):
        details = []
    elif len(msgspec.json.encode(details)) > LARGEST_EXTRAS:
        warnings.append(f"The details of this status were dropped: they are larger than {LARGEST_EXTRAS} bytes.")
        details = []
    return {"code": code, "message": _cut(message) if isinstance(message, str) else "", "details": details}


def _bounded(extras: dict[str, Any], warnings: list[str]) -> dict[str, Any]:
    if len(msgspec.json.encode(extras)) <= LARGEST_EXTRAS:
        return extras
    small = {name: value for name, value in extras.items() if len(msgspec.json.encode(value)) <= 1024}
    small = dict(list(small.items())[:64])
    left_out = [name[:40] for name in extras if name not in small]
    warnings.append(
        f"Extras of more than {LARGEST_EXTRAS} bytes were cut; left out: {', '.join(left_out[:20])}"
        f"{', ...' if len(left_out) > 20 else ''}."
    )
    return small


def _cut(text: str) -> str:
    if len(text) <= LONGEST_MESSAGE:
        return text
    return f"{text[:LONGEST_MESSAGE]}… [cut: {len(text) - LONGEST_MESSAGE} more characters]"


def _entry(line: LogLine) -> dict[str, Any]:
    return {
        "timestamp": iso(line.id / 1e9),
        "message": line.message,
        "severity": line.severity,
        "tags": line.tags,
        "status": line.status,
        "extras": line.extras,
        "program": line.program,
    }
