"""Client of the evaluator host: one unix socket, one JSON object a line, both ways (`docs/reference/seams.md`)."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from tunesmith.errors import FailedPrecondition, Unavailable

LINE_LIMIT = 256 * 1024 * 1024
"""Longest line taken from the host, in bytes, as on its side: a whole adapted dataset, or a row with images."""
_MOST_DIGITS = 18
"""Digits of a whole number; a longer one becomes a float."""
REQUEST_BYTES = 64 * 1024 * 1024
"""Attempts of one `run` request hold at most about this much; the rest goes into the next. Each attempt carries its row."""
_LONGEST_ID = 200
"""Characters of a wrong rollout id that are repeated in a reason."""
_OBJECTS = ("execution_metadata", "rollout_status")
"""Fields of a row that are read here: objects, where they are there."""


class HostClient:
    """A connection to the host. It is opened for each request, so that a restarted host is simply the next connection."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self._ids = itertools.count()
        self._cancelled: set[str] = set()
        """Rollout ids of attempts that nobody waits for any more."""

    async def describe(self) -> dict[str, Any]:
        """What the evaluator is. Raises Unavailable when nobody listens, FailedPrecondition with the host's own words."""
        async for answer in self._ask({"type": "describe"}):
            return answer
        raise Unavailable(f"The evaluator host at {self.socket} closed the connection without an answer.")

    async def adapt(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The rows as the evaluator's dataset_adapter makes them (EvaluationRow)."""
        async for answer in self._ask({"type": "adapt", "rows": rows}):
            return answer["rows"]
        raise Unavailable(f"The evaluator host at {self.socket} went away while it adapted the dataset.")

    async def run(
        self,
        attempts: Iterable[dict[str, Any]],
        *,
        invocation_id: str,
        completion_params: dict[str, Any],
        max_concurrent_rollouts: int,
        answers: str | None = None,
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Ask for rollouts and yield one `rollout` event for each as it ends. `attempts` are taken a request's worth at a time.

        `answers`: what becomes of the answers that rows end in. `score`: nothing is rolled out, they are scored; `replace`: the model
        answers in their place, also for an evaluator without rollouts of its own; None, as in training: dropped, unless the
        evaluator has no rollouts.

        Raises Unavailable when the host goes away, or says that it is done, before all are: the caller asks again for the
        missing ones. Raises FailedPrecondition for an event that cannot be read.
        """
        for part in _parts(attempts):
            left = {_place(attempt): attempt["rollout_id"] for attempt in part}
            request = {
                "type": "run",
                "request_id": f"{invocation_id}-{next(self._ids)}",
                "invocation_id": invocation_id,
                "completion_params": completion_params,
                "attempts": part,
                "max_concurrent_rollouts": max_concurrent_rollouts,
                **({"answers": answers} if answers else {}),
            }
            async for answer in self._ask(request):
                if answer["type"] == "done":
                    break
                if answer["type"] == "rollout" and (event := _event(answer, left)) is not None:
                    yield event
            unanswered = set(left.values()) - self._cancelled
            if unanswered:
                raise Unavailable(
                    f"The evaluator host at {self.socket} left {len(unanswered)} rollouts of {invocation_id} unanswered."
                )

    async def cancel(self, rollout_ids: Iterable[str]) -> None:
        """Have attempts of a `run` stopped; it goes on without them. A host that is away has none of them."""
        ids = list(rollout_ids)
        self._cancelled.update(ids)
        request = {"type": "cancel", "request_id": f"cancel-{next(self._ids)}", "rollouts": ids}
        with suppress(Unavailable):
            async for _ in self._ask(request):
                return

    async def _ask(self, request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        try:
            reader, writer = await asyncio.open_unix_connection(str(self.socket), limit=LINE_LIMIT)
        except OSError as error:
            raise Unavailable(f"No evaluator host answers at {self.socket}: {error}.") from error
        try:
            writer.write(json.dumps(request).encode() + b"\n")
            await writer.drain()
            while line := await reader.readline():
                answer = _read(line)
                if answer["type"] == "error":
                    raise FailedPrecondition(f"The evaluator host refused: {answer.get('message')}")
                yield answer
        except (ValueError, RecursionError) as error:
            raise FailedPrecondition(
                f"The evaluator host at {self.socket} sent a line that cannot be read (at most {LINE_LIMIT} bytes of JSON): {error}."
            ) from error
        except OSError as error:
            raise Unavailable(f"The connection to the evaluator host at {self.socket} broke: {error}.") from error
        finally:
            writer.close()


def _place(attempt: dict[str, Any]) -> tuple[int, int, int]:
    return attempt["row_index"], attempt["k"], attempt["attempt"]


def _parts(attempts: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """The attempts in order, cut where a request would grow beyond REQUEST_BYTES."""
    part: list[dict[str, Any]] = []
    size = 0
    for attempt in attempts:
        length = len(json.dumps(attempt))
        if part and size + length > REQUEST_BYTES:
            yield part
            part, size = [], 0
        part.append(attempt)
        size += length
    if part:
        yield part


def _read(line: bytes) -> dict[str, Any]:
    """A line of the host's, of which nothing but JSON that can be written again is taken. Raises ValueError, RecursionError."""
    answer = json.loads(line, parse_constant=lambda _: None, parse_float=_finite, parse_int=_number)
    if not isinstance(answer, dict) or not isinstance(answer.get("type"), str):
        raise ValueError("an object with a type is expected")
    lowered = line.lower()
    return _clean(answer) if b"\\ud" in lowered or b"\\u0000" in lowered else answer


def _finite(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None


def _number(text: str) -> int | float | None:
    return int(text) if len(text) <= _MOST_DIGITS else _finite(text)


def _clean(value: Any) -> Any:
    """Without halves of characters and zeros in texts, which no database and no file takes."""
    if isinstance(value, str):
        return value.replace("\0", "").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {_clean(name): _clean(item) for name, item in value.items()}
    return [_clean(item) for item in value] if isinstance(value, list) else value


def is_try_of(rollout_id: str, asked: str) -> bool:
    """Whether this is the id of a rollout that was asked for as `asked`: itself, or `{asked}-t2`, as the SDK calls a new try of its own."""
    return re.fullmatch(re.escape(asked) + r"(-t[0-9]{1,9})?", rollout_id) is not None


def _event(answer: dict[str, Any], left: dict[tuple[int, int, int], str]) -> dict[str, Any] | None:
    """An event that answers for one of the rollouts in `left`, which it leaves; None for any other: it was not asked for.

    The evaluator's code runs in the host, too, and may have written it. One that names another rollout counts as this one's, without a
    score: its calls are recorded under the id that was asked for, or under nobody's. Raises FailedPrecondition.
    """
    key: Any = answer.get("row_index"), answer.get("k"), answer.get("attempt")
    if not all(type(part) is int for part in key) or key not in left:  # True is no 1
        return None
    asked = left.pop(key)
    row, rollout_id = answer.get("row"), answer.get("rollout_id")
    if not isinstance(row, dict) or not isinstance(rollout_id, str):
        raise FailedPrecondition(f"The evaluator host answered for row {key[0]} without a row or a rollout id.")
    if wrong := [name for name in _OBJECTS if not isinstance(row.get(name), dict | None)]:
        raise FailedPrecondition(
            f"The evaluator host answered for row {key[0]} with a row whose {wrong[0]} is no object."
        )
    score, valid, reason = answer.get("score"), answer.get("is_score_valid"), answer.get("reason")
    if valid is not True or isinstance(score, bool):
        score, valid = None, False
    if not is_try_of(rollout_id, asked):
        if valid:
            reason = f"the evaluator answered for rollout {rollout_id[:_LONGEST_ID]!r} instead of {asked}: keep execution_metadata.rollout_id"
        rollout_id, score, valid = asked, None, False
    reason = reason if isinstance(reason, str) else ""
    return {**answer, "rollout_id": rollout_id, "score": score, "is_score_valid": valid, "reason": reason}
