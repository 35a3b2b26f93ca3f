"""Inferring a JSON schema from values: types, required keys, and the possible values of texts where they are few."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

ENUM_MOST = 12
"""Different values that a text field may have to be listed."""
ENUM_REPEATS = 5
"""How often each of them must occur on average: fewer repeats, and the next row may bring a new value."""
ENUM_LENGTH = 60
"""Characters of a listed value."""
DEEPEST = 12
"""Levels that are described; below, anything goes."""


def infer(values: Sequence[Any], depth: int = 0) -> dict[str, Any]:
    """A JSON schema that every one of `values` fits.

    A key is required where all objects have it. Empty for no values, or below twelve levels.
    """
    if not values or depth == DEEPEST:
        return {}
    kinds = list(dict.fromkeys(sorted(map(_kind, values))))
    if "integer" in kinds and "number" in kinds:
        kinds.remove("integer")
    schema: dict[str, Any] = {"type": kinds[0] if len(kinds) == 1 else kinds}
    objects = [value for value in values if isinstance(value, dict)]
    if objects:
        keys = dict.fromkeys(key for value in objects for key in value)
        schema["properties"] = {key: infer([v[key] for v in objects if key in v], depth + 1) for key in keys}
        schema["required"] = [key for key in keys if all(key in value for value in objects)]
    items = [item for value in values if isinstance(value, list) for item in value]
    if items:
        schema["items"] = infer(items, depth + 1)
    texts = Counter(value for value in values if isinstance(value, str))
    if texts and set(kinds) <= {"string", "null"} and _are_few(texts):
        schema["enum"] = sorted(texts)
    return schema


def _are_few(texts: Counter[str]) -> bool:
    return (
        len(texts) <= ENUM_MOST and texts.total() >= ENUM_REPEATS * len(texts) and max(map(len, texts)) <= ENUM_LENGTH
    )


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "number"
    names = {dict: "object", list: "array", str: "string", type(None): "null"}
    return names[type(value)]
