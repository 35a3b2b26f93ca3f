"""The studio in the page: drawings that change, a reward that is edited while they do, and every control beside them."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, expect
from tunesmith.cli.studio_example import EXAMPLES

from tests.browser.browser import expected, observe, overflow, picture, settle
from tests.browser.world import World
from tests.loop.platform import BIN

pytestmark = pytest.mark.browser

SLOW = 60_000
"""Milliseconds that a step, with its evaluation, may take on a machine that does other things, too."""
RED = '    return {"red": share(shape.colour == "red" for shape in drawn)}\n'


@dataclass
class Studio:
    """A `tunesmith studio` on the platform of these tests."""

    world: World
    process: subprocess.Popen[bytes]
    log: Path
    folder: Path
    address: str = ""

    def job(self, identity: str | None = None) -> dict[str, Any]:
        """The job that the page is of, or another."""
        name = identity or self.address.rsplit("/", 1)[-1]
        return self.world.platform.job(f"accounts/local/reinforcementFineTuningJobs/{name}")

    def chunks(self) -> list[dict[str, Any]]:
        """What each step was taken with."""
        answer = self.world.platform.get(f"/v1/{self.job()['name']}/metrics")
        return [event for event in answer["events"] if event["kind"] == "chunk"]


@pytest.fixture
def studio(world: World, tmp_path: Path) -> Iterator[Studio]:
    """Small steps, so that many are seen in little time. Ended as Ctrl-C ends it; its jobs are cancelled."""
    example = tmp_path / "small"
    shutil.copytree(EXAMPLES / "svg", example)
    settings = json.loads((example / "studio.json").read_text())
    settings["job"] |= {"chunkSize": 4}
    settings["job"]["inferenceParameters"]["responseCandidatesCount"] = 4
    (example / "studio.json").write_text(json.dumps(settings))
    folder, log = tmp_path / "reward", tmp_path / "studio.log"
    argv = [BIN / "tunesmith", "studio", "--example", example, "--no-open", "--folder", folder]
    argv += ["--data-dir", world.platform.data_dir]
    with open(log, "ab") as said:
        process = subprocess.Popen(
            argv, env={**world.platform.env, "PYTHONUNBUFFERED": "1"}, stdout=said, stderr=said, cwd=tmp_path
        )
    running = Studio(world, process, log, folder)
    try:
        deadline = time.monotonic() + 90
        while not (found := re.search(r"http://\S+/dashboard/studio/\S+", log.read_text())):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        running.address = found[0]
        yield running
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
        listed = world.platform.get("/v1/accounts/local/reinforcementFineTuningJobs?pageSize=200")
        for job in listed["reinforcementFineTuningJobs"]:
            if job["evaluator"] == (running.address and running.job()["evaluator"]):
                world.platform.request("POST", f"/v1/{job['name']}:cancel", {})


@pytest.fixture
def page(signed_in: BrowserContext, world: World) -> Iterator[Page]:
    signed_in.grant_permissions(["clipboard-read", "clipboard-write"], origin=world.platform.url)
    page = signed_in.new_page()
    page.set_viewport_size({"width": 1280, "height": 1000})
    seen = observe(page, world.platform.url)
    yield page
    assert not expected(seen)
    page.close()


def drawings(page: Page) -> list[str]:
    """The pictures of the grid, as they are now."""
    return page.locator(".studio-arrives img").evaluate_all("all => all.map((one) => one.src)")


def test_a_reward_is_edited_in_the_page_while_a_model_learns(page: Page, studio: Studio) -> None:
    page.goto(studio.address)
    settle(page)
    expect(page.locator(".studio-arrives")).to_have_count(16, timeout=SLOW)
    before = drawings(page)
    assert all(source.startswith("data:image/svg+xml") for source in before)
    page.wait_for_function(
        "(before) => { const now = [...document.querySelectorAll('.studio-arrives img')].map((one) => one.src);"
        " return now.length > 8 && now.some((source) => !before.includes(source)); }",
        arg=before,
        timeout=SLOW,
    )
    expect(page.get_by_label("Reward", exact=True).first).to_be_visible(timeout=SLOW)

    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_text("paused", exact=True)).to_be_visible(timeout=SLOW)
    taken = len(studio.chunks())

    # What cannot be imported is said beside the source, and changes nothing; then what can.
    source = (studio.folder / "evaluation.py").read_text()
    editor = page.get_by_role("textbox", name="evaluation.py")
    expect(editor).to_contain_text("def reward")
    replace(page, source + "def broken(:\n")
    page.keyboard.press("Control+s")
    failed = page.get_by_role("alert").filter(has_text="Version 2 could not be built")
    expect(failed).to_contain_text("SyntaxError", timeout=SLOW)
    replace(page, re.sub(r"    pairs = list.*?\n(?=\n\n)", RED, source, count=1, flags=re.DOTALL))
    page.keyboard.press("Control+s")
    expect(page.get_by_text(re.compile("^version 3: (counts from the next step|in force)"))).to_be_visible(timeout=SLOW)
    expect(failed).to_have_count(0)
    rate = page.get_by_label("Learning rate", exact=True)
    rate.fill("0.001")
    rate.press("Enter")
    expect(page.get_by_text(re.compile("in force 0.001"))).to_be_visible(timeout=SLOW)
    assert len(studio.chunks()) == taken, "a paused job went on"

    page.get_by_role("button", name="One step").click()
    expect(page.get_by_text(re.compile(r"version 3: in force from step \d+"))).to_be_visible(timeout=SLOW)
    expect(page.get_by_text("paused", exact=True)).to_be_visible(timeout=SLOW)
    chunks = studio.chunks()
    assert len(chunks) == taken + 1
    assert (chunks[-2]["evaluator_version"], chunks[-1]["evaluator_version"]) == (1, 3)
    assert chunks[-1]["learning_rate"] == 0.001
    assert set(chunks[-1]["metrics"]) == {"red"}
    assert "Version 3 was made in the page" in studio.log.read_text()
    versions = page.get_by_role("region", name="Versions of the evaluator")
    versions.get_by_role("button").first.click()
    expect(versions).to_contain_text('"red": share')
    picture(page, "studio-edited-wide-light")
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_text("running", exact=True).last).to_be_visible(timeout=SLOW)

    # A drawing through all versions, and the versions scrubbed.
    page.locator("button:has(.studio-arrives)").first.click()
    expect(page.get_by_role("dialog", name=re.compile("across the versions"))).to_be_visible()
    page.keyboard.press("Escape")
    slider = page.get_by_role("slider", name="Policy version")
    slider.press("Home")
    expect(slider).to_have_attribute("aria-valuetext", re.compile("^Policy version 0 of"))
    page.get_by_role("button", name="Newest").click()

    page.get_by_label("Rewind to a version").select_option("1")
    page.get_by_role("button", name="Rewind", exact=True).click()
    expect(page.get_by_text(re.compile("rewound from"))).to_be_visible(timeout=SLOW)
    again = page.url.rsplit("/", 1)[-1].partition("?")[0]
    assert again != studio.address.rsplit("/", 1)[-1]
    assert (studio.job(again)["rewoundTo"], studio.job(again)["rewoundFrom"]) == (1, studio.job()["name"])
    page.set_viewport_size({"width": 390, "height": 844})
    assert overflow(page) == 0
    picture(page, "studio-rewound-narrow-light")


def replace(page: Page, text: str) -> None:
    """Paste another text over that in the editor."""
    page.evaluate("text => navigator.clipboard.writeText(text)", text)
    page.get_by_role("textbox", name="evaluation.py").click()
    page.keyboard.press("Control+a")
    page.keyboard.press("Control+v")
