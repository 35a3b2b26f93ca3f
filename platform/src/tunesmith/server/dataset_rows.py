"""What stands in a dataset: its rows by the page, searched, and figures over all of them."""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from tunesmith.db.datasets import row_facts
from tunesmith.db.listing import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE
from tunesmith.db.tables import Dataset
from tunesmith.errors import FailedPrecondition, InvalidArgument
from tunesmith.storage.objects import ObjectStore

PAGE_BYTES = 8 * 1024 * 1024
"""A page ends behind the row with which it holds so much."""
BINS = 20
MOST_FIELDS = 300
_DEPTH = 3
_MOST_RECKONED = 256
_reckoned: dict[str, dict[str, Any]] = {}
"""By object key, which names its content."""
_PREFERENCE = ("preferred_output", "non_preferred_output")


def page_of_rows(objects: ObjectStore, dataset: Dataset, size: int, token: str, contains: str) -> dict[str, Any]:
    """`{"rows": [{"index", "row"}], "nextPageToken", "totalSize"}`; index from 0, in the whole dataset.

    Args:
        objects: the store.
        dataset: a READY one.
        size: most rows of the page; 0: 50.
        token: of the page before, "" for the first.
        contains: only rows whose JSON has this text, in whatever case; the total is then that of such rows.

    Raises:
        InvalidArgument: the token or the size is wrong.
        FailedPrecondition: the rows are not here yet.
    """
    if size < 0:
        raise InvalidArgument("pageSize must not be negative.")
    size = min(size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
    index, offset, before = _position(token, contains)
    wanted = contains.lower()
    rows: list[dict[str, Any]] = []
    taken, behind, matching = 0, "", before
    for at, line in objects.lines(_key(dataset), offset):
        found = not wanted or _has(line, wanted)
        full = len(rows) == size or taken >= PAGE_BYTES
        if found and full and not behind:
            behind = _token(index, offset, before + len(rows), contains)
            if not wanted:
                break
        if found:
            matching += 1
            if not full:
                rows.append({"index": index, "row": json.loads(line)})
                taken += len(line)
        index, offset = index + 1, at
    return {"rows": rows, "nextPageToken": behind, "totalSize": matching if wanted else dataset.example_count}


def statistics(objects: ObjectStore, dataset: Dataset) -> dict[str, Any]:
    """Figures over all rows of a READY dataset (docs/reference/dashboard.md). Rows never change, so they are reckoned once.

    Raises FailedPrecondition when the rows are not here yet.
    """
    key, kind = _key(dataset), row_facts(dataset)[0]
    if key not in _reckoned:
        if len(_reckoned) >= _MOST_RECKONED:
            _reckoned.clear()
        _reckoned[key] = _figures(objects, key)
    return {"rowKind": kind, "bytes": dataset.bytes, **_reckoned[key]}


def _figures(objects: ObjectStore, key: str) -> dict[str, Any]:
    messages: list[int] = []
    characters: list[int] = []
    roles: Counter[str] = Counter()
    fields: Counter[str] = Counter()
    seen: set[bytes] = set()
    tools = system = duplicates = 0
    for _, line in objects.lines(key):
        row = json.loads(line)
        said = _messages(row)
        messages.append(len(said))
        characters.append(sum(_length(message.get("content")) for message in said))
        of_row = Counter(str(message.get("role")) for message in said)
        roles.update(of_row)
        system += of_row["system"] > 0
        tools += bool(row.get("tools") or (row.get("input") or {}).get("tools")) or any(
            message.get("tool_calls") for message in said
        )
        digest = hashlib.blake2b(json.dumps(row, sort_keys=True).encode(), digest_size=16).digest()
        duplicates += digest in seen
        seen.add(digest)
        fields.update(path for path in _paths(row) if path in fields or len(fields) < MOST_FIELDS)
    ordered = sorted(characters)
    return {
        "rows": len(messages),
        "messages": {"min": min(messages), "mean": sum(messages) / len(messages), "max": max(messages)},
        "characters": {
            "min": ordered[0],
            "p50": _quantile(ordered, 0.5),
            "p95": _quantile(ordered, 0.95),
            "max": ordered[-1],
        },
        "histogram": _histogram(ordered),
        "roles": dict(roles.most_common()),
        "withTools": tools,
        "withSystem": system,
        "duplicates": duplicates,
        "fields": dict(fields.most_common()),
    }


def _messages(row: dict[str, Any]) -> list[dict[str, Any]]:
    """All messages of a row: of a preference, its prompt's and both answers'."""
    if "messages" in row:
        return row["messages"]
    return [*row["input"]["messages"], *(message for field in _PREFERENCE for message in row[field])]


def _length(content: Any) -> int:
    """Characters of text; pictures and the like count none."""
    if isinstance(content, str):
        return len(content)
    parts = content if isinstance(content, list) else []
    return sum(len(part["text"]) for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str))


def _paths(value: dict[str, Any], above: str = "", depth: int = 1) -> Iterator[str]:
    for key, inner in value.items():
        path = f"{above}.{key}" if above else key
        yield path
        if isinstance(inner, dict) and depth < _DEPTH:
            yield from _paths(inner, path, depth + 1)


def _quantile(ordered: Sequence[int], share: float) -> int:
    """The smallest value that at least this share of the values does not exceed."""
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def _histogram(ordered: Sequence[int]) -> list[dict[str, int]]:
    """Bins of equal width over whole numbers; `to` is not in the bin, but in the last one's case."""
    low, high = ordered[0], ordered[-1]
    width = max(1, -(-(high - low + 1) // BINS))
    counts = Counter((value - low) // width for value in ordered)
    bins = -(-(high - low + 1) // width)
    return [{"from": low + n * width, "to": low + (n + 1) * width, "rows": counts[n]} for n in range(bins)]


def _has(line: bytes, wanted: str) -> bool:
    text = line.decode()
    if "\\" not in text:
        return wanted in text.lower()
    return any(wanted in part.lower() for part in _texts(json.loads(text)))  # escapes hide characters


def _texts(value: Any) -> Iterator[str]:
    """Every text in a row, keys included."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
    else:
        yield value if isinstance(value, str) else json.dumps(value)


def _key(dataset: Dataset) -> str:
    if dataset.object_key is None:
        raise FailedPrecondition(f"The dataset {dataset.name} has no rows yet. Upload them first.")
    return dataset.object_key


def _token(index: int, offset: int, before: int, contains: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([index, offset, before, contains]).encode()).decode().rstrip("=")


def _position(token: str, contains: str) -> tuple[int, int, int]:
    if not token:
        return 0, 0, 0
    try:
        match json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))):
            case [int(index), int(offset), int(before), str(made_for)] if min(index, offset, before) >= 0:
                if made_for == contains:
                    return index, offset, before
    except ValueError:
        pass
    raise InvalidArgument("pageToken is not one that this API gave out for this query. Begin at the first page.")
