"""Signing in and out, looking without a key, one-time links, and links that clients print."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser.browser import NAMED, expected, observe, settle
from tests.browser.world import World

pytestmark = pytest.mark.browser


@pytest.fixture
def fresh(browser: Browser) -> Iterator[BrowserContext]:
    """A browser that nobody used before."""
    context = browser.new_context()
    yield context
    context.close()


def elsewhere(world: World) -> str:
    """The platform under a name of another machine: looking without a key is not for it."""
    return f"http://{NAMED}:{world.platform.port}"


def sign_in(page: Page, key: str) -> None:
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Sign in").click()


def test_a_link_that_a_client_printed_leads_to_its_page_after_signing_in(fresh: BrowserContext, world: World) -> None:
    page = fresh.new_page()
    seen = observe(page, elsewhere(world))
    page.goto(f"{elsewhere(world)}/dashboard/fine-tuning/reinforcement/{world.rft}?tab=options")
    expect(page.get_by_role("heading", name="Sign in to Tunesmith")).to_be_visible()
    assert seen.console == [], "that nobody is signed in yet is no error"

    sign_in(page, "ts_0123456789ab_not-a-key")
    error = page.locator("form")
    expect(error).to_contain_text("key")
    expect(page.get_by_label("API key")).to_have_attribute("aria-invalid", "true")

    sign_in(page, world.platform.key)
    expect(page.get_by_role("heading", level=1, name=world.rft)).to_be_visible()
    expect(page.get_by_role("tab", name="Options")).to_have_attribute("aria-selected", "true")
    assert page.url.endswith(f"{world.rft}?tab=options")

    cookie = next(one for one in fresh.cookies() if one.get("name") == "tunesmith_session")
    assert (cookie.get("httpOnly"), cookie.get("sameSite"), cookie.get("path")) == (True, "Strict", "/")
    assert world.platform.key not in json.dumps(fresh.storage_state()), "the key itself is kept nowhere"
    assert page.evaluate("() => document.cookie + JSON.stringify({...localStorage, ...sessionStorage})").find("ts_") < 0

    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("API key")).to_be_visible()
    page.reload()
    expect(page.get_by_label("API key")).to_be_visible()
    assert not expected(seen)


def test_whoever_looks_from_this_machine_sees_everything_and_changes_nothing(
    fresh: BrowserContext, world: World
) -> None:
    page = fresh.new_page()
    page.goto(f"{world.platform.url}/dashboard/fine-tuning/reinforcement/{world.failed}")
    expect(page.get_by_text("viewer")).to_be_visible()
    for name in ("Resume", "Delete"):
        button = page.get_by_role("button", name=name)
        expect(button).to_be_disabled()
        expect(button).to_have_attribute("title", re.compile("sign in", re.IGNORECASE))

    answer = page.evaluate(
        "async path => { const a = await fetch(path, {method: 'DELETE', headers: {'x-tunesmith': '1'}}); return [a.status, await a.text()]; }",
        f"/v1/accounts/local/reinforcementFineTuningJobs/{world.failed}",
    )
    assert answer[0] == 403, answer
    assert "Sign in with a key" in answer[1], answer

    page.goto(f"{world.platform.url}/dashboard/fine-tuning/create?kind=rft&from={world.rft}")
    expect(page.get_by_role("button", name="Start the job")).to_be_disabled()
    page.goto(f"{world.platform.url}/dashboard/secrets")
    settle(page)
    expect(page.get_by_text("do-not-show-me")).to_have_count(0)

    page.get_by_role("link", name="Sign in to change things").click()
    sign_in(page, world.platform.key)
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    expect(page.get_by_text("admin")).to_be_visible()


def test_a_link_of_the_command_line_signs_in_once(browser: Browser, fresh: BrowserContext, world: World) -> None:
    link = world.platform.request("POST", "/dashboard/links", {})["url"].replace("127.0.0.1", NAMED)
    page = fresh.new_page()
    page.goto(link)
    page.wait_for_url("**/dashboard")
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    assert "link=" not in page.url

    other = browser.new_context()
    page = other.new_page()
    page.goto(link)
    expect(page.locator("form")).to_contain_text("link")
    expect(page.get_by_label("API key")).to_be_visible()
    other.close()
