"""From a log record to the body of `POST /logs`, within bounds."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel

PROGRAM = "eval_protocol"
LONGEST_MESSAGE = 100_000
"""Characters of a line's message; the rest is cut with a mark. Gateways refuse bodies above about a megabyte."""
LARGEST_EXTRAS = 100_000
"""Characters of a line's extras as JSON; larger ones are replaced by a mark."""
OURS = {"status", "rollout_id", "rollout_ids", "experiment_id", "run_id", "message", "asctime", "taskName"}
_STANDARD = frozenset(logging.LogRecord("", 0, "", 0, "", (), None).__dict__) | OURS


def line_of(record: logging.LogRecord, rollout_id: str, formatter: logging.Formatter | None = None) -> dict[str, Any]:
    """The body for a log record.

    Args:
        rollout_id: whose line it is; `rollout_ids` of the record adds the others of a group.
        formatter: for the traceback of a record with one.
    """
    extras = {name: value for name, value in record.__dict__.items() if name not in _STANDARD}
    message = record.getMessage()
    if record.exc_info:
        message += "\n" + (formatter or logging.Formatter()).formatException(record.exc_info)
    return body(
        message,
        [rollout_id, *(getattr(record, "rollout_ids", None) or ())],
        status=getattr(record, "status", None),
        experiment_id=getattr(record, "experiment_id", None),
        run_id=getattr(record, "run_id", None),
        extras={
            **extras,
            "logger_name": record.name,
            "level": record.levelname,
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat().replace("+00:00", "Z"),
        },
    )


def body(
    message: str,
    rollout_ids: list[str],
    *,
    status: Any = None,
    experiment_id: str | None = None,
    run_id: str | None = None,
    extras: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The body of one line.

    Args:
        status: a Status, or a dict with `code`, `message` and `details`; anything else is no status.
    """
    tags = [f"rollout_id:{one}" for one in dict.fromkeys(rollout_ids)]
    tags += [f"{name}:{value}" for name, value in (("experiment_id", experiment_id), ("run_id", run_id)) if value]
    return {
        "program": PROGRAM,
        "status": _status(status),
        "message": _cut(message),
        "tags": tags,
        "extras": _bounded(extras or {}),
    }


def _status(status: Any) -> dict[str, Any] | None:
    if isinstance(status, BaseModel):
        status = status.model_dump(mode="json")
    if not isinstance(status, dict) or not isinstance(status.get("code"), int) or isinstance(status["code"], bool):
        return None
    details = status.get("details") if isinstance(status.get("details"), list) else []
    return {
        "code": int(status["code"]),
        "message": _cut(str(status.get("message") or "")),
        "details": details if len(_json(details)) <= LARGEST_EXTRAS else [],
    }


def _cut(text: str) -> str:
    if len(text) <= LONGEST_MESSAGE:
        return text
    return f"{text[:LONGEST_MESSAGE]}… (cut: {len(text):,} characters)"


def _bounded(extras: dict[str, Any]) -> dict[str, Any]:
    size = len(_json(extras))
    if size <= LARGEST_EXTRAS:
        return extras
    kept = {name: extras[name] for name in ("logger_name", "level", "timestamp") if name in extras}
    return {**kept, "cut": f"extras of {size:,} characters were left out"}


def _json(value: Any) -> str:
    """JSON whatever the value: what has no form in it goes as text, what cannot even be shown goes by its type."""
    try:
        return json.dumps(value, default=str, allow_nan=False, ensure_ascii=False)
    except Exception:  # noqa: BLE001 - values of the agent's own classes, NaN, cycles: a log line must not fail
        return json.dumps(_plain(value), ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _shown(one) for name, one in value.items()}
    return _shown(value)


def _shown(value: Any) -> Any:
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except Exception:  # noqa: BLE001 - as above
        try:
            return str(value)
        except Exception:  # noqa: BLE001 - as above
            return f"<{type(value).__name__}>"


def encode(line: dict[str, Any]) -> bytes:
    """The bytes to post."""
    extras = json.loads(_json(line["extras"]))
    return json.dumps({**line, "extras": extras}, ensure_ascii=False).encode(errors="replace")
