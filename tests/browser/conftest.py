"""One platform with something of everything, one `ep logs`, one browser."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext

from scripts.sample_results import fill
from tests.browser.browser import chromium
from tests.browser.local import LocalUi, ep_logs
from tests.browser.world import World, make
from tests.loop.platform import Platform


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    with tempfile.TemporaryDirectory(prefix="ts") as home, Platform(Path(home) / "h") as platform:
        folder = Path(home) / "w"
        folder.mkdir()
        yield make(platform, folder)


@pytest.fixture(scope="session")
def sample_ui() -> Iterator[LocalUi]:
    """`ep logs` over 1,000 made-up rollouts of five invocations, hostile ones among them."""
    with tempfile.TemporaryDirectory(prefix="ts") as home:
        fill(Path(home) / "results.db", 1000)
        with ep_logs(Path(home)) as running:
            yield running


@pytest.fixture(scope="session")
def signed_in(browser: Browser, world: World) -> Iterator[BrowserContext]:
    """A context of an admin, signed in by the page itself."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{world.platform.url}/dashboard/sign-in")
    page.get_by_label("API key").fill(world.platform.key)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/dashboard")
    page.close()
    yield context
    context.close()
