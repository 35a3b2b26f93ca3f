"""What a person at the table waits for, and what an open page costs while nothing happens."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import quote

import psutil
from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.ui.contenders import Contender

CHROMIUM = "/usr/bin/chromium"
PATIENCE_MS = 180_000
FILTERED_ROWS = 200
"""Of one invocation of the sample rows."""
ROWS_SHOWN = "document.querySelectorAll('tbody tr, [role=rowgroup] [role=row]').length >= 10 && /of [\\d,]+ rows/.test(document.body?.innerText ?? '')"
FILTERED = f"/ of {FILTERED_ROWS} rows/.test(document.body?.innerText ?? '')"


@dataclass(frozen=True)
class Figures:
    """One look at one contender."""

    paint_seconds: float
    """From asking for the page until the table shows rows, with an empty cache."""
    filter_seconds: float
    """From a click on the funnel beside an invocation id until the table shows its 200 rows only."""
    link_seconds: float
    """The same by a deep link: from asking for the page."""
    server_idle: float
    """CPU of the server while a page is open and nothing happens, in percent of one core."""
    page_idle: float
    """The same of the browser, all its processes."""
    server_mb: float
    page_mb: float
    """The page's JavaScript heap."""


@contextmanager
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--enable-precise-memory-info"]
        )
        yield opened
        opened.close()


def look(opened: Browser, contender: Contender, idle_seconds: float) -> Figures:
    """Load, filter, wait."""
    paint, page = _load(opened, f"{contender.url}/table", ROWS_SHOWN)
    memory = page.evaluate("performance.memory.usedJSHeapSize") / 2**20
    server, chromium = _idle(contender, idle_seconds)
    funnel = page.locator('button[title="Add filter for this value"], button[title^="Show only invocation"]').first
    started = time.perf_counter()
    funnel.click(timeout=PATIENCE_MS)
    page.wait_for_function(FILTERED, timeout=PATIENCE_MS, polling=10)
    filtered = time.perf_counter() - started
    page.context.close()
    condition = (
        '[{"logic": "AND", "filters": [{"field": "$.execution_metadata.invocation_id", "operator": "==", '
        '"value": "sample-0-0001", "type": "text"}]}]'
    )
    link, page = _load(opened, f"{contender.url}/table?filterConfig={quote(condition)}", FILTERED)
    page.context.close()
    return Figures(paint, filtered, link, server, chromium, contender.memory_mb(), memory)


def _load(opened: Browser, url: str, ready: str) -> tuple[float, Page]:
    # bypass_csp: Playwright's waiting evaluates text, which our page forbids.
    page = opened.new_context(viewport={"width": 1600, "height": 900}, bypass_csp=True).new_page()
    started = time.perf_counter()
    page.goto(url, wait_until="commit", timeout=PATIENCE_MS)
    page.wait_for_function(ready, timeout=PATIENCE_MS, polling=10)
    return time.perf_counter() - started, page


def _idle(contender: Contender, seconds: float) -> tuple[float, float]:
    """CPU of the server and of the browser over so many seconds, in percent of one core."""
    time.sleep(2.0)  # until the page has settled
    before, started = (contender.cpu_seconds(), _chromium_seconds()), time.perf_counter()
    time.sleep(seconds)
    passed = time.perf_counter() - started
    return 100 * (contender.cpu_seconds() - before[0]) / passed, 100 * (_chromium_seconds() - before[1]) / passed


def _chromium_seconds() -> float:
    total = 0.0
    for child in psutil.Process().children(recursive=True):
        try:
            if "chrom" in child.name():
                total += sum(child.cpu_times()[:2])
        except psutil.NoSuchProcess:
            continue
    return total
