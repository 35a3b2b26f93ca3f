"""One page of a collection: order, simple filters and page tokens, the same for every noun.

Pages continue after the last row seen (not at an offset), so that rows made or deleted meanwhile neither repeat nor hide others.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, and_, or_, select
from sqlalchemy.orm import Session
from sqlalchemy.sql.base import ExecutableOption

from tunesmith.errors import InvalidArgument

DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 200
_CONDITION = re.compile(r"""\s*([A-Za-z_.]+)\s*(!=|=)\s*(?:"([^"]*)"|'([^']*)'|([^\s"'()]+))\s*""")


@dataclass(frozen=True)
class ListQuery:
    """What a client asked for, unparsed."""

    page_size: int = 0
    page_token: str = ""
    order_by: str = ""
    filter: str = ""


@dataclass(frozen=True)
class Fields:
    """What a collection can be ordered and filtered by: wire name in snake_case -> column."""

    key: Any
    """Unique column that settles ties and marks the position."""
    order: Mapping[str, Any]
    filters: Mapping[str, Any] = field(default_factory=dict)
    default_order: str = "create_time desc"

    def conditions(self, text: str) -> list[ColumnElement[bool]]:
        """What a `filter` says. Raises InvalidArgument where it is not understood."""
        return _conditions(text, self)


def page(
    session: Session,
    entity: type,
    conditions: Sequence[ColumnElement[bool]],
    fields: Fields,
    query: ListQuery,
    *,
    offset: int = 0,
    options: Sequence[ExecutableOption] = (),
) -> tuple[list[Any], str]:
    """The rows of one page and the token of the next ("" at the end). Raises InvalidArgument naming the wrong parameter.

    `offset` leaves out so many rows (of those behind the token); `options` say how the entity is loaded.
    """
    if query.page_size < 0:
        raise InvalidArgument("pageSize must not be negative.")
    size = min(query.page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
    order = query.order_by or fields.default_order
    column, descending = _order(order, fields)
    where = [*conditions, *_conditions(query.filter, fields)]
    if query.page_token:
        where.append(_after(column, fields.key, descending, _position(query.page_token, order)))
    arrange = [item.desc() if descending else item.asc() for item in (column, fields.key)]
    wanted = select(entity, column, fields.key).where(*where).order_by(*arrange).options(*options)
    rows = session.execute(wanted.offset(offset).limit(size + 1)).all()
    token = _token(order, rows[size - 1][1], rows[size - 1][2]) if len(rows) > size else ""
    return [row[0] for row in rows[:size]], token


def _order(text: str, fields: Fields) -> tuple[Any, bool]:
    name, _, direction = text.strip().partition(" ")
    column = fields.order.get(_snake(name))
    if column is None or direction.strip().lower() not in ("", "asc", "desc"):
        raise InvalidArgument(
            f"orderBy {text!r} is not possible: use one of {', '.join(fields.order)}, with or without ' desc'."
        )
    return column, direction.strip().lower() == "desc"


def _conditions(text: str, fields: Fields) -> list[ColumnElement[bool]]:
    found = []
    for part in re.split(r"\s+AND\s+", text.strip()) if text.strip() else []:
        match = _CONDITION.fullmatch(part)
        column = fields.filters.get(_snake(match.group(1))) if match else None
        if match is None or column is None:
            raise InvalidArgument(
                f'filter {text!r} is not understood: use FIELD = "VALUE" or FIELD != "VALUE", joined by AND, '
                f"with the fields {', '.join(fields.filters)}."
            )
        value = next(group for group in match.groups()[2:] if group is not None)
        found.append(column == value if match.group(2) == "=" else column.is_distinct_from(value))
    return found


def _after(column: Any, key: Any, descending: bool, position: tuple[Any, Any]) -> ColumnElement[bool]:
    value, last = position
    if descending:
        return or_(column < value, and_(column == value, key < last))
    return or_(column > value, and_(column == value, key > last))


def _token(order: str, value: Any, key: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps([order, value, key]).encode()).decode().rstrip("=")


def _position(token: str, order: str) -> tuple[Any, Any]:
    try:
        made_for, value, key = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except (ValueError, TypeError, binascii.Error):
        raise InvalidArgument("pageToken is not one that this API gave out.") from None
    if made_for != order or not all(isinstance(item, str | int | float) for item in (value, key)):
        raise InvalidArgument(
            "pageToken belongs to another query: repeat the orderBy and filter of the first page with it."
        )
    return value, key


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)([A-Z])", r"_\1", name).lower()
