"""The table of `ep logs`, used with the mouse: filters, sorting, pages, opened rows, exports, hostile rows, and links that keep it all."""

from __future__ import annotations

import csv
import http.client
import io
import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.browser import expected, observe, settle
from tests.browser.local import FIELD, LocalUi, address, equals, group

pytestmark = pytest.mark.browser

RAN = "() => window.__ran === undefined"


@pytest.fixture
def page(browser: Browser, sample_ui: LocalUi) -> Iterator[Page]:
    """A page that must stay without errors, without foreign requests, and without script of a rollout."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    page = context.new_page()
    seen = observe(page, sample_ui.url)
    yield page
    assert page.evaluate(RAN), "script of a rollout ran"
    assert not expected(seen)
    context.close()


def table(page: Page) -> Locator:
    return page.get_by_role("table", name="Rollouts")


def showing(page: Page, first: int, last: int, of: int) -> None:
    """What stands above the table."""
    expect(page.get_by_text(re.compile(rf"^Showing {first:,}-{last:,} of {of:,} rows"))).to_be_visible()


def filters_of(page: Page) -> list[dict[str, Any]]:
    """The filter in the address."""
    return json.loads(parse_qs(urlsplit(page.url).query).get("filterConfig", ["[]"])[0])


def add_condition(page: Page, number: int, field: str, operator: str, *values: str) -> None:
    """Fill the last condition of a group, as one types it."""
    box = page.get_by_role("group", name=f"Filter group {number}")
    box.get_by_label("Field").last.fill(field)
    box.get_by_label("Field").last.press("Enter")
    box.get_by_label("Operator").last.select_option(label=operator)
    for label, value in zip(("Value", "Second value"), values, strict=False):
        box.get_by_label(label, exact=True).last.fill(value)
        box.get_by_label(label, exact=True).last.press("Enter")


def test_one_click_filters_and_the_back_button(page: Page, sample_ui: LocalUi) -> None:
    page.goto(sample_ui.url)
    settle(page)
    expect(page).to_have_url(re.compile(r"/table$"))
    showing(page, 1, 25, 1000)
    table(page).get_by_role("button", name=re.compile("^Show only evaluation test_svg")).first.click()
    showing(page, 1, 25, 400)
    assert filters_of(page) == [group(equals(FIELD["name"], "test_svg_generation_evaluation"))]
    table(page).get_by_role("button", name="Show only model gpt-4.1").first.click()
    showing(page, 1, 25, 100)
    assert len(filters_of(page)[0]["filters"]) == 2
    page.reload()
    showing(page, 1, 25, 100)
    page.go_back()
    showing(page, 1, 25, 400)
    page.go_back()
    showing(page, 1, 25, 1000)
    page.go_forward()
    showing(page, 1, 25, 400)
    page.get_by_role("button", name="Clear all filters").click()
    showing(page, 1, 25, 1000)
    assert filters_of(page) == []


def test_filter_groups_numbers_and_dates(page: Page, sample_ui: LocalUi) -> None:
    page.goto(f"{sample_ui.url}/table")
    settle(page)
    page.get_by_role("button", name="Add filter", exact=True).click()
    page.get_by_label("Logic of group 1").select_option("OR")
    add_condition(page, 1, FIELD["name"], "equals", "test_math")
    page.get_by_role("button", name="Add filter to group").click()
    add_condition(page, 1, FIELD["name"], "equals", "test_vision")
    showing(page, 1, 25, 400)
    page.get_by_role("button", name="Add filter group").click()
    add_condition(page, 2, FIELD["score"], "between", "0.5", "0.8")
    newest = sample_ui.get("/api/rows", filterConfig=json.dumps(filters_of(page)), pageSize="1000")
    assert {row["name"] for row in newest["rows"]} <= {"test_math", "test_vision"}
    assert 0 < newest["matching"] < 400
    assert all(0.5 <= row["score"] <= 0.8 for row in newest["rows"])
    showing(page, 1, min(25, newest["matching"]), newest["matching"])
    page.get_by_role("group", name="Filter group 2").get_by_role("button", name="Add filter to group").click()
    add_condition(page, 2, "$.created_at", "before", "2020-01-01")
    expect(page.get_by_text("No rollout matches the filter")).to_be_visible()
    assert [one["type"] for one in filters_of(page)[1]["filters"]] == ["number", "date"]
    page.get_by_role("group", name="Filter group 2").get_by_label("Operator").last.select_option(label="on or after")
    showing(page, 1, min(25, newest["matching"]), newest["matching"])
    page.get_by_role("group", name="Filter group 1").get_by_role("button", name="Remove filter").first.click()
    page.get_by_role("button", name="Remove group").last.click()
    showing(page, 1, 25, 200)


def test_sorting_and_pages(page: Page, sample_ui: LocalUi) -> None:
    page.goto(f"{sample_ui.url}/table")
    settle(page)
    head = table(page).get_by_role("columnheader", name="Score")
    head.get_by_role("button").click()
    expect(head).to_have_attribute("aria-sort", "descending")
    best = sample_ui.get("/api/rows", sortField=FIELD["score"], sortDirection="desc")["rows"][0]["score"]
    expect(table(page).locator("tbody tr").first).to_contain_text(f"{best:.3f}")
    head.get_by_role("button").click()
    expect(head).to_have_attribute("aria-sort", "ascending")
    page.get_by_label("Page size").select_option("100")
    showing(page, 1, 100, 1000)
    page.get_by_role("button", name="Next").click()
    showing(page, 101, 200, 1000)
    page.get_by_role("button", name="Last page").click()
    showing(page, 901, 1000, 1000)
    expect(page.get_by_role("button", name="Next")).to_be_disabled()
    page.reload()
    showing(page, 901, 1000, 1000)
    expect(head).to_have_attribute("aria-sort", "ascending")
    page.go_back()
    showing(page, 101, 200, 1000)
    # 1,000 rows in one page: only those in sight are in the page.
    page.get_by_label("Page size").select_option("1000")
    showing(page, 1, 1000, 1000)
    assert table(page).locator("tbody tr").count() < 120


def test_an_opened_row_shows_everything(page: Page, sample_ui: LocalUi) -> None:
    page.goto(sample_ui.url + address("table", {"filterConfig": [group(equals(FIELD["name"], "test_weather_tools"))]}))
    settle(page)
    row = table(page).locator("tbody tr").filter(has_text="tiny-svg-v1").filter(has_text="finished").nth(2)
    row.press("Enter")
    talk = page.get_by_role("log", name="Conversation")
    expect(talk).to_contain_text("Do I need an umbrella in")
    talk.get_by_role("button", name="Reasoning").click()
    expect(talk).to_contain_text("I should look it up.")
    expect(talk).to_contain_text("get_weather")
    expect(talk).to_contain_text("rain_mm")
    side = page.get_by_label(re.compile("^Scores and status of rollout"))
    expect(side).to_contain_text("called the tool")
    expect(side).to_contain_text("requirements are met")
    page.get_by_role("tab", name="Logs").click()
    expect(page.get_by_text("Nothing was logged while this rollout ran")).to_be_visible()
    page.get_by_role("tab", name="Metadata").click()
    expect(page.get_by_role("tabpanel").or_(table(page))).to_contain_text("rollout_duration_seconds")
    page.get_by_role("tab", name="JSON").click()
    expect(table(page)).to_contain_text("evaluation_result")
    row.press("Enter")
    expect(talk).to_have_count(0)
    # An id filters from inside the opened row, too.
    row.press("Enter")
    side.get_by_role("button", name=re.compile("^Show only run ")).click()
    showing(page, 1, 25, 25)


def test_drawings_are_drawn_and_all_rows_open_at_once(page: Page, sample_ui: LocalUi) -> None:
    state = {
        "filterConfig": [group(equals(FIELD["invocation"], "sample-0-0000"))],
        "paginationConfig.currentPage": 2,
    }
    page.goto(sample_ui.url + address("table", state))
    settle(page)
    page.get_by_role("button", name="Expand all").click()
    expect(page.get_by_role("log", name="Conversation")).to_have_count(25)
    drawings = page.get_by_role("img", name="Drawing")
    expect(drawings.first).to_be_visible()
    page.wait_for_function(
        "() => [...document.querySelectorAll('img[alt=Drawing]')].filter((one) => one.complete && one.naturalWidth > 0).length > 15"
    )
    assert all(
        source.startswith("data:image/svg+xml") for source in drawings.evaluate_all("all => all.map((one) => one.src)")
    )
    page.get_by_role("button", name="Open large").first.click()
    expect(page.get_by_role("dialog", name="Drawing")).to_be_visible()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Collapse all").click()
    expect(page.get_by_role("log", name="Conversation")).to_have_count(0)


def test_exports_hold_what_the_filter_lets_through(page: Page, sample_ui: LocalUi) -> None:
    wanted = [group(equals(FIELD["name"], "test_math"))]
    page.goto(sample_ui.url + address("table", {"filterConfig": wanted}))
    settle(page)
    listed = sample_ui.get("/api/rows", filterConfig=json.dumps(wanted), pageSize="1000")["rows"]
    scores = {row["rolloutId"]: row["score"] for row in listed}
    with page.expect_download() as started:
        page.get_by_role("link", name="Export JSONL").click()
    whole = [json.loads(line) for line in started.value.path().read_text().splitlines()]
    got = {row["execution_metadata"]["rollout_id"]: (row.get("evaluation_result") or {}).get("score") for row in whole}
    assert got == scores
    assert all(row["messages"] for row in whole)
    with page.expect_download() as started:
        page.get_by_role("link", name="Export CSV").click()
    assert started.value.suggested_filename == "rollouts.csv"
    lines = list(csv.DictReader(io.StringIO(started.value.path().read_text())))
    assert {line["rollout_id"]: float(line["score"]) if line["score"] else None for line in lines} == scores
    assert {line["name"] for line in lines} == {"test_math"}


def test_hostile_rows_are_text(page: Page, sample_ui: LocalUi) -> None:
    """Each hostile row of the samples opened in every view; the page's own watch is in the fixture."""
    hostile = {"field": "$.evaluation_result.reason", "operator": "contains", "value": "onerror", "type": "text"}
    page.goto(sample_ui.url + address("table", {"filterConfig": [group(hostile)]}))
    settle(page)
    page.get_by_role("button", name="Expand all").click()
    talks = page.get_by_role("log", name="Conversation")
    expect(talks.nth(20)).to_be_attached()
    expect(talks.first).to_contain_text("<script>window.__ran = 1</script>")
    assert (
        page.locator("main script, main iframe, main object, main embed, main svg [onload], main [onerror]").count()
        == 0
    )
    assert page.locator("a[href^='javascript:']").count() == 0
    assert all(
        source.startswith(("data:image/", sample_ui.url))
        for source in page.locator("img").evaluate_all("all => all.map((one) => one.src)")
    )
    for tab in ("Metadata", "JSON"):
        page.get_by_role("tab", name=tab).first.click()


def test_another_name_for_this_machine_is_refused(sample_ui: LocalUi) -> None:
    """A page elsewhere may have its name resolve to this machine; the store stays closed to it."""
    for path in ("/api/rows", "/table"):
        connection = http.client.HTTPConnection("127.0.0.1", int(urlsplit(sample_ui.url).port or 0), timeout=10)
        connection.request("GET", path, headers={"Host": "evil.example"})
        answer = connection.getresponse()
        assert answer.status == 403
        assert "this machine only" in json.loads(answer.read())["error"]["message"]
        connection.close()
