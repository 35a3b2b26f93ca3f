"""Every page of `ep logs`, wide and narrow, light and dark: no error, nothing serious for axe, no sideways scrolling, a picture."""

from __future__ import annotations

from typing import Literal

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.browser import THEMES, WIDTHS, expected, observe, overflow, picture, settle, violations
from tests.browser.local import FIELD, LocalUi, address, equals, group

pytestmark = pytest.mark.browser

DRAWINGS = [group(equals(FIELD["name"], "test_svg_generation_evaluation"))]
NOBODY = [group(equals(FIELD["name"], "nobody"))]
FORM = [
    group(equals(FIELD["name"], "test_math"), equals(FIELD["name"], "test_vision"), logic="OR"),
    group(
        {"field": FIELD["score"], "operator": "between", "value": "0.2", "value2": "0.9", "type": "number"},
        {"field": "$.created_at", "operator": ">=", "value": "2020-01-01", "type": "date"},
    ),
]
PASSED = {
    "pivotConfig.selectedAggregator": "pass@k",
    "pivotConfig.k": 2,
    "pivotConfig.threshold": 0.8,
    "pivotConfig.selectedValueField": FIELD["score"],
}
PAGES = {
    "table": "/table",
    "table-filtered": address("table", {"filterConfig": FORM}),
    "table-nothing": address("table", {"filterConfig": NOBODY}),
    "table-open": address("table", {"filterConfig": DRAWINGS}),
    "pivot": "/pivot",
    "pivot-pass-at-k": address("pivot", PASSED),
    "compare-nothing": "/compare",
    "compare": address("compare", {"compareConfig.left": "sample-0-0000", "compareConfig.right": "sample-0-0004"}),
}


def open_first(page: Page) -> None:
    """Open the first row: conversation and scores are there."""
    page.get_by_role("button", name="Open row").first.click()
    page.get_by_role("log", name="Conversation").wait_for()


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", list(WIDTHS))
def test_every_page_of_the_local_ui(
    browser: Browser, sample_ui: LocalUi, width: str, theme: Literal["light", "dark"]
) -> None:
    wide, high = WIDTHS[width]
    context = browser.new_context(viewport={"width": wide, "height": high}, color_scheme=theme)
    wrong: dict[str, list[str]] = {}
    for name, path in PAGES.items():
        page = context.new_page()
        seen = observe(page, sample_ui.url)
        try:
            page.goto(sample_ui.url + path)
            settle(page)
            if name == "table-open":
                open_first(page)
            found = expected(seen)
            found += violations(page)
            if over := overflow(page):
                found.append(f"the page is {over} px wider than the window")
            if page.locator("h1").count() != 1:
                found.append(f"it has {page.locator('h1').count()} h1 headings")
            if page.evaluate("document.documentElement.dataset.theme") != theme:
                found.append("it does not follow the system's theme")
        except Exception as error:  # noqa: BLE001 - every page is looked at, then all that is wrong is told at once
            found = [f"it did not load: {error}"]
        picture(page, f"local-{name}-{width}-{theme}")
        page.close()
        if found:
            wrong[name] = found
    context.close()
    assert not wrong, "\n".join(f"{name}: {line}" for name, lines in wrong.items() for line in lines)
