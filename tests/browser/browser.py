"""Pages in Debian's Chromium: opened signed in, watched for errors, checked by axe, and pictured."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from playwright.sync_api import Browser, ConsoleMessage, Page, Request, Response, expect, sync_playwright

REPO = Path(__file__).resolve().parents[2]
AXE = REPO / "web" / "node_modules" / "axe-core" / "axe.min.js"
SCREENS = REPO / ".tools" / "screens"
"""Every page as the suite saw it, by name, width and theme."""
WIDTHS = {"wide": (1280, 900), "narrow": (390, 844)}
THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
PATIENCE = 60_000
"""Milliseconds until a page that does not show what it should counts as hanging; a loaded machine takes its time."""
NAMED = "tunesmith.test"
"""A host name that leads to this machine, for looking at a server as another machine does."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """One browser. Fails where there is none: `make test-browser` installs it."""
    path = shutil.which("chromium")
    assert path, "Chromium is missing; `make test-browser` installs it."
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", f"--host-resolver-rules=MAP {NAMED} 127.0.0.1"]
        )
        yield browser
        browser.close()


@dataclass
class Seen:
    """What went wrong on a page while it was open."""

    console: list[str] = field(default_factory=list)
    """Errors, warnings of the policy, exceptions."""
    answers: list[str] = field(default_factory=list)
    """Answers of 400 and above."""
    foreign: list[str] = field(default_factory=list)
    """Requests to another origin."""

    def all(self) -> list[str]:
        """Everything, for one assertion."""
        return [*self.console, *self.answers, *self.foreign]


def observe(page: Page, origin: str) -> Seen:
    """Begin to watch a page."""
    seen = Seen()

    def console(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            seen.console.append(f"{message.type}: {message.text}")

    def request(request: Request) -> None:
        if not request.url.startswith((origin, "data:", "blob:")):
            seen.foreign.append(request.url)

    def response(response: Response) -> None:
        # Nobody is signed in yet when a page first asks who it is.
        if response.status >= 400 and not response.url.endswith("/dashboard/session"):
            seen.answers.append(f"{response.status} {response.url}")

    page.on("console", console)
    page.on("pageerror", lambda error: seen.console.append(f"exception: {error}"))
    page.on("request", request)
    page.on("response", response)
    return seen


def expected(seen: Seen, *patterns: str) -> list[str]:
    """What was seen and is not matched by one of these patterns."""
    known = (r"401 \(Unauthorized\)", *patterns)
    return [line for line in seen.all() if not any(re.search(pattern, line) for pattern in known)]


def settle(page: Page) -> None:
    """Wait until nothing is loading any more. Streams stay open, so the network is never idle."""
    page.wait_for_selector("h1", timeout=PATIENCE)
    page.wait_for_function("() => !document.querySelector('[aria-label=\"Loading\"]')", timeout=PATIENCE)


def violations(page: Page) -> list[str]:
    """What axe calls serious or critical, one line each."""
    page.evaluate(AXE.read_text())
    found: list[dict[str, Any]] = page.evaluate(
        "async () => (await axe.run(document, {resultTypes: ['violations']})).violations"
    )
    return [
        f"{each['id']} ({each['impact']}): {each['help']}; {node['html'][:200]}"
        for each in found
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"][:3]
    ]


def overflow(page: Page) -> int:
    """Pixels by which the page is wider than the window."""
    return page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth")


def picture(page: Page, name: str) -> Path:
    """Keep what is shown."""
    SCREENS.mkdir(parents=True, exist_ok=True)
    file = SCREENS / f"{name}.png"
    page.screenshot(path=file)
    return file
