"""Checks the rows of a dataset as they stream by: one JSON object a line, all of one kind. Errors name the line.

A row is a conversation (`messages`), or a preference: `input` with its `messages`, answered by a `preferred_output` and a
`non_preferred_output`. Blank lines and a leading byte order mark are dropped; everything else is kept byte for byte.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import IO, Any, NoReturn

from tunesmith.errors import InvalidArgument

MAX_ROW_BYTES = 16 * 1024 * 1024
ROLES = ("system", "user", "assistant", "tool", "developer", "function")
"""Roles that a message may have."""
_BOM = b"\xef\xbb\xbf"
_PREFIX = "Dataset validation failed: "


class RowKind(StrEnum):
    """What the rows of a dataset are."""

    MESSAGES = "MESSAGES"
    PREFERENCES = "PREFERENCES"


@dataclass(frozen=True)
class CheckedRows:
    """What a whole file turned out to be."""

    rows: int
    bytes: int
    sha256: str
    kind: RowKind = RowKind.MESSAGES
    unanswered: int | None = None
    """Number (from 1) of the first conversation without a message of the assistant: there is nothing in it to train on."""


def check_rows(source: Iterator[bytes], target: IO[bytes]) -> CheckedRows:
    """Read lines (as `read_lines` gives them), check each, write it to `target`.

    Raises InvalidArgument with the number of the first wrong line (from 1); `target` is then worth nothing.
    """
    digest = hashlib.sha256()
    rows = size = 0
    kind: RowKind | None = None
    unanswered: int | None = None
    for number, raw in enumerate(source, start=1):
        line = (raw.removeprefix(_BOM) if number == 1 else raw).strip()
        if not line:
            continue
        row = _parse(line, number)
        kind = _check_kind(row, kind, number)
        if kind == RowKind.PREFERENCES:
            _check_preference(row, number)
        else:
            _check_messages(row["messages"], "messages", number)
            if unanswered is None and all(message["role"] != "assistant" for message in row["messages"]):
                unanswered = rows + 1
        record = line + b"\n"
        target.write(record)
        digest.update(record)
        rows, size = rows + 1, size + len(record)
    if rows == 0:
        raise InvalidArgument(_PREFIX + "the file is empty. Give one JSON object with 'messages' a line.")
    return CheckedRows(rows, size, digest.hexdigest(), kind or RowKind.MESSAGES, unanswered)


def read_lines(file: IO[bytes]) -> Iterator[bytes]:
    """The lines of a file, none read further than its limit. Raises InvalidArgument."""
    number = 0
    while line := file.readline(MAX_ROW_BYTES + 1):
        number += 1
        if len(line) > MAX_ROW_BYTES:
            raise InvalidArgument(f"{_PREFIX}line {number} is longer than {MAX_ROW_BYTES} bytes.")
        yield line


def _parse(line: bytes, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line.decode(), parse_constant=_refuse_constant)
        json.dumps(row, ensure_ascii=False).encode()  # finds lone surrogates, which no one downstream can encode
    except UnicodeError:
        raise InvalidArgument(f"{_PREFIX}invalid JSON on line {number} (not UTF-8)") from None
    except RecursionError:
        raise InvalidArgument(f"{_PREFIX}invalid JSON on line {number} (nested too deeply)") from None
    except ValueError as error:
        raise InvalidArgument(f"{_PREFIX}invalid JSON on line {number} ({_reason(error)})") from None
    if not isinstance(row, dict):
        raise InvalidArgument(f"{_PREFIX}line {number} is not a JSON object but {type(row).__name__}")
    return row


def _check_kind(row: dict[str, Any], before: RowKind | None, number: int) -> RowKind:
    """What a row is, which must be what those before it were."""
    if "messages" in row:
        kind = RowKind.MESSAGES
    elif any(field in row for field in ("preferred_output", "non_preferred_output")):
        kind = RowKind.PREFERENCES
    elif before == RowKind.PREFERENCES:
        raise InvalidArgument(f"{_PREFIX}Missing required field 'preferred_output' on line {number}")
    else:
        raise InvalidArgument(f"{_PREFIX}Missing required field 'messages' on line {number}")
    if before not in (None, kind):
        shown = {RowKind.MESSAGES: "a conversation ('messages')", RowKind.PREFERENCES: "a preference"}
        raise InvalidArgument(
            f"{_PREFIX}line {number} is {shown[kind]}, but the lines before it are each {shown[before]}. "
            "Rows of one dataset are of one kind: upload them as two datasets."
        )
    return kind


def _check_preference(row: dict[str, Any], number: int) -> None:
    """A prompt and two answers to it, each the assistant's one last message."""
    prompt = row.get("input")
    if not isinstance(prompt, dict):
        raise InvalidArgument(f"{_PREFIX}Missing required field 'input' on line {number}: an object with 'messages'")
    _check_messages(prompt.get("messages"), "input.messages", number)
    if prompt["messages"][-1]["role"] == "assistant":
        raise InvalidArgument(
            f"{_PREFIX}'input.messages' on line {number} ends with the assistant: its answers belong into "
            "'preferred_output' and 'non_preferred_output'"
        )
    for field in ("preferred_output", "non_preferred_output"):
        if field not in row:
            raise InvalidArgument(f"{_PREFIX}Missing required field '{field}' on line {number}")
        _check_messages(row[field], field, number)
        if len(row[field]) != 1 or row[field][0]["role"] != "assistant":
            raise InvalidArgument(f"{_PREFIX}'{field}' on line {number} must be a list of one message of the assistant")


def _check_messages(messages: object, field: str, number: int) -> None:
    if not isinstance(messages, list) or not messages:
        raise InvalidArgument(f"{_PREFIX}'{field}' on line {number} must be a list with at least one message")
    for index, message in enumerate(messages):
        _check_message(message, index, number)


def _check_message(message: object, index: int, number: int) -> None:
    where = f"message {index} on line {number}"
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise InvalidArgument(f"{_PREFIX}{where} has no 'role'")
    if message["role"] not in ROLES:
        shown = json.dumps(message["role"][:40])
        raise InvalidArgument(f"{_PREFIX}{where} has the role {shown}; use one of {', '.join(ROLES)}")
    content = message.get("content")
    if content is not None and not isinstance(content, str | list):
        raise InvalidArgument(f"{_PREFIX}'content' of {where} must be text or a list of parts")
    if content is None and message["role"] in ("system", "user"):
        raise InvalidArgument(f"{_PREFIX}{where} has no 'content'")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _reason(error: ValueError) -> str:
    """The parser's words without its position, which counts within the line."""
    return error.msg if isinstance(error, json.JSONDecodeError) else str(error)
