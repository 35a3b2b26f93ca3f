"""What a finished job is looked at with: its rollouts one by one, audit, comparison, exports, and the run in one file."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser.browser import expected, observe, overflow, picture, settle
from tests.browser.world import ROOT, World

pytestmark = pytest.mark.browser
JOBS = f"{ROOT}/reinforcementFineTuningJobs"


@pytest.fixture
def page(signed_in: BrowserContext, world: World) -> Iterator[Page]:
    page = signed_in.new_page()
    seen = observe(page, world.platform.url)
    yield page
    page.close()
    assert not expected(seen)


def job_path(world: World, query: str = "") -> str:
    return f"{world.platform.url}/dashboard/fine-tuning/reinforcement/{world.rft}{query}"


def scores(page: Page) -> list[float]:
    """The total scores of the rollout table, from the top."""
    table = page.get_by_role("table", name="Rollouts")
    headers = [text.strip() for text in table.locator("thead th").all_inner_texts()]
    cells = table.locator(f"tbody tr td:nth-child({headers.index('Total score') + 1})").all_inner_texts()
    return [float(text) for text in cells]


def test_rollouts_are_sorted_filtered_and_paged_by_the_server(page: Page, world: World) -> None:
    page.goto(job_path(world))
    page.get_by_role("tab", name="Epoch 0").click()
    page.get_by_role("button", name=re.compile(r"^Step 1")).click()
    table = page.get_by_role("table", name="Rollouts")
    stored = world.platform.get(f"{JOBS}/{world.rft}/rollouts?kind=train&step=1&view=SUMMARY&pageSize=100")["rollouts"]
    expect(table.locator("tr[tabindex]")).to_have_count(len(stored))

    table.get_by_role("button", name="Total score").click()
    expect(table.locator("th[aria-sort]")).to_have_attribute("aria-sort", "descending")
    settle(page)
    ordered = [round(float(one["score"]), 3) for one in stored]
    expect(page.get_by_role("table", name="Rollouts")).not_to_have_attribute("aria-busy", "true")
    assert [round(one, 2) for one in scores(page)] == [round(one, 2) for one in sorted(ordered, reverse=True)]

    bound = sorted(one["score"] for one in stored)[len(stored) // 2]
    wanted = [one for one in stored if one["score"] >= bound]
    page.get_by_label("Lowest score").fill(str(bound))
    expect(table.locator("tr[tabindex]")).to_have_count(len(wanted))
    page.get_by_label("Text in reason, prompt or answer").fill("no rollout says this")
    expect(page.get_by_text("No rollout passes the filter")).to_be_visible()
    page.get_by_role("button", name="Clear the filter").click()
    expect(table.locator("tr[tabindex]")).to_have_count(len(stored))
    page.get_by_label("Valid", exact=True).select_option("false")
    expect(page.get_by_text("No rollout passes the filter")).to_be_visible()


def test_a_rollout_in_full_and_the_same_row_before_and_after(page: Page, world: World) -> None:
    page.goto(job_path(world, "?tab=epoch&epoch=1"))
    page.get_by_role("table", name="Rollouts").locator("tr[tabindex]").first.click()  # not a bar of a loading row
    details = page.get_by_role("dialog")
    expect(details).to_be_visible()
    rollout = re.search(r"rollout=([^&]+)", page.url)
    assert rollout, "the open rollout stands in the URL"
    stored = world.platform.get(f"{JOBS}/{world.rft}/rollouts/{rollout[1]}")
    expect(details.get_by_label("Conversation")).to_contain_text("apples")
    expect(details).to_contain_text("scored")
    shown = Decimal(stored["score"]).quantize(Decimal("0.001"), ROUND_HALF_UP)
    expect(details).to_contain_text(f"{shown}Total")

    details.get_by_role("tab", name="Tokens").click()
    tokens = details.get_by_role("application").first
    count = sum(len(turn["tokens"]) for turn in stored["turns"])
    expect(tokens.locator("[data-token]")).to_have_count(count)
    tokens.focus()
    page.keyboard.press("End")
    expect(details.get_by_text("log-probability")).to_be_visible()
    if stored["advantage"] is not None:
        details.get_by_role("button", name="Advantage", exact=True).click()
        expect(details.get_by_text("made likelier")).to_be_visible()

    expect(details.get_by_text("Its group")).to_be_visible()
    history = details.locator("section", has_text="The same row, before and after")
    expect(history.get_by_role("button")).to_have_count(len(stored["history"]))
    picture(page, "rollout-wide-light")
    history.get_by_role("button").first.click()
    expect(page).not_to_have_url(re.compile(re.escape(rollout[1])))
    page.go_back()
    expect(page).to_have_url(re.compile(re.escape(rollout[1])))
    page.set_viewport_size({"width": 390, "height": 844})
    picture(page, "rollout-narrow-light")
    assert overflow(page) == 0
    page.keyboard.press("Escape")
    expect(details).to_have_count(0)


def test_a_query_that_means_nothing_shows_the_page(page: Page, world: World) -> None:
    page.goto(job_path(world, "?tab=nothing&epoch=x&min=low&sort=&page=-1"))
    expect(page.get_by_role("tab", name="Summary")).to_have_attribute("aria-selected", "true")
    expect(page.get_by_label("Reward", exact=True).first).to_be_visible()


def test_audit_and_options_tell_what_the_api_tells(page: Page, world: World) -> None:
    audit = world.platform.get(f"{JOBS}/{world.rft}/audit")
    page.goto(job_path(world, "?tab=audit"))
    for finding in audit["findings"]:
        expect(page.get_by_text(finding["title"])).to_be_visible()
    expect(page.get_by_text(f"Read from {audit['rollouts']} scored rollouts")).to_be_visible()
    page.set_viewport_size({"width": 390, "height": 844})
    for name in ("Best-scored rollouts", "One answer to several rows"):
        assert hidden_sideways(page, name) == 0, name
    page.set_viewport_size({"width": 1280, "height": 844})
    page.get_by_role("table", name="Best-scored rollouts").locator("tr[tabindex]").first.click()
    expect(page.get_by_role("dialog")).to_be_visible()
    page.get_by_role("button", name="Close").click()
    page.get_by_role("tab", name="Options").click()
    job = world.platform.get(f"{JOBS}/{world.rft}")
    expect(page.get_by_role("link", name=job["dataset"].rsplit("/", 1)[-1])).to_be_visible()


def hidden_sideways(page: Page, table: str) -> int:
    """Pixels of a table's width that are out of sight."""
    return page.get_by_role("region", name=table).evaluate("box => box.scrollWidth - box.clientWidth")


def test_two_jobs_are_compared_from_the_list(page: Page, world: World) -> None:
    page.set_viewport_size({"width": 1280, "height": 844})
    page.goto(f"{world.platform.url}/dashboard/fine-tuning")
    page.get_by_label("Name or model").fill("-job")
    expect(page.get_by_label(f"Compare {world.rft}")).to_be_visible()
    assert hidden_sideways(page, "Jobs") == 0
    page.get_by_label(f"Compare {world.rft}").check()
    page.get_by_label(f"Compare {world.failed}").check()
    page.get_by_role("button", name="Compare 2").click()
    table = page.get_by_label("Differences of the jobs")
    expect(table.get_by_role("columnheader", name=world.rft)).to_be_visible()
    expect(table.get_by_role("row", name=re.compile("State"))).to_contain_text("failed")
    compared = world.platform.get(f"{JOBS}:compare?job={world.rft}&job={world.failed}")
    expect(table.locator("tbody tr")).to_have_count(10 + len(compared["differences"]))


def test_what_is_exported_is_what_is_stored(page: Page, world: World, tmp_path: Path) -> None:
    page.goto(job_path(world))

    def export(name: str) -> Path:
        page.get_by_role("button", name="Export").click()
        with page.expect_download() as started:
            page.get_by_role("menuitem", name=name).click()
        file = tmp_path / started.value.suggested_filename
        started.value.save_as(file)
        return file

    total = world.platform.get(f"{JOBS}/{world.rft}/rollouts?pageSize=1")["totalSize"]
    with export("Rollouts, CSV").open(newline="") as file:
        rows = list(csv.DictReader(file))
    lines = [json.loads(line) for line in export("Rollouts, JSONL").read_text().splitlines()]
    assert len(rows) == len(lines) == total
    stored = world.platform.get(f"{JOBS}/{world.rft}/metrics")["metrics"]
    with export("Metrics, CSV").open(newline="") as file:
        assert len(list(csv.DictReader(file))) >= len(stored)


def test_the_run_in_one_file_is_scrubbed_from_disk_and_fetches_nothing(
    page: Page, browser: Browser, world: World, tmp_path: Path
) -> None:
    page.goto(job_path(world))
    page.get_by_role("button", name="Export").click()
    with page.expect_download() as started:
        page.get_by_role("menuitem", name="run.html").click()
    file = tmp_path / "run.html"
    started.value.save_as(file)
    assert file.stat().st_size < 3_000_000, "small enough to mail"

    context = browser.new_context(offline=True)
    run = context.new_page()
    asked: list[str] = []
    run.on("request", lambda request: asked.append(request.url))
    seen = observe(run, file.as_uri())
    run.goto(file.as_uri())
    expect(run.get_by_role("heading", level=1, name=world.rft)).to_be_visible()
    slider = run.get_by_role("slider", name="Step")
    last = slider.get_attribute("aria-valuetext")
    slider.focus()
    run.keyboard.press("Home")
    expect(slider).not_to_have_attribute("aria-valuetext", last or "")
    run.get_by_role("button", name="One on").click()
    run.get_by_role("button", name=re.compile("apples")).first.click()
    details = run.get_by_role("dialog")
    expect(details.get_by_label("Conversation")).to_contain_text("apples")
    details.get_by_role("tab", name="Tokens").click()
    expect(details.locator("[data-token]").nth(5)).to_be_attached()
    picture(run, "run-html-rollout-wide-light")
    run.keyboard.press("Escape")
    for width, name in ((1280, "wide"), (390, "narrow")):
        run.set_viewport_size({"width": width, "height": 900})
        picture(run, f"run-html-{name}-light")
        assert overflow(run) == 0
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert not expected(seen)
    context.close()
