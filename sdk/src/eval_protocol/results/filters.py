"""The documented `filterConfig` as SQL: groups joined by AND, each of them AND or OR, conditions on leaves.

Comparisons mean what they mean in the published UI: text is compared as text, `contains` ignores case, `>` and its like compare numbers,
dates compare as days of this machine's time zone. A condition that is not filled in yet (no field, or no value) restricts nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from eval_protocol.errors import UsageError
from eval_protocol.results.paths import Kind, Path, parse

MOST_CONDITIONS = 100


class Logic(StrEnum):
    """How the conditions of a group are joined."""

    AND = "AND"
    """All of them."""
    OR = "OR"
    """Any of them."""


class Operator(StrEnum):
    """How a value is compared."""

    EQUAL = "=="
    """The same text, number or day."""
    UNEQUAL = "!="
    """Another one, or none at all."""
    ABOVE = ">"
    """A larger number, a later day."""
    BELOW = "<"
    """A smaller number, an earlier day."""
    AT_LEAST = ">="
    """Or equal; on that day or after."""
    AT_MOST = "<="
    """Or equal; on that day or before."""
    CONTAINS = "contains"
    """The text in it, whatever the case."""
    LACKS = "!contains"
    """The text not in it, or no value."""
    BETWEEN = "between"
    """From value to value2, both included."""


class FieldType(StrEnum):
    """What a condition compares."""

    TEXT = "text"
    """Text; numbers for `>` and its like."""
    NUMBER = "number"
    """Numbers only."""
    DATE = "date"
    """Days, or moments where the value has a time."""
    DATE_RANGE = "date-range"
    """The same."""


class Condition(BaseModel):
    """One line of a filter."""

    model_config = ConfigDict(extra="forbid")

    field: str = ""
    operator: Operator = Operator.CONTAINS
    value: str | int | float | bool | None = ""
    value2: str | int | float | None = None
    type: FieldType = FieldType.TEXT


class Group(BaseModel):
    """Conditions under one logic."""

    model_config = ConfigDict(extra="forbid")

    logic: Logic = Logic.AND
    filters: list[Condition] = []


@dataclass(frozen=True)
class Where:
    """An SQL condition on `summaries`, with its parameters."""

    sql: str = "1"
    parameters: tuple[Any, ...] = ()

    @property
    def is_costly(self) -> bool:
        """Whether JSON is read of every row, because a field is no column."""
        return "json_extract" in self.sql


EVERYTHING = Where()


def read(text: str | None) -> Where:
    """The condition that a `filterConfig` stands for.

    Args:
        text: JSON; None or empty: everything.

    Raises:
        UsageError: it is no filterConfig, or a condition cannot be; says which.
    """
    if not text:
        return EVERYTHING
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"filterConfig is not valid JSON ({error}): {text[:80]}") from error
    if not isinstance(given, list):
        raise UsageError('filterConfig is no list of groups: write [{"logic": "AND", "filters": [...]}].')
    try:
        groups = [Group.model_validate(group) for group in given]
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UsageError(f"filterConfig cannot be used: {where}: {first['msg']}.") from error
    if sum(len(group.filters) for group in groups) > MOST_CONDITIONS:
        raise UsageError(f"filterConfig has more than {MOST_CONDITIONS} conditions; take some away.")
    return _join([_join([_condition(each) for each in group.filters], group.logic) for group in groups], Logic.AND)


def _join(conditions: Sequence[Where | None], logic: Logic) -> Where:
    filled = [condition for condition in conditions if condition is not None and condition is not EVERYTHING]
    if not filled:
        return EVERYTHING
    sql = f" {logic} ".join(f"({condition.sql})" for condition in filled)
    return Where(sql, tuple(parameter for condition in filled for parameter in condition.parameters))


def _condition(condition: Condition) -> Where | None:
    if not condition.field or condition.value in ("", None):
        return None
    path = parse(condition.field)
    if condition.type in (FieldType.DATE, FieldType.DATE_RANGE):
        return _date(path, condition)
    operator = condition.operator
    if operator in (Operator.CONTAINS, Operator.LACKS):
        return _contains(path, _written(condition.value), lacks=operator is Operator.LACKS)
    if operator is Operator.BETWEEN:
        if condition.value2 in ("", None):
            return None
        lower, upper = _number(condition.value, condition), _number(condition.value2, condition)
        sql, parameters = path.number()
        return Where(f"{sql} BETWEEN ? AND ?", (*parameters, lower, upper))
    if condition.type is FieldType.NUMBER or operator not in (Operator.EQUAL, Operator.UNEQUAL):
        return _compare_numbers(path, condition)
    return _same_text(path, _written(condition.value), differs=operator is Operator.UNEQUAL)


def _compare_numbers(path: Path, condition: Condition) -> Where:
    sql, parameters = path.number()
    number = _number(condition.value, condition)
    compare = {"==": "=", "!=": "IS NOT"}.get(condition.operator, condition.operator.value)
    return Where(f"{sql} {compare} ?", (*parameters, number))


def _same_text(path: Path, text: str, *, differs: bool) -> Where:
    sql, parameters = path.shown()
    if path.kind is Kind.TEXT:
        return Where(f"{sql} IS NOT ?" if differs else f"{sql} = ?", (*parameters, text))
    same = f"(SELECT COALESCE(CASE typeof(v) WHEN 'text' THEN v = ? ELSE v = ? END, 0) FROM (SELECT {sql} AS v))"
    return Where(f"NOT {same}" if differs else same, (text, _maybe_number(text), *parameters))


def _contains(path: Path, text: str, *, lacks: bool) -> Where:
    sql, parameters = path.shown()
    pattern = "%" + text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
    found = f"COALESCE(CAST({sql} AS TEXT), '') LIKE ? ESCAPE '\\'"
    return Where(f"NOT ({found})" if lacks else found, (*parameters, pattern))


def _date(path: Path, condition: Condition) -> Where | None:
    begin, end = _span(condition.value, condition)
    sql, parameters = path.moment()
    inside = Where(f"{sql} >= ? AND {sql} < ?", (*parameters, begin, *parameters, end))
    match condition.operator:
        case Operator.EQUAL:
            return inside
        case Operator.UNEQUAL:
            return Where(f"NOT COALESCE({inside.sql}, 0)", inside.parameters)
        case Operator.AT_LEAST:
            return Where(f"{sql} >= ?", (*parameters, begin))
        case Operator.ABOVE:
            return Where(f"{sql} >= ?", (*parameters, end))
        case Operator.AT_MOST:
            return Where(f"{sql} < ?", (*parameters, end))
        case Operator.BELOW:
            return Where(f"{sql} < ?", (*parameters, begin))
        case Operator.BETWEEN:
            if condition.value2 in ("", None):
                return None
            last = _span(condition.value2, condition)[1]
            return Where(inside.sql, (*parameters, begin, *parameters, last))
    raise UsageError(
        f"{condition.field}: {condition.operator} cannot be used with a date; there are ==, !=, >=, <= and between."
    )


def _span(value: Any, condition: Condition) -> tuple[float, float]:
    """Unix seconds at which a day, or a moment, begins and ends. A time without a zone is this machine's."""
    try:
        if isinstance(value, int | float):
            return float(value), math.nextafter(float(value), math.inf)
        moment = datetime.fromisoformat(value)
        begin = moment.astimezone().timestamp()
        if len(value) > len("2026-01-31"):
            return begin, math.nextafter(begin, math.inf)
        return begin, (moment + timedelta(days=1)).astimezone().timestamp()
    except (ValueError, OverflowError, OSError) as error:
        raise UsageError(
            f"{condition.field}: {str(value)[:80]!r} is no date; write 2026-01-31 or 2026-01-31T18:00."
        ) from error


def _number(value: Any, condition: Condition) -> float:
    number = _maybe_number(value)
    if number is None:
        raise UsageError(f"{condition.field} {condition.operator}: {str(value)[:80]!r} is no number.")
    return number


def _maybe_number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _written(value: Any) -> str:
    """The value as JSON writes it: what the stored one is compared with as text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
