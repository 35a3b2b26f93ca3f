"""Delta learning up to its approval: what is asked, and what the plan says. tests/loop carries it out."""

from __future__ import annotations

from typing import Any

import pytest
from tunesmith.db import throughputs

from tests.jobs import test_session as story
from tests.jobs.test_session import BASE, PLAN, World

world = story.world
STRONG, WEAK = "accounts/tunesmith/models/tiny-tools-v1", BASE
DELTA = {
    **PLAN,
    "dataset": "prompts",
    "strongModel": "tiny-tools-v1",
    "weakModel": "tiny-math-v1",
    "approvals": {"plan": False, "promotion": True},
}


def prepare(world: World) -> None:
    world.dataset("prompts", [{"messages": row["messages"][:1]} for row in story.rows(60)])
    with world.control.sessions.begin() as session:
        for base in (STRONG, WEAK):
            for work in ("dpo", "generate"):
                throughputs.record(session, base, work, 5000.0, "accounts/local/dpoJobs/earlier")


async def test_pairs_are_priced_and_nobody_is_asked_before_the_approval(world: World) -> None:
    prepare(world)
    world.start({**DELTA, "approvals": {"plan": True}})
    async with world.worker():
        session = await world.rests()
    shown = session["pendingGate"]["text"]
    assert f"{STRONG} and {WEAK} answer every prompt, and the first one's answers are preferred" in shown
    assert session["estimate"]["inferenceSeconds"]["high"] > 0
    assert session["pendingGate"]["kind"] == "plan"
    assert not list(world.settings.data_dir.rglob("answers-*.jsonl"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"weakModel": None}, "Which is the weak one?"),
        ({"weakModel": "tiny-tools-v1"}, "The strong and the weak model are both"),
        ({"method": "sft"}, "make preference pairs, which sft cannot train on"),
        ({"strongModel": "tiny-toolz-v1"}, "Did you mean accounts/tunesmith/models/tiny-tools-v1"),
        ({"strongModel": None, "weakModel": None, "method": "dpo"}, "`X as the strong model and Y as the weak model`"),
        ({"evaluationDataset": "sums"}, "the pairs that I am to make are not"),
    ],
)
async def test_what_is_missing_is_asked(world: World, change: dict[str, Any], words: str) -> None:
    prepare(world)
    world.start({**DELTA, **change})
    async with world.worker():
        session = await world.rests()
    assert session["pendingGate"]["kind"] == "question"
    assert words in session["pendingGate"]["text"]
