"""Every page of the dashboard, wide and narrow, light and dark: no error, nothing serious for axe, no sideways scrolling, a picture."""

from __future__ import annotations

from typing import Literal

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from tests.browser.browser import THEMES, WIDTHS, expected, observe, overflow, picture, settle, violations
from tests.browser.world import World

pytestmark = pytest.mark.browser

EXPECTED = {"missing": [r"404"]}


@pytest.mark.parametrize("width", list(WIDTHS))
def test_every_page(browser: Browser, signed_in: BrowserContext, world: World, width: str) -> None:
    wide, high = WIDTHS[width]
    context = browser.new_context(
        storage_state=signed_in.storage_state(), viewport={"width": wide, "height": high}, color_scheme=THEMES[0]
    )
    wrong: dict[str, list[str]] = {}
    for name, path in world.pages.items():
        page = context.new_page()
        seen = observe(page, world.platform.url)
        found: list[str] = []
        try:
            page.goto(world.platform.url + path)
            settle(page)
            for theme in THEMES:
                found += looks(page, theme)
                picture(page, f"{name}-{width}-{theme}")
        except Exception as error:  # noqa: BLE001 - every page is looked at, then all that is wrong is told at once
            found.append(f"it did not load: {error}")
        found += expected(seen, *EXPECTED.get(name, []))
        page.close()
        if found:
            wrong[name] = found
    context.close()
    assert not wrong, "\n".join(f"{name}: {line}" for name, lines in wrong.items() for line in lines)


def looks(page: Page, theme: Literal["light", "dark"]) -> list[str]:
    """What is wrong with an open page in a theme that the system has just changed to."""
    page.emulate_media(color_scheme=theme)
    page.wait_for_function("theme => document.documentElement.dataset.theme === theme", arg=theme)
    page.evaluate(
        "() => Promise.allSettled(document.getAnimations().filter(a => a instanceof CSSTransition).map(a => a.finished))"
    )
    found = [f"{line} ({theme})" for line in violations(page)]
    if over := overflow(page):
        found.append(f"the page is {over} px wider than the window")
    if (headings := page.locator("h1").count()) != 1:
        found.append(f"it has {headings} h1 headings")
    return found
