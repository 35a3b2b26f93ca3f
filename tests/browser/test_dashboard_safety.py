"""What must not be: another site's page changing something, and text of models, users and logs becoming script."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser.browser import Seen, expected, observe, settle
from tests.browser.world import HOSTILE, ROOT, World, live_rft

pytestmark = pytest.mark.browser
JOBS = f"{ROOT}/reinforcementFineTuningJobs"
FORGED = """<!doctype html><title>elsewhere</title>
<form id="f" method="post" enctype="text/plain" action="{target}"><input name='{{"name": "accounts/local/secrets/forged", "keyName": "FORGED", "value": "x", "x": "' value='"}}'></form>
"""


@pytest.fixture
def elsewhere(world: World) -> Iterator[str]:
    """Another origin of the same site, whose requests carry the cookie: a page with a form that posts to the platform."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(FORGED.format(target=f"{world.platform.url}{ROOT}/secrets").encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def test_a_page_of_another_origin_changes_nothing(signed_in: BrowserContext, world: World, elsewhere: str) -> None:
    secrets = world.platform.get(f"{ROOT}/secrets")
    page = signed_in.new_page()
    page.goto(elsewhere)
    with page.expect_response(f"**{ROOT}/secrets") as posted:
        page.evaluate("() => document.getElementById('f').submit()")
    page.wait_for_url(f"**{ROOT}/secrets")
    assert "tunesmith_session" in (posted.value.request.all_headers().get("cookie") or ""), "the cookie was sent"
    assert posted.value.status == 403, posted.value.text()

    page.goto(elsewhere)
    tried = page.evaluate(
        """async ([url, job]) => {
            const body = JSON.stringify({name: 'accounts/local/secrets/forged', keyName: 'FORGED', value: 'x'});
            const ways = [
                [url + '/v1/accounts/local/secrets', {method: 'POST', mode: 'no-cors', credentials: 'include', body}],
                [url + '/v1/accounts/local/secrets', {method: 'POST', credentials: 'include', body,
                    headers: {'content-type': 'application/json', 'x-tunesmith': '1'}}],
                [url + job, {method: 'DELETE', credentials: 'include', headers: {'x-tunesmith': '1'}}],
                [url + job, {credentials: 'include'}],
            ];
            return Promise.all(ways.map(([to, init]) => fetch(to, init).then(a => a.type + a.status, () => 'blocked')));
        }""",
        [world.platform.url, f"{JOBS}/{world.rft}"],
    )
    assert tried == ["opaque0", "blocked", "blocked", "blocked"], "nothing is let through, nothing can be read"
    page.close()
    assert world.platform.get(f"{ROOT}/secrets") == secrets
    assert world.platform.get(f"{JOBS}/{world.rft}")["state"] == "JOB_STATE_COMPLETED"


def test_every_page_has_its_policy(signed_in: BrowserContext, world: World) -> None:
    nonces = set()
    for path in world.pages.values():
        headers = signed_in.request.get(world.platform.url + path).headers
        policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'none'", path
        assert policy["script-src"] == policy["connect-src"] == "'self'", path
        assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'", path
        assert policy["img-src"] == "'self' data: blob:", path
        assert "unsafe" not in headers["content-security-policy"], path
        assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer"), path
        nonces.add(policy["style-src"])
    assert len(nonces) == len(world.pages), "each answer has a nonce of its own"


@pytest.fixture(scope="module")
def hostile(world: World) -> str:
    """Id of a job whose rollouts hold every hostile text; ended."""
    job = live_rft(world)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and world.platform.get(f"{JOBS}/{job}")["state"] != "JOB_STATE_CANCELLED":
        if world.platform.get(f"{JOBS}/{job}/rollouts?kind=train&pageSize=1")["totalSize"] >= 16 * 4:
            break
        time.sleep(0.2)
    if world.platform.get(f"{JOBS}/{job}")["state"] == "JOB_STATE_RUNNING":
        world.platform.request("POST", f"{JOBS}/{job}:cancel", {})
        world.platform.wait(f"accounts/local/reinforcementFineTuningJobs/{job}")
    return job


class Watched:
    """A page on which no text may do anything."""

    def __init__(self, page: Page, origin: str) -> None:
        self.page = page
        self.seen: Seen = observe(page, origin)

    def holds(self) -> None:
        """Nothing ran, nothing was fetched from elsewhere, the policy had nothing to refuse."""
        assert self.page.evaluate("() => window.__hacked") is None
        assert not expected(self.seen)
        for frame in self.page.frames[1:]:
            assert frame.evaluate("() => window.__hacked") is None
        assert self.page.locator("a[href^='javascript:'], a[href^='data:']").count() == 0
        assert (
            self.page.locator("img[src^='http']:not([src^='" + self.page.url.split("/dashboard")[0] + "'])").count()
            == 0
        )


@pytest.fixture
def watched(signed_in: BrowserContext, world: World) -> Iterator[Watched]:
    page = signed_in.new_page()
    yield Watched(page, world.platform.url)
    page.close()


def test_hostile_rollouts_stay_text(watched: Watched, world: World, hostile: str) -> None:
    page = watched.page
    base = f"{world.platform.url}/dashboard/fine-tuning/reinforcement/{hostile}"
    rollouts = world.platform.get(f"{JOBS}/{hostile}/rollouts?kind=train&epoch=0&view=SUMMARY&pageSize=200")["rollouts"]
    for row in range(len(HOSTILE)):
        one = next(rollout for rollout in rollouts if rollout["rowIndex"] == row)
        page.goto(f"{base}?tab=epoch&epoch=0&rollout={one['rolloutId']}")
        details = page.get_by_role("dialog")
        expect(details.get_by_label("Conversation")).to_contain_text("apples")
        details.get_by_role("tab", name="Tokens").click()
        details.get_by_role("tab", name="JSON").click()
        watched.holds()
    for tab in ("summary", "epoch", "audit", "logs", "options"):
        page.goto(f"{base}?tab={tab}")
        settle(page)
        watched.holds()
    page.goto(f"{base}?tab=epoch&epoch=0&contains=%3Cscript%3E")
    expect(page.get_by_role("table", name="Rollouts").locator("tbody tr").first).to_contain_text("<script>")
    page.goto(f"{world.platform.url}/dashboard/studio/{hostile}")
    settle(page)
    watched.holds()


def test_hostile_names_rows_and_sources_stay_text(watched: Watched, world: World, hostile: str) -> None:
    page = watched.page
    clone = {"changes": {}, "displayName": HOSTILE[1]}
    world.platform.request("POST", f"{JOBS}/{hostile}:clone?reinforcementFineTuningJobId=named", clone)
    world.platform.request("POST", f"{JOBS}/named:cancel", {})
    evaluator = world.platform.get(f"{JOBS}/{hostile}")["evaluator"].rsplit("/", 1)[-1]
    shown = {
        "/dashboard": HOSTILE[1],
        "/dashboard/fine-tuning": HOSTILE[1],
        "/dashboard/fine-tuning/reinforcement/named": HOSTILE[1],
        "/dashboard/datasets/sums": None,
        f"/dashboard/evaluators/{evaluator}": None,
        f"/dashboard/evaluators/{evaluator}/versions/1": None,
        "/dashboard/sign-in?next=javascript:window.__hacked=1": None,
    }
    for path, text in shown.items():
        page.goto(world.platform.url + path)
        settle(page)
        if text:
            expect(page.get_by_text(text).first).to_be_visible()
        watched.holds()
    page.goto(f"{world.platform.url}/dashboard/datasets/sums")
    page.get_by_label("Search", exact=False).first.fill("What does this do?")
    expect(page.get_by_text("<script>window.__hacked = 1</script>").first).to_be_visible()
    watched.holds()
    page.goto(f"{world.platform.url}/dashboard/evaluators/%3Cimg%20src=x%20onerror=window.__hacked=1%3E")
    expect(page.get_by_role("alert")).to_contain_text("<img src=x onerror=window.__hacked=1>")
    assert page.evaluate("() => window.__hacked") is None


def test_a_hostile_chat_stays_text(watched: Watched, world: World) -> None:
    page = watched.page
    page.goto(f"{world.platform.url}/dashboard/sessions/{world.session}")
    for text in HOSTILE[:3]:
        page.get_by_label("Message to the Agent").fill(text)
        page.keyboard.press("Enter")
        expect(page.get_by_label("What was said and done")).to_contain_text("window.__hacked")
        watched.holds()

    answer = "\n\n".join(HOSTILE)
    lines = [
        {"choices": [{"index": 0, "delta": {"role": "assistant", "content": answer}, "finish_reason": None}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    ]
    body = "".join(f"data: {json.dumps(line)}\n\n" for line in lines) + "data: [DONE]\n\n"
    # What a model says cannot be had for the asking; whose words these are makes no difference to the page.
    page.route("**/chat/completions", lambda route: route.fulfill(content_type="text/event-stream", body=body))
    page.goto(f"{world.platform.url}/dashboard/playground?model=accounts/local/models/{world.model}")
    page.get_by_label("Message", exact=True).fill(HOSTILE[1])
    page.keyboard.press("Enter")
    said = page.get_by_role("article", name="Answer")
    expect(said).to_contain_text("window.__hacked")
    watched.holds()


def test_a_hostile_run_in_one_file_stays_text(
    browser: Browser, signed_in: BrowserContext, world: World, hostile: str, tmp_path: Path
) -> None:
    file = tmp_path / "run.html"
    file.write_bytes(signed_in.request.get(f"{world.platform.url}{JOBS}/{hostile}/report").body())
    context = browser.new_context()
    page = context.new_page()
    seen = observe(page, file.as_uri())
    page.goto(file.as_uri())
    expect(page.get_by_role("slider", name="Step")).to_be_visible()
    for drawing in page.get_by_role("button", name="apples").all()[:8]:
        drawing.click()
        expect(page.get_by_role("dialog").get_by_label("Conversation")).to_contain_text("apples")
        page.get_by_role("dialog").get_by_role("tab", name="Tokens").click()
        page.keyboard.press("Escape")
    assert page.evaluate("() => window.__hacked") is None
    assert not expected(seen)
    context.close()
