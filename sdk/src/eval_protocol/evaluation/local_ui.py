"""Pointing a run at the local UI: links to its rollouts, a page that opens as it starts, or a word on how to get one."""

from __future__ import annotations

import json
import os
import sys
import urllib.request
import webbrowser
from pathlib import Path
from urllib.parse import quote

from eval_protocol.evaluation.spec import EvaluationSpec
from eval_protocol.results import presence
from eval_protocol.settings import RunSettings

TIMEOUT_SECONDS = 0.5
TIP = "Tip: run 'ep logs' in another terminal to look at every rollout in a browser, live."
_OPENED: set[str] = set()
"""Invocations that this process has opened, or given the tip for."""


def port_of(settings: RunSettings) -> int | None:
    """The port where a local UI shows the run's store, or None."""
    found = presence.find(settings.results_db)
    ports = [found.port] if found else []
    return next((port for port in (*ports, settings.local_ui_port) if _answers(port, settings.results_db)), None)


def url(port: int, page: str, invocation_id: str) -> str:
    """Link to a page of the local UI, filtered to one invocation."""
    condition = {
        "field": "$.execution_metadata.invocation_id",
        "operator": "==",
        "value": invocation_id,
        "type": "text",
    }
    return (
        f"http://localhost:{port}/{page}?filterConfig={quote(json.dumps([{'logic': 'AND', 'filters': [condition]}]))}"
    )


def open_once(spec: EvaluationSpec, settings: RunSettings, invocation_id: str) -> list[str]:
    """Open the rollouts of an invocation in a browser, once, where an `ep logs` shows the store.

    Returns:
        lines to print: the tip where none does; nothing when the run wants no browser.
    """
    if invocation_id in _OPENED:
        return []
    _OPENED.add(invocation_id)
    if presence.find(settings.results_db) is None:
        return [TIP]
    if not (spec.parameters.disable_browser_open or settings.disable_auto_browser):
        port = port_of(settings)
        if port is not None:
            open_page(url(port, "table", invocation_id))
    return []


def open_page(address: str) -> bool:
    """Open a page in the person's browser. False where there is no desktop: a browser in the terminal would take it over."""
    if sys.platform == "linux" and not any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")):
        return False
    return webbrowser.open(address)


def _answers(port: int, store: Path) -> bool:
    """Whether a local UI (and not some other program, nor one that shows another store) answers on the port."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://127.0.0.1:{port}/api/status", timeout=TIMEOUT_SECONDS) as response:
            answer = json.loads(response.read(65536))
    except (OSError, ValueError):
        return False
    if not isinstance(answer, dict) or answer.get("status") != "ok" or "active_connections" not in answer:
        return False
    return answer.get("store") in (None, str(store.expanduser()), str(store.expanduser().resolve()))
