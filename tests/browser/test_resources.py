"""Datasets, evaluators, models, deployments, playground, secrets, keys and sessions, used from their pages."""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, Response, expect

from tests.browser.browser import expected, observe, picture, settle
from tests.browser.world import ROOT, World
from tests.loop import tuning
from tests.loop.projects import BASE

pytestmark = pytest.mark.browser

BUILD = 60_000
"""Milliseconds that building a version may take."""
ANSWER = 60_000
"""Milliseconds until a model that is not loaded yet answers."""


@pytest.fixture
def page(signed_in: BrowserContext, world: World) -> Iterator[Page]:
    """A page of an admin; a test that is refused something on purpose says so in `page.refused`."""
    page = signed_in.new_page()
    page.set_viewport_size({"width": 1280, "height": 900})
    seen = observe(page, world.platform.url)
    yield page
    refused = getattr(page, "refused", ())
    assert not expected(seen, *refused)
    page.close()


def open_page(page: Page, world: World, path: str) -> None:
    page.goto(world.platform.url + path)
    settle(page)


def write_jsonl(path: Path, rows: list[object]) -> Path:
    path.write_text("".join(row + "\n" if isinstance(row, str) else json.dumps(row) + "\n" for row in rows))
    return path


def test_a_dataset_is_uploaded_looked_at_and_removed(page: Page, world: World, tmp_path: Path) -> None:
    page.refused = (r"400 .*:upload", r"status of 400")  # type: ignore[attr-defined]
    good = [*tuning.chats(20), tuning.chat("Where is the needle?", "In this haystack.")]
    broken = write_jsonl(tmp_path / "page-rows.jsonl", [*good[:6], '{"messages": [{"role": "user"', *good[6:]])
    open_page(page, world, "/dashboard/datasets")
    page.get_by_role("button", name="Upload a dataset").click()
    dialog = page.get_by_role("dialog", name="Upload a dataset")
    dialog.get_by_label("JSONL file").set_input_files(broken)
    expect(dialog.get_by_label("Id")).to_have_value("page-rows")
    dialog.get_by_role("button", name="Upload", exact=True).click()
    told = dialog.get_by_role("alert")
    expect(told).to_contain_text("line 7")
    expect(told).to_contain_text('{"messages": [{"role": "user"')
    expect(told).to_contain_text("Nothing was stored")
    picture(page, "dataset-refused-wide-light")

    # The mended file has to be chosen again, then it takes the same id: what was refused is in nobody's way.
    write_jsonl(broken, list(good))
    dialog.get_by_role("button", name="Upload", exact=True).click()
    expect(told).to_contain_text("has changed since it was chosen. Choose it again.")
    dialog.get_by_label("JSONL file").set_input_files(broken)
    expect(told).to_have_count(0)
    dialog.get_by_role("button", name="Upload", exact=True).click()
    expect(page.get_by_role("heading", level=1, name="page-rows")).to_be_visible()
    expect(page.get_by_text("Valid.")).to_be_visible()
    rows = page.get_by_role("table", name="Rows")
    expect(page.get_by_text("Rows 1 to 21 of 21")).to_be_visible()
    page.get_by_label("Search the rows").fill("needle")
    page.get_by_label("Search the rows").press("Enter")
    expect(page.get_by_text("Rows 1 to 1 of 1")).to_be_visible()
    rows.get_by_role("button", name="Open row").click()
    expect(page.get_by_role("log", name="Conversation")).to_contain_text("In this haystack.")

    page.get_by_role("tab", name="Statistics").click()
    statistics = world.platform.get(f"{ROOT}/datasets/page-rows/statistics")
    expect(page.get_by_role("img", name=re.compile("^Rows by length"))).to_be_visible()
    expect(page.get_by_text(f"{statistics['characters']['p95']:,}", exact=True).first).to_be_visible()
    page.get_by_role("tab", name="Rendering and loss mask").click()
    example = page.get_by_role("article", name="Row 1", exact=True)
    expect(example).to_contain_text(good[0]["messages"][0]["content"], timeout=ANSWER)
    trained = example.locator("span[title='Loss weight 1']")
    expect(trained.filter(has_text=good[0]["messages"][1]["content"])).not_to_have_count(0)
    expect(trained.filter(has_text=good[0]["messages"][0]["content"])).to_have_count(0)
    picture(page, "dataset-rendering-wide-light")

    page.get_by_role("button", name="Delete").click()
    page.get_by_role("alertdialog").or_(page.get_by_role("dialog")).get_by_role("button", name="Delete it").click()
    expect(page.get_by_role("heading", level=1, name="Datasets")).to_be_visible()
    expect(page.get_by_role("link", name="page-rows")).to_have_count(0)


def type_into(editor: Locator, page: Page, text: str) -> None:
    """Write at the end of what is edited, as a person does."""
    editor.click()
    page.keyboard.press("Control+End")
    page.keyboard.insert_text(text)


def test_every_upload_of_the_command_line_stays_as_a_version(world: World) -> None:
    listed = world.platform.get(f"{ROOT}/evaluators/{world.evaluator}/versions")["evaluatorVersions"]
    assert [version["version"] for version in listed] == list(range(len(listed), 0, -1))
    assert len(listed) >= 2, "two projects were uploaded under this id"
    first = world.platform.get(f"{ROOT}/evaluators/{world.evaluator}/versions/1/source")["files"]
    assert "aeiou" in next(file["text"] for file in first if file["path"].endswith("evaluation.py"))


def test_an_evaluator_is_edited_in_the_page(page: Page, world: World) -> None:
    before = world.platform.get(f"{ROOT}/evaluators/{world.evaluator}")["version"]
    remark = f"# edited in the page, after version {before}"
    open_page(page, world, f"/dashboard/evaluators/{world.evaluator}")
    page.get_by_role("button", name="Edit", exact=True).click()
    type_into(page.get_by_role("textbox", name="evaluation.py"), page, f"\n{remark}\n")
    page.get_by_label("What changed").fill("A remark")
    page.get_by_role("button", name=f"Save as version {before + 1}").click()
    expect(page.get_by_text(f"Version {before + 1} is being built.")).to_be_visible()
    expect(page.get_by_role("heading", level=1)).to_contain_text(world.evaluator)
    log = page.get_by_role("log", name=re.compile(f"version {before + 1}"))
    expect(log).not_to_be_empty()
    expect(page.get_by_text("active", exact=True).first).to_be_visible(timeout=BUILD)
    page.get_by_role("tab", name="Versions").click()
    listed = page.get_by_role("table", name="Versions").locator("tbody tr").first
    expect(listed).to_contain_text("current")
    expect(listed).to_contain_text("A remark")
    changed = page.get_by_role("region", name="What changed")
    expect(changed).to_contain_text(remark)
    expect(changed).to_contain_text("evaluation.py")
    picture(page, "evaluator-versions-wide-light")
    newest = world.platform.get(f"{ROOT}/evaluators/{world.evaluator}")
    assert (newest["version"], newest["state"]) == (before + 1, "ACTIVE")
    # An older version is there to read, and says that it is not the newest.
    page.get_by_role("table", name="Versions").get_by_role("link", name=str(before), exact=True).click()
    expect(page.get_by_text(f"newest is {before + 1}")).to_be_visible()
    expect(page.get_by_role("button", name="Edit", exact=True)).to_be_disabled()
    expect(page.get_by_role("textbox", name="evaluation.py")).not_to_contain_text(remark)


def test_a_model_is_deployed_and_two_are_asked_side_by_side(page: Page, world: World) -> None:
    open_page(page, world, f"/dashboard/models/{world.model}")
    page.get_by_role("button", name="Deploy").click()
    page.get_by_label("Name of the deployment").fill("by-page")
    page.get_by_role("dialog").get_by_role("button", name="Deploy").click()
    expect(page.get_by_role("heading", level=1, name="by-page")).to_be_visible()
    expect(page.get_by_text("ready", exact=True).first).to_be_visible(timeout=ANSWER)
    page.get_by_role("button", name="Try it").click()
    expect(page.get_by_role("heading", level=1, name="Playground")).to_be_visible()
    expect(page.get_by_label("Model", exact=True)).to_have_value("accounts/local/deployments/by-page")
    page.get_by_role("button", name="Compare").click()
    page.get_by_role("combobox", name="Second model").select_option(BASE)
    page.get_by_label("Temperature").fill("0")
    page.get_by_label("Max tokens").fill("40")
    page.get_by_label("Message").fill(tuning.QUESTION)
    with page.expect_response(re.compile("/chat/completions")) as got:
        page.get_by_label("Message").press("Enter")
    assert got.value.headers["content-type"].startswith("text/event-stream")
    for side, model in (("First model", "accounts/local/deployments/by-page"), ("Second model", BASE)):
        answer = page.get_by_role("region", name=side).get_by_role("article", name="Answer")
        expect(answer).to_contain_text("tokens/s", timeout=ANSWER)
        said = world.platform.chat(model, tuning.QUESTION, temperature=0, max_tokens=40)
        content = said["choices"][0]["message"]["content"]
        # What it thought within its answer is folded away.
        expect(answer).to_contain_text(content.removeprefix("<think>").rpartition("</think>")[2].strip()[:30])
        expect(answer).not_to_contain_text("think>")
    picture(page, "playground-compared-wide-light")
    page.get_by_role("button", name="Clear").click()
    expect(page.get_by_role("article", name="Answer")).to_have_count(0)


def test_secrets_go_in_and_never_come_out(page: Page, world: World) -> None:
    value = "hunter2-of-the-page"
    answers: list[str] = []

    def remember(response: Response) -> None:
        if "/v1/" in response.url and "watch" not in response.url and response.request.method != "DELETE":
            answers.append(response.text())

    open_page(page, world, "/dashboard/secrets")
    page.on("response", remember)
    page.get_by_role("button", name="Add a secret").click()
    page.get_by_label("Environment variable").fill("JUDGE_KEY")
    page.get_by_role("textbox", name="Value").fill(value)
    page.get_by_role("button", name="Store").click()
    listed = page.get_by_role("row", name=re.compile("judge-key"))
    expect(listed).to_contain_text("JUDGE_KEY")
    listed.get_by_role("button", name="Replace value").click()
    expect(page.get_by_role("textbox", name="Value")).to_have_value("")
    page.keyboard.press("Escape")
    page.reload()
    expect(listed).to_be_visible()
    assert answers
    assert not any(value in text for text in [*answers, page.content()])
    listed.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Delete it").click()
    expect(listed).to_have_count(0)
    page.remove_listener("response", remember)


def status(world: World, key: str, method: str, path: str) -> int:
    """What a call with this key is answered."""
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    data = None if method == "GET" else b"{}"
    request = urllib.request.Request(world.platform.url + path, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_an_api_key_is_made_copied_used_and_ended(page: Page, world: World) -> None:
    open_page(page, world, "/dashboard/api-keys")
    page.get_by_role("button", name="Add a user").click()
    page.get_by_label("Name").fill("Page Robot")
    page.get_by_label("Role").select_option("user")
    page.get_by_role("button", name="Add", exact=True).click()
    page.get_by_role("button", name="New key").last.click()
    page.get_by_label("Name").fill("laptop")
    page.get_by_role("button", name="Make the key").click()
    shown = page.get_by_role("dialog", name="The new key")
    key = shown.locator("pre").inner_text()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=world.platform.url)
    shown.get_by_role("button", name="Copy").click()
    assert page.evaluate("navigator.clipboard.readText()") == key
    page.get_by_role("button", name="I have copied it").click()
    keys = page.get_by_role("table", name="Keys of Page Robot")
    expect(keys).to_contain_text("laptop")
    assert key not in page.content()
    assert status(world, key, "GET", f"{ROOT}/datasets") == 200
    assert status(world, key, "POST", f"{ROOT}/users") == 403
    keys.get_by_role("button", name="End").click()
    page.get_by_role("button", name="End it").click()
    expect(keys).not_to_contain_text("laptop")
    deadline = time.monotonic() + 20
    while (answer := status(world, key, "GET", f"{ROOT}/datasets")) != 401:
        assert time.monotonic() < deadline, answer
        page.wait_for_timeout(200)


def test_a_session_is_asked_approved_and_cancelled(page: Page, world: World) -> None:
    open_page(page, world, f"/dashboard/sessions/{world.session}")
    gate = page.get_by_role("region", name="Approve the plan?")
    expect(gate).to_be_visible()
    talk = page.get_by_role("log", name="What was said and done")
    before = talk.inner_text()
    page.get_by_label("Message to the Agent").fill("What does it cost?")
    page.get_by_label("Message to the Agent").press("Enter")
    expect(talk).to_contain_text("What does it cost?")
    expect(page.get_by_label("Message to the Agent")).to_have_value("")
    page.wait_for_function(
        "([log, before]) => log.innerText.length > before + 60", arg=[talk.element_handle(), len(before)]
    )
    # The gate is still there: a question is no approval.
    expect(gate).to_be_visible()
    gate.get_by_role("button", name="Approve and proceed").click()
    expect(gate).to_have_count(0)
    expect(talk).to_contain_text("Approved, proceed.")
    expect(page.get_by_text("approved", exact=True).last).to_be_visible()
    assert world.platform.get(f"{ROOT}/sessions/{world.session}")["approvedPlan"]["method"] == "sft"
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_role("button", name="Cancel the session").click()
    expect(page.get_by_text("The session has ended; start another one to go on.")).to_be_visible(timeout=30_000)
    picture(page, "session-cancelled-wide-light")
