"""The agent's two tools, as schemas that a model is shown and as functions that run them.

A tool never raises for what a model wrote: a wrong name, broken JSON or a bad expression come back as `{"error": ...}`, which
the model reads like any other result and may act on.
"""

from __future__ import annotations

import ast
import json
import operator
from collections.abc import Callable
from typing import Any

from .shop import entry

LONGEST_EXPRESSION = 100
"""Characters."""

LARGEST_NUMBER = 10**12


def _schema(name: str, description: str, argument: str) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {argument: {"type": "string"}}, "required": [argument]}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


TOOLS = [
    _schema("lookup", "Gives price and stock of one item of the shop.", "item"),
    _schema("calculator", "Works out a sum, like 3*12+4.", "expression"),
]
"""What goes into the request's `tools`."""

_ARGUMENT = {"lookup": "item", "calculator": "expression"}

_OPERATIONS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


class ToolError(Exception):
    """A call that cannot be run; its text is what the model is told."""


def run_tool(shop: int, name: str, arguments: str) -> str:
    """Runs one call of a model on the list of `shop`; `arguments` is the JSON text that the model wrote."""
    try:
        value = _read_argument(name, arguments)
        return json.dumps(_lookup(shop, value) if name == "lookup" else {"result": calculate(value)})
    except ToolError as error:
        return json.dumps({"error": str(error)})


def calculate(expression: str) -> int | float:
    """Works out + - * / and brackets; whole results are given as integers, others to six decimals.

    Raises ToolError for anything else, for division by zero, and for numbers beyond 10**12.
    """
    if len(expression) > LONGEST_EXPRESSION:
        raise ToolError("expression too long")
    try:
        result = _value(ast.parse(expression, mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ToolError("not a sum") from error
    except ZeroDivisionError as error:
        raise ToolError("division by zero") from error
    return int(result) if result == int(result) else round(result, 6)


def _value(node: ast.expr) -> int | float:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        value = node.value
    elif isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
        value = _OPERATIONS[type(node.op)](_value(node.left), _value(node.right))
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = -_value(node.operand)
    else:
        raise ToolError("not a sum")
    if not -LARGEST_NUMBER <= value <= LARGEST_NUMBER:
        raise ToolError("number too large")
    return value


def _lookup(shop: int, item: str) -> dict[str, str | int]:
    found = entry(shop, item)
    if found is None:
        raise ToolError("no such item")
    return {"item": found.item, "price": found.price, "stock": found.stock}


def _read_argument(name: str, arguments: str) -> str:
    key = _ARGUMENT.get(name)
    if key is None:
        raise ToolError("no such tool")
    try:
        read = json.loads(arguments or "{}")
    except ValueError as error:
        raise ToolError("arguments are not JSON") from error
    if not isinstance(read, dict) or set(read) != {key} or not isinstance(read[key], str):
        raise ToolError(f"{name} takes {key}")
    return read[key]
