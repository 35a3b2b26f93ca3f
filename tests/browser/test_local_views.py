"""Pivot and comparison of `ep logs`: what they show is what their routes answer, and it leads on to the rollouts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.browser import expected, observe, settle
from tests.browser.local import FIELD, LocalUi, address

pytestmark = pytest.mark.browser

OLD, NEW = "sample-0-0000", "sample-0-0004"


@pytest.fixture
def page(browser: Browser, sample_ui: LocalUi) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    seen = observe(page, sample_ui.url)
    yield page
    assert not expected(seen)
    context.close()


def test_pivot_pass_at_k_and_a_click_through_to_the_rollouts(page: Page, sample_ui: LocalUi) -> None:
    page.goto(f"{sample_ui.url}/pivot")
    settle(page)
    fields = page.get_by_role("list", name=re.compile("^Fields of"))
    expect(fields.nth(0)).to_contain_text(FIELD["name"])
    expect(fields.nth(1)).to_contain_text(FIELD["model"])
    expect(page.get_by_label("Aggregator")).to_have_value("avg")
    # These rollouts belong to no experiment that has ended: the page says so and offers what there is.
    page.get_by_role("button", name="Use each rollout's own score").click()
    expect(page.get_by_role("table", name=f"Average of {FIELD['score']}")).to_be_visible()
    page.get_by_label("Aggregator").select_option("pass@k")
    page.get_by_label("k", exact=True).fill("2")
    page.get_by_label("Passes from").fill("0.8")
    page.get_by_label("Passes from").press("Enter")
    pivot = page.get_by_role("table", name=f"pass@2 of {FIELD['score']}")
    answer = sample_ui.get(
        "/api/pivot",
        **{"rows": json.dumps([FIELD["name"]]), "columns": json.dumps([FIELD["model"]]), "value": FIELD["score"]},
        aggregator="pass@k",
        k="2",
        threshold="0.8",
    )
    row, column = answer["rows"].index(["test_math"]), answer["columns"].index(["gpt-4.1"])
    figure = f"{answer['cells'][row][column]['value'] * 100:.1f}%"
    cell = pivot.get_by_role("button", name=re.compile(r"^test_math, gpt-4.1: "))
    expect(cell).to_have_text(figure)
    total = pivot.get_by_role("button", name=re.compile("^Everything: "))
    expect(total).to_have_text(f"{answer['grandTotal']['value'] * 100:.1f}%")
    expect(page.get_by_role("img", name=re.compile("^Bars: pass@2"))).to_contain_text(figure)
    page.reload()
    expect(cell).to_have_text(figure)
    cell.click()
    expect(page).to_have_url(re.compile("/table"))
    expect(page.get_by_text(re.compile("^Showing 1-25 of 100 rows"))).to_be_visible()
    page.go_back()
    expect(cell).to_have_text(figure)
    page.get_by_role("button", name="Back to the usual pivot").click()
    expect(page.get_by_label("Aggregator")).to_have_value("avg")
    assert not urlsplit(page.url).query


def test_two_invocations_side_by_side(page: Page, sample_ui: LocalUi) -> None:
    page.goto(f"{sample_ui.url}/compare")
    settle(page)
    page.get_by_role("button", name="Compare the newest with the one before").click()
    state = parse_qs(urlsplit(page.url).query)
    assert [json.loads(state[f"compareConfig.{side}"][0]) for side in ("left", "right")] == [OLD, NEW]
    answer = sample_ui.get("/api/compare", by="invocation", left=OLD, right=NEW, pageSize="200")
    summary = answer["summary"]
    shown = page.get_by_role("region", name="Summary")
    expect(shown).to_contain_text(
        "The right side is better" if summary["difference"] > 0 else "The right side is worse"
    )
    for figure in (summary["meanLeft"], summary["meanRight"], abs(summary["difference"])):
        expect(shown).to_contain_text(f"{figure:.3f}")
    expect(shown).to_contain_text("p < 0.001" if summary["p"] < 0.001 else f"p = {summary['p']:.3f}")
    pairs = page.get_by_role("table", name="Rows compared").locator("tbody tr")
    expect(pairs).to_have_count(summary["n"])
    for tab, count in (("Wins", "wins"), ("Losses", "losses")):
        page.get_by_role("tab", name=re.compile(f"^{tab}")).click()
        expect(pairs).to_have_count(summary[count])
    page.go_back()
    page.goto(sample_ui.url + address("compare", {"compareConfig": {"left": OLD, "right": NEW}}))
    expect(pairs.first).to_contain_text(answer["pairs"][0]["rowId"][:10])
    pairs.first.click()
    drawer = page.get_by_role("dialog")
    for name, side in (("Left side", "left"), ("Right side", "right")):
        expect(drawer.get_by_role("region", name=name)).to_contain_text(f"{answer['pairs'][0][side]:.3f}")
        expect(drawer.get_by_role("region", name=name).get_by_role("log", name="Conversation")).to_be_visible()
    runs = drawer.get_by_label("Run on the left side")
    runs.select_option(index=3)
    expect(runs).to_have_value(answer["pairs"][0]["leftIds"][3])
    page.keyboard.press("Escape")
    expect(drawer).to_have_count(0)
    page.get_by_role("button", name="Swap sides").click()
    expect(shown).to_contain_text(
        "The right side is worse" if summary["difference"] > 0 else "The right side is better"
    )


def test_two_models_side_by_side(page: Page, sample_ui: LocalUi) -> None:
    page.goto(f"{sample_ui.url}/compare")
    settle(page)
    page.get_by_label("Compare two").select_option("model")
    left, right = "gpt-4.1", "fireworks_ai/accounts/fireworks/models/gpt-oss-120b"
    page.get_by_label("Left").select_option(left)
    page.get_by_label("Right").select_option(right)
    answer = sample_ui.get("/api/compare", by="model", left=left, right=right)
    expect(page.get_by_role("region", name="Summary")).to_contain_text(f"of {answer['summary']['n']}")
    page.get_by_label("Right").select_option(left)
    expect(page.get_by_text("This is the same model as on the left.")).to_be_visible()
