"""`make screens`: the pictures of the README, taken from the real pages with a real model learning behind them.

Starts `tunesmith studio` in a folder of its own, changes the reward after some steps as a person would, lets the model follow, and
pictures the studio, the job, its rollouts and `run.html`; then `ep logs` over a store of sample rows. Writes docs/screens/.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from playwright.sync_api import Browser, Page, sync_playwright

REPO = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
CHROMIUM = "/usr/bin/chromium"
WIDE, NARROW = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
BEFORE = "    return {\n"
EDIT = '    return {"blue": share(shape.colour == "blue" for shape in drawn)}\n'
"""What the reward becomes: a person who likes blue."""


def main() -> int:
    """Take all pictures; exit code 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=REPO / "docs" / "screens", help="folder of the pictures")
    parser.add_argument("--edit-after", type=int, default=8, help="steps before the reward is changed (default 8)")
    parser.add_argument("--steps", type=int, default=20, help="steps in all (default 20)")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="ts") as home, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        environment = {
            **os.environ,
            "HOME": home,
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "EP_DISABLE_AUTO_BROWSER": "1",
        }
        studio(browser, Path(home), environment, options)
        local(browser, Path(home), environment, options.out)
        browser.close()
    return 0


def studio(browser: Browser, home: Path, environment: dict[str, str], options: argparse.Namespace) -> None:
    """The studio, and the pages of its job."""
    port = free_port()
    command = [
        BIN / "tunesmith",
        "studio",
        "--no-open",
        "--port",
        str(port),
        "--data-dir",
        home / "d",
        "--folder",
        home / "w",
    ]
    with running(command, environment, home / "studio.log") as log:
        job = wait(lambda: (found := re.search(r"/dashboard/studio/([\w-]+)", log.read_text())) and found[1], 300)
        key = json.loads((home / ".tunesmith" / "profile.json").read_text())["api_key"]
        base = f"http://127.0.0.1:{port}"

        def steps() -> int:
            found: dict[str, Any] = get(f"{base}/v1/accounts/local/reinforcementFineTuningJobs/{job}", key)
            return int((found.get("run") or {}).get("version", 0))

        wait(lambda: steps() >= options.edit_after, 900)
        edit(next((home / "w").rglob("evaluation.py")))
        wait(lambda: steps() >= options.steps, 1800)
        events = get(f"{base}/v1/accounts/local/reinforcementFineTuningJobs/{job}/metrics", key)["events"]
        scores = [f"{event['step']}: {event['score']:.2f}" for event in events if event["kind"] == "evaluation"]
        print(f"held-out score by step, the reward changed after {options.edit_after}: {', '.join(scores)}")
        page = signed_in(browser, base, key, WIDE)
        page.goto(f"{base}/dashboard/studio/{job}")
        picture(page, options.out / "studio.png", "h1")
        address = f"{base}/dashboard/fine-tuning/reinforcement/{job}"
        page.goto(f"{address}?smoothing=5")
        picture(page, options.out / "job.png", "h1")
        page.goto(f"{address}?tab=epoch&epoch=0&step={options.edit_after + 4}&sort=-score")
        picture(page, options.out / "rollouts.png", "tbody tr")
        page.locator("tbody tr").nth(1).click()
        picture(page, options.out / "rollout.png", "[role=dialog] h2")
        page.emulate_media(color_scheme="dark")
        page.goto(f"{address}?tab=audit")
        picture(page, options.out / "audit-dark.png", "h2")
        phone = signed_in(browser, base, key, NARROW)
        phone.goto(f"{base}/dashboard/studio/{job}")
        picture(phone, options.out / "studio-narrow.png", "h1")
        file = home / "run.html"
        subprocess.run(
            [BIN / "tunesmith", "rftj", "report", job, "-o", file], env=environment, check=True, capture_output=True
        )
        plain = browser.new_context(viewport=WIDE, color_scheme="light").new_page()
        plain.goto(f"file://{file}")
        picture(plain, options.out / "run.png", "h1")
        print(f"run.html of {steps()} steps: {file.stat().st_size / 1e6:.2f} MB")


def local(browser: Browser, home: Path, environment: dict[str, str], out: Path) -> None:
    """`ep logs` over sample rows."""
    store, port = home / "rows.db", free_port()
    sample = [sys.executable, "-m", "scripts.sample_results", "--store", store, "--rows", "400"]
    subprocess.run(sample, cwd=REPO, env=environment, check=True, capture_output=True)
    with running(
        [BIN / "ep", "logs", "--store", store, "--port", str(port), "--no-open"], environment, home / "ui.log"
    ):
        wait(lambda: answers(f"http://localhost:{port}/health"), 60)
        page = browser.new_context(viewport=WIDE, color_scheme="light").new_page()
        page.goto(f"http://localhost:{port}/table")
        picture(page, out / "ep-logs.png", "tbody tr")
        drawings = [
            {
                "logic": "AND",
                "filters": [{"field": "$.eval_metadata.name", "operator": "contains", "value": "svg", "type": "text"}],
            }
        ]
        page.goto(f"http://localhost:{port}/table?filterConfig={quote(json.dumps(drawings))}")
        page.get_by_role("button", name="Expand row").or_(page.locator("tbody tr button").first).first.click()
        picture(page, out / "ep-logs-open.png", "tbody img")
        page.goto(f"http://localhost:{port}/pivot?pivotConfig.selectedValueField=%22%24.evaluation_result.score%22")
        picture(page, out / "ep-logs-pivot.png", "tbody tr")


def edit(file: Path) -> None:
    """Put another reward in place of the example's."""
    text = file.read_text()
    start = text.index(BEFORE, text.index("def reward("))
    end = text.index("    }\n", start) + len("    }\n")
    file.write_text(text[:start] + EDIT + text[end:])


def signed_in(browser: Browser, base: str, key: str, viewport: dict[str, int]) -> Page:
    """A page of somebody who signed in."""
    page = browser.new_context(viewport=viewport, color_scheme="light").new_page()
    page.goto(f"{base}/dashboard/sign-in")
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/dashboard")
    return page


def picture(page: Page, file: Path, shows: str) -> None:
    """Wait for what the page is about, then for what still loads, then keep it."""
    page.wait_for_selector(shows, timeout=60_000)
    page.wait_for_function("() => !document.querySelector('[aria-label=\"Loading\"]')", timeout=60_000)
    page.wait_for_timeout(1500)  # curves and drawings settle
    page.screenshot(path=file)
    print(f"{file.relative_to(REPO) if file.is_relative_to(REPO) else file}: {file.stat().st_size / 1000:.0f} kB")


@contextmanager
def running(command: list[object], environment: dict[str, str], log: Path) -> Iterator[Path]:
    """A command in a process group of its own, ended as Ctrl-C would end it; its output is in `log`."""
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [str(word) for word in command],
            env=environment,
            stdout=output,
            stderr=output,
            cwd=log.parent,
            start_new_session=True,
        )
    try:
        yield log
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def wait(ready: Any, seconds: float) -> Any:
    """What `ready` answers, as soon as it is true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := ready():
            return found
        time.sleep(0.5)
    raise TimeoutError(f"Nothing came of it within {seconds:.0f} s.")


def get(url: str, key: str) -> Any:
    """GET as JSON."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())


def answers(url: str) -> bool:
    """Whether somebody answers there."""
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except OSError:
        return False
    return True


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    sys.exit(main())
