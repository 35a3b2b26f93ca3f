"""From signing in to a rollout's details and back, with the keyboard alone."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.browser import NAMED, settle
from tests.browser.world import World

pytestmark = pytest.mark.browser

FOCUSED = """() => {
    const at = document.activeElement;
    return at ? `${at.tagName} ${at.getAttribute('role') ?? ''} ${at.getAttribute('aria-label') ?? at.innerText ?? ''}` : '';
}"""


def reach(page: Page, what: str, key: str = "Tab", most: int = 80) -> None:
    """Press a key until the focus is on what is described: tag, role, then name."""
    passed = []
    for _ in range(most):
        page.keyboard.press(key)
        now = " ".join(page.evaluate(FOCUSED).split())
        if what in now:
            outline = page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle")
            assert outline != "none", f"{now!r} does not show that it has the focus"
            return
        passed.append(now[:60])
    raise AssertionError(f"{what!r} is not reached with {key}; the focus was on {passed}")


def test_to_a_rollout_and_back(browser: Browser, world: World) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"http://{NAMED}:{world.platform.port}/dashboard")
    expect(page.get_by_label("API key")).to_be_visible()
    reach(page, "INPUT")
    page.keyboard.type(world.platform.key)
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()

    reach(page, "A Fine-tuning")
    page.keyboard.press("Enter")
    expect(page.get_by_role("table", name="Jobs")).to_be_visible()
    settle(page)
    reach(page, f"A {world.rft}")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1, name=world.rft)).to_be_visible()

    reach(page, "BUTTON tab Summary")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="Epoch 0")).to_have_attribute("aria-selected", "true")
    expect(page.get_by_role("table", name="Rollouts").locator("tr[tabindex]").first).to_be_visible()
    reach(page, "TR")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    details = page.get_by_role("dialog")
    expect(details.get_by_label("Conversation")).to_be_visible()
    first = page.url
    page.keyboard.press("ArrowRight")
    expect(page).not_to_have_url(first)
    expect(details.get_by_label("Conversation")).to_be_visible()
    reach(page, "BUTTON tab Conversation")
    page.keyboard.press("ArrowRight")
    expect(details.get_by_role("tab", name="Tokens")).to_have_attribute("aria-selected", "true")

    page.keyboard.press("Escape")
    expect(details).to_have_count(0)
    assert page.evaluate("() => document.activeElement.tagName") == "TR", "the focus is where it was"
    reach(page, "A Fine-tuning", "Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("table", name="Jobs")).to_be_visible()
    context.close()
