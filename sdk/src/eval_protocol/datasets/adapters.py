"""From the objects of a dataset to evaluation rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from pydantic import ValidationError

from eval_protocol.errors import DatasetError
from eval_protocol.models import EvaluationRow
from eval_protocol.models.messages import ROLES

DatasetAdapter = Callable[[list[dict[str, Any]]], list[EvaluationRow]]


def default_dataset_adapter(rows: list[dict[str, Any]]) -> list[EvaluationRow]:
    """Each object already is a row.

    Raises:
        DatasetError: naming the first object that is none, counted from 1, and its wrong field.
    """
    adapted = []
    for number, row in enumerate(rows, start=1):
        try:
            adapted.append(EvaluationRow.model_validate(row))
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            raise DatasetError(
                f"Row {number} of the dataset is not an evaluation row: `{field}`: {first['msg']}."
            ) from error
    return adapted


def role_problem(row: dict[str, Any]) -> str | None:
    """What is wrong with the roles of a row's messages; None when nothing is, or when it has no messages to look at."""
    messages = row.get("messages")
    for message in messages if isinstance(messages, list) else ():
        role = message.get("role") if isinstance(message, dict) else None
        if isinstance(role, str) and role not in ROLES:
            return f"{role!r} is no role of a message; roles are {', '.join(ROLES)}."
    return None


def adapt_rows(adapter: DatasetAdapter, raw: list[dict[str, Any]]) -> list[EvaluationRow]:
    """Apply a test's `dataset_adapter` and check what it gives back.

    Raises:
        DatasetError: the adapter raised, or did not return a list of EvaluationRow.
    """
    name = getattr(adapter, "__name__", "dataset_adapter")
    try:
        rows = adapter(raw)
    except DatasetError:
        raise
    except Exception as error:
        raise DatasetError(f"The dataset_adapter {name} failed: {type(error).__name__}: {error}.") from error
    if not isinstance(rows, Iterable):
        raise DatasetError(
            f"The dataset_adapter {name} returned {type(rows).__name__} instead of a list of EvaluationRow."
        )
    rows = list(rows)
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, EvaluationRow):
            raise DatasetError(
                f"The dataset_adapter {name} returned {type(row).__name__} at place {number} instead of an EvaluationRow."
            )
        if problem := role_problem({"messages": [{"role": message.role} for message in row.messages]}):
            raise DatasetError(
                f"The dataset_adapter {name} made at place {number} a row that cannot be sent: {problem}"
            )
    return rows
