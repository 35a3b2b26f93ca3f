"""Rows of a dataset by the page, and figures over them, held against counting by hand."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.server.conftest import Platform


def jsonl(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def chat(*said: tuple[str, Any], **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in said], **fields}


ROWS = [chat(("user", f"Number {i} {'even' if i % 2 == 0 else 'odd'}"), n=i) for i in range(25)]


def all_pages(platform: Platform, size: int, **query: str) -> tuple[list[int], set[int]]:
    """Indexes of all rows over the pages, and the totals that the pages told."""
    indexes, totals, token = [], set(), ""
    while True:
        page = platform.ok("GET", "/datasets/d/rows", params={"pageSize": size, "pageToken": token, **query})
        assert all(row["row"]["n"] == row["index"] for row in page["rows"])
        indexes += [row["index"] for row in page["rows"]]
        totals.add(page["totalSize"])
        token = page["nextPageToken"]
        if not token:
            return indexes, totals


@pytest.mark.parametrize("size", [1, 7, 25, 50])
def test_pages_hold_every_row_once(platform: Platform, size: int) -> None:
    platform.dataset("d", jsonl(ROWS))
    assert all_pages(platform, size) == (list(range(25)), {25})
    assert all_pages(platform, size, contains="EVEN") == (list(range(0, 25, 2)), {13})
    assert all_pages(platform, size, contains="nowhere") == ([], {0})


def test_what_escapes_hide_is_found(platform: Platform) -> None:
    rows = [chat(("user", 'Größe "quoted"\nline\\n'), n=0), chat(("user", "plain"), n=1)]
    platform.dataset("d", jsonl(rows))
    for text in ("größe", 'e "quoted"', "\nline", "line\\n", "messages"):
        assert 0 in all_pages(platform, 5, contains=text)[0], text
    assert all_pages(platform, 5, contains="u00f6") == ([], {0})


def test_a_page_of_long_rows_is_cut(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunesmith.server.dataset_rows.PAGE_BYTES", 100)
    platform.dataset("d", jsonl(ROWS))
    assert len(platform.ok("GET", "/datasets/d/rows")["rows"]) == 2
    assert all_pages(platform, 0) == (list(range(25)), {25})


def test_a_wrong_position_is_refused(platform: Platform) -> None:
    platform.dataset("d", jsonl(ROWS))
    token = platform.ok("GET", "/datasets/d/rows?pageSize=2")["nextPageToken"]
    for query in (f"pageToken={token}&contains=x", "pageToken=nonsense", "pageToken=WzFd", "pageSize=-1"):
        platform.fails(400, "GET", f"/datasets/d/rows?{query}")
    platform.fails(404, "GET", "/datasets/none/rows")
    platform.ok("POST", "/datasets", json={"dataset": {}, "datasetId": "empty"})
    assert "no rows yet" in platform.fails(400, "GET", "/datasets/empty/rows")
    assert "no rows yet" in platform.fails(400, "GET", "/datasets/empty/statistics")


def test_figures_over_conversations(platform: Platform) -> None:
    parts = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "data:x"}}]
    called = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    rows = [
        chat(
            ("system", "be brief"), ("user", "hi"), ("assistant", "hello"), ground_truth={"answer": {"a": {"deep": 1}}}
        ),
        chat(("user", parts), tools=[{"type": "function"}]),
        {"messages": [{"role": "user", "content": "xy"}, called]},
        {"messages": [{"content": "xy", "role": "user"}, called]},
    ]
    platform.dataset("d", jsonl(rows))
    found = platform.ok("GET", "/datasets/d/statistics")
    assert (found["rows"], found["rowKind"], found["bytes"]) == (4, "MESSAGES", len(jsonl(rows)))
    assert found["messages"] == {"min": 1, "mean": 2.0, "max": 3}
    assert found["characters"] == {"min": 2, "p50": 2, "p95": 15, "max": 15}
    assert found["roles"] == {"user": 4, "assistant": 3, "system": 1}
    assert (found["withTools"], found["withSystem"], found["duplicates"]) == (3, 1, 1)
    assert found["fields"] == {
        "messages": 4,
        "ground_truth": 1,
        "ground_truth.answer": 1,
        "ground_truth.answer.a": 1,
        "tools": 1,
    }
    assert sum(bin["rows"] for bin in found["histogram"]) == 4
    assert found["histogram"][0] == {"from": 2, "to": 3, "rows": 2}
    assert all(a["to"] == b["from"] for a, b in zip(found["histogram"], found["histogram"][1:], strict=False))
    assert found["histogram"][-1]["from"] <= 15 < found["histogram"][-1]["to"]


def test_figures_over_preferences(platform: Platform) -> None:
    answer = [{"role": "assistant", "content": "abc"}]
    row = {
        "input": {"messages": [{"role": "user", "content": "hey"}]},
        "preferred_output": answer,
        "non_preferred_output": answer,
    }
    platform.dataset("d", jsonl([row]))
    found = platform.ok("GET", "/datasets/d/statistics")
    assert (found["rowKind"], found["messages"]["max"], found["characters"]["max"]) == ("PREFERENCES", 3, 9)
    assert found["histogram"] == [{"from": 9, "to": 10, "rows": 1}]
