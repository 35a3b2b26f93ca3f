"""The snippet that a session gives at its end, run word for word with the published fireworks-ai."""

from __future__ import annotations

from typing import Any

import pytest

from tests.clients.servers import PUBLISHED as BIN
from tests.loop import sessions, tuning
from tests.loop.platform import REPO, Platform
from tests.loop.sessions import tunesmith

pytestmark = pytest.mark.clients

PLAN: dict[str, Any] = {
    "dataset": "snippet-rows",
    "baseModels": ["tiny-math-v1"],
    "grid": {"points": [{"loraRank": 8, "learningRate": 5e-3}]},
    "epochs": 4,
    "finalRun": False,
    "approvals": {"plan": False, "promotion": False},
}


@pytest.fixture(scope="module")
def snippet(platform: Platform) -> str:
    """Of a small session that went through to its deployment."""
    sessions.dataset(platform, "snippet-rows", tuning.chats(60))
    plan = sessions.plan_file(platform, "snippet", PLAN)
    tunesmith(platform, "session", "create", "--session-id", "snippet", "--plan", plan)
    session = sessions.rests(platform, "snippet")
    assert session["state"] == "succeeded", session
    return session["deployed"]["snippet"]


def run(platform: Platform, snippet: str, **environment: str) -> None:
    ended = platform.run(BIN / "python", "-c", snippet, cwd=REPO, env=environment, timeout=120)
    assert ended.returncode == 0, ended.stdout
    assert tuning.FORM.fullmatch(ended.stdout.strip()), ended.stdout


def test_snippet_runs_as_it_is_on_the_machine_of_the_platform(platform: Platform, snippet: str) -> None:
    run(platform, snippet)


def test_snippet_runs_as_it_is_elsewhere_with_the_key(platform: Platform, snippet: str) -> None:
    run(platform, snippet, HOME="/nowhere", TUNESMITH_API_KEY=platform.key)
