"""What is wrong with a JSON value, by the small part of JSON Schema that is inferred from data."""

from typing import Any

TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}


def problems(value: Any, schema: dict[str, Any], where: str = "the answer") -> list[str]:
    """What does not fit the schema, in words; empty when everything does."""
    if not schema:
        return []
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(is_type(value, kind) for kind in kinds):
        return [f"{where} is not of type {' or '.join(kinds)}"]
    if "enum" in schema and value is not None and value not in schema["enum"]:
        return [f"{where} is none of the {len(schema['enum'])} known values"]
    if isinstance(value, dict):
        found = [f"{where} lacks {key}" for key in schema.get("required", []) if key not in value]
        for key, inner in schema.get("properties", {}).items():
            found += problems(value[key], inner, f"{where}.{key}") if key in value else []
        return found
    if isinstance(value, list):
        inner = schema.get("items", {})
        return [text for index, item in enumerate(value) for text in problems(item, inner, f"{where}[{index}]")]
    return []


def is_type(value: Any, kind: str) -> bool:
    """Whether a value is of a JSON Schema type; booleans are no numbers."""
    if kind in ("number", "integer"):
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        return not isinstance(value, bool) and (whole or (kind == "number" and isinstance(value, float)))
    return isinstance(value, TYPES[kind])
