"""A reinforcement job that runs while it is watched: its page moves by itself, loses nothing, and is ended from there.

The prompts, scores, reasons and logs of the job are hostile; see test_dashboard_safety for what must not come of that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import psutil
import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.browser import expected, observe, settle
from tests.browser.world import HOSTILE, ROOT, World, live_rft

pytestmark = pytest.mark.browser
JOBS = f"{ROOT}/reinforcementFineTuningJobs"
SLOW = 60_000
"""Milliseconds for what waits for a step of training on a busy machine."""
STEP_NOW = "() => Number((document.body.innerText.match(/Step (\\d+) of/) || [])[1] || 0)"


@pytest.fixture(scope="module")
def live(world: World) -> str:
    """Id of a job that goes on until somebody cancels it."""
    return live_rft(world)


@pytest.fixture
def page(signed_in: BrowserContext) -> Iterator[Page]:
    page = signed_in.new_page()
    page.set_default_timeout(SLOW)
    yield page
    page.close()


def path(world: World, job: str, query: str = "") -> str:
    return f"{world.platform.url}/dashboard/fine-tuning/reinforcement/{job}{query}"


def steps_on(page: Page, more_than: int) -> int:
    """Wait until the page itself tells of a later step."""
    page.wait_for_function(f"least => ({STEP_NOW})() > least", arg=more_than, timeout=SLOW)
    return page.evaluate(STEP_NOW)


def lives(page: Page) -> None:
    expect(page.get_by_role("status").filter(has_text=re.compile("^live$"))).to_be_attached(timeout=SLOW)


def test_tiles_and_curve_move_without_a_reload(page: Page, world: World, live: str) -> None:
    seen = observe(page, world.platform.url)
    page.goto(path(world, live))
    settle(page)
    page.evaluate("() => { window.__same = true; }")
    first = steps_on(page, 0)
    curve = page.locator('figure[aria-label="Reward"] [role="img"]').first
    expect(curve).to_be_visible(timeout=SLOW)
    before = curve.get_attribute("aria-label")
    assert before
    steps_on(page, first)
    expect(curve).not_to_have_attribute("aria-label", before, timeout=SLOW)
    assert page.evaluate("() => window.__same"), "nobody reloaded the page"
    assert not expected(seen)


def test_a_lost_connection_and_a_killed_server_lose_nothing(page: Page, world: World, live: str) -> None:
    page.goto(path(world, live, "?view=table"))
    settle(page)
    lives(page)
    page.evaluate("() => { window.__same = true; }")
    at = steps_on(page, 0)

    page.context.set_offline(True)
    web = next(
        child
        for child in psutil.Process(world.platform.process.pid if world.platform.process else 0).children(True)
        if "tunesmith.server" in " ".join(child.cmdline())
    )
    web.kill()  # the supervisor starts another
    expect(page.get_by_text("connection lost, trying again")).to_be_attached(timeout=SLOW)
    page.context.set_offline(False)
    lives(page)
    at = steps_on(page, at + 1)
    assert page.evaluate("() => window.__same"), "it went on by itself"

    shown = page.get_by_role("table", name="Steps").locator("tbody tr")
    expect(shown.nth(at - 2)).to_be_attached(timeout=SLOW)
    numbers = [int(text) for text in shown.locator("td:first-child").all_inner_texts()]
    metrics = world.platform.get(f"/v1/accounts/local/reinforcementFineTuningJobs/{live}/metrics")
    # A chunk of which nothing can be learned takes no step: the next one has its number.
    told = [event["step"] for event in metrics["events"] if event["kind"] == "chunk"]
    assert sorted(numbers) == told[: len(numbers)], "every chunk is there, once"

    page.get_by_role("tab", name="Epoch 0").click()
    page.get_by_label("Lowest score").fill("0.1")
    expect(page).to_have_url(re.compile(r"min=0\.1"))
    page.reload()
    expect(page.get_by_role("tab", name="Epoch 0")).to_have_attribute("aria-selected", "true")
    expect(page.get_by_label("Lowest score")).to_have_value("0.1")


def test_logs_follow_and_can_be_searched(page: Page, world: World, live: str) -> None:
    page.goto(path(world, live, "?tab=logs"))
    lines = page.get_by_role("log")
    expect(lines.get_by_text("<script>window.__hacked = 1</script>").first).to_be_attached(timeout=SLOW)
    read = page.get_by_text(re.compile(r"^[\d,]+ lines?, "))
    before = read.inner_text()
    expect(read).not_to_have_text(before, timeout=SLOW)

    page.get_by_label("Search in the log").fill("onerror")
    expect(page.get_by_text(re.compile(r"^1 of \d"))).to_be_visible()
    page.get_by_role("button", name="Next match").click()
    expect(page.get_by_text(re.compile(r"^2 of \d"))).to_be_visible()
    expect(lines.locator("mark").first).to_have_text("onerror")
    latest = page.get_by_role("button", name="Jump to latest")
    expect(latest).to_be_enabled()
    latest.click()
    expect(latest).to_be_disabled()

    page.get_by_label("Level").select_option("ERROR")
    expect(lines.get_by_text("INFO", exact=True)).to_have_count(0)
    page.get_by_label("Level").select_option("DEBUG")
    page.get_by_role("button", name="Full screen").click()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Full screen")).to_be_visible()


def test_cancel_asks_first_and_a_cancelled_job_cannot_be_resumed(page: Page, world: World, live: str) -> None:
    page.goto(path(world, live))
    steps_on(page, 15)  # every row was rolled out once
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_role("button", name="Keep it").click()
    assert world.platform.get(f"{JOBS}/{live}")["state"] == "JOB_STATE_RUNNING"
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_role("button", name="Cancel the job").click()
    expect(page.get_by_text("cancelled", exact=True).first).to_be_visible(timeout=SLOW)
    expect(page.get_by_role("button", name="Delete")).to_be_visible(timeout=SLOW)
    expect(page.get_by_role("button", name="Resume")).to_have_count(0)
    expect(page.get_by_role("button", name="Clone").or_(page.get_by_role("link", name="Clone"))).to_be_visible()
    assert world.platform.get(f"{JOBS}/{live}")["state"] == "JOB_STATE_CANCELLED"


def test_a_failed_job_is_resumed(page: Page, world: World) -> None:
    page.goto(path(world, world.failed))
    expect(page.get_by_role("alert").first).to_be_visible()
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_text("goes on where it ended")).to_be_visible()
    expect(page.get_by_role("button", name="Cancel", exact=True)).to_be_visible(timeout=SLOW)
    # Its evaluator still raises, so it fails again, and says so without a reload.
    expect(page.get_by_role("button", name="Resume")).to_be_visible(timeout=SLOW)
    expect(page.get_by_role("alert").first).to_be_visible()


def test_a_clone_has_what_was_changed_in_the_form(page: Page, world: World) -> None:
    page.goto(path(world, world.rft))
    expect(page.get_by_role("button", name="Resume")).to_have_count(0)
    page.get_by_role("link", name="Clone").click()
    page.get_by_role("textbox", name="Learning rate").fill("0.0005")
    page.get_by_label("Job id").fill("cloned-job")
    page.get_by_label("Display name").fill(HOSTILE[1])
    expect(page.get_by_text("Changed: learning rate.")).to_be_visible()
    expect(page.get_by_text("Rollouts", exact=True).last).to_be_visible()
    page.get_by_role("button", name="Start the job").click()
    page.wait_for_url("**/reinforcement/cloned-job*")
    expect(page.get_by_role("heading", level=1, name=HOSTILE[1])).to_be_visible()
    job = world.platform.get(f"{JOBS}/cloned-job")
    of = world.platform.get(f"{JOBS}/{world.rft}")
    assert job["trainingConfig"]["learningRate"] == 0.0005
    assert job["trainingConfig"]["epochs"] == of["trainingConfig"]["epochs"]
    assert (job["dataset"], job["evaluator"]) == (of["dataset"], of["evaluator"])
    world.platform.request("POST", f"{JOBS}/cloned-job:cancel", {})
