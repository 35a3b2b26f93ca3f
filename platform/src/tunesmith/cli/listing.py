"""What `list` commands share: the documented flags, one page or all of them, a table or JSON."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Callable, Sequence
from typing import Any

import click

from tunesmith.cli.client import all_pages, call
from tunesmith.cli.profile import Profile
from tunesmith.cli.terminal import plain, say

Row = Sequence[str]

_OPTIONS = (
    click.option(
        "--filter", "filter_", metavar="EXPRESSION", help='FIELD = "VALUE" or FIELD != "VALUE", joined by AND.'
    ),
    click.option("--order-by", metavar="FIELD", help="Field to order by, with or without ' desc'."),
    click.option("--page-size", type=click.IntRange(1, 200), help="Print one page of so many (default: all)."),
    click.option("--page-token", metavar="TOKEN", help="Print the page that this token of an earlier one stands for."),
    click.option("--json", "as_json", is_flag=True, help="Print the API's JSON."),
)


def list_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the flags that `show` takes."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def show(
    profile: Profile,
    path: str,
    key: str,
    header: Row,
    row: Callable[[dict[str, Any]], Row],
    nothing: str,
    *,
    filter_: str | None,
    order_by: str | None,
    page_size: int | None,
    page_token: str | None,
    as_json: bool,
) -> None:
    """Print a collection, whose pages hold it under `key`: everything, or the one page that was asked for."""
    query = {name: value for name, value in (("filter", filter_), ("orderBy", order_by)) if value}
    if page_size or page_token:
        query |= {"pageSize": str(page_size or 50), "pageToken": page_token or ""}
        page = call(profile, "GET", f"{path}?{urllib.parse.urlencode(query)}")
        found, token = page.get(key) or [], page.get("nextPageToken") or ""
    else:
        found, token = all_pages(profile, path, key, **query), ""
    if as_json:
        click.echo(json.dumps({key: found, "nextPageToken": token} if page_size or page_token else found, indent=2))
        return
    if not found:
        say(nothing)
        return
    print_table([header, *(row(item) for item in found)])
    if token:
        say(f"More: --page-token {token}")


def print_table(rows: Sequence[Row]) -> None:
    """Print rows in columns; the first is the header."""
    rows = [[plain(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def print_fields(fields: Sequence[tuple[str, str]]) -> None:
    """Print what there is of one resource, a line each; empty ones are left out."""
    width = max(len(name) for name, _ in fields) + 2
    for name, value in fields:
        if value:
            say(f"{name:<{width}}{value}")


def short(name: str) -> str:
    """The id of a resource name."""
    return name.rsplit("/", 1)[-1]


def moment(time: str | None) -> str:
    """A time of the API, to the second."""
    return (time or "")[:19].replace("T", " ")
