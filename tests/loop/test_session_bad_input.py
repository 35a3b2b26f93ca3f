"""What people get wrong with sessions, through `tunesmith up` and the command line: a clear answer each time, and nothing lost."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
from typing import Any

import pytest

from tests.loop import sessions
from tests.loop.platform import BIN, Platform
from tests.loop.sessions import ROOT, say, tunesmith

ROWS = 60
PLAN: dict[str, Any] = {
    "dataset": "bad-input",
    "baseModels": ["tiny-math-v1"],
    "grid": {"points": [{"loraRank": 4, "learningRate": 1e-3}]},
    "epochs": 1,
    "evaluation": {"path": "validation_loss"},
}
WHOLE = "SFT on accounts/local/datasets/bad-input with tiny-math-v1, learning rate 1e-3, LoRA rank 4, 1 epoch"


@pytest.fixture(scope="module", autouse=True)
def data(platform: Platform) -> None:
    """Datasets: one that fits, one that is too small to split, and one whose rows have no answers."""
    rows = sessions.problems(ROWS)
    sessions.dataset(platform, "bad-input", rows)
    sessions.dataset(platform, "bad-input-few", rows[:8])
    asked = [{"messages": [each for each in row["messages"] if each["role"] != "assistant"]} for row in rows]
    sessions.dataset(platform, "bad-input-prompts", asked)


def start(platform: Platform, identity: str, plan: dict[str, Any]) -> dict[str, Any]:
    """A session from a plan, once it waits or has ended."""
    file = sessions.plan_file(platform, identity, plan)
    tunesmith(platform, "session", "create", "--session-id", identity, "--plan", file)
    return sessions.rests(platform, identity)


def test_what_an_instruction_gets_wrong_is_asked_about(platform: Platform) -> None:
    cases = {
        "no-data": ("Run SFT on accounts/local/datasets/bad-inputs with tiny-math-v1", "Did you mean"),
        "no-model": ("Run SFT on accounts/local/datasets/bad-input with tiny-math-v9", "Which base model"),
        "rl": (
            "Run reinforcement fine-tuning on accounts/local/datasets/bad-input with tiny-math-v1",
            "is a job of its own",
        ),
        "rank": (WHOLE.replace("rank 4", "rank 4096"), "outside valid range"),
        "rate": (WHOLE.replace("1e-3", "7"), "learning rate"),
        "two-epochs": (f"{WHOLE}, and 3 epochs", "Which number of epochs shall I use?"),
        "two-paths": (f"{WHOLE}. Use validation loss and generate an evaluator.", "Which way to compare candidates"),
        "evaluator": (f"{WHOLE}. Use evaluator accounts/local/evaluators/none-such.", "There is no evaluator"),
        "control": (f"{WHOLE}, \x07\x1b[31mbe quick", "I did not understand"),
    }
    for name, (instruction, _) in cases.items():
        tunesmith(platform, "session", "create", "--session-id", f"bad-{name}", "--instruction", instruction)
    for name, (_, expected) in cases.items():
        session = sessions.rests(platform, f"bad-{name}")
        assert session["pendingGate"]["kind"] == "question", (name, session)
        assert expected in session["pendingGate"]["text"], (name, session["pendingGate"]["text"])
        said = tunesmith(platform, "session", "send", f"bad-{name}", "Approved, proceed.", fails=True)
        assert "There is no plan to approve yet" in said
    jobs = platform.get(f"{ROOT}/supervisedFineTuningJobs?pageSize=200")["supervisedFineTuningJobs"]
    assert not [job for job in jobs if "-bad-" in job["name"]]


def test_what_is_put_right_goes_on(platform: Platform) -> None:
    assert "Did you mean" in start(platform, "mended", {**PLAN, "dataset": "bad-imput"})["pendingGate"]["text"]
    session = say(platform, "mended", "use accounts/local/datasets/bad-input")
    assert session["pendingGate"]["kind"] == "plan"
    assert (
        "Which dataset shall I use?"
        in start(platform, "few", {**PLAN, "dataset": "bad-input-few"})["pendingGate"]["text"]
    )
    session = start(platform, "no-answers", {**PLAN, "evaluationDataset": "bad-input-prompts"})
    assert session["pendingGate"]["kind"] == "question"
    assert "bad-input-prompts" in session["pendingGate"]["text"]


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        ("dataset: x\n  baseModels: [y\n", "neither YAML nor JSON"),
        ("- dataset\n", "must be one object"),
        ("datset: x\nepochs: -1\n", "plan.datset: unknown field"),
        ("grid: {points: [{loraRank: 8, learningRate: .nan}]}\n", "finite"),
        ("grid: {loraRanks: [eight]}\n", "plan.grid.loraRanks"),
    ],
)
def test_plan_that_is_none_is_refused_and_makes_no_session(platform: Platform, plan: str, expected: str) -> None:
    file = platform.home / "broken.yaml"
    file.write_text(plan)
    said = tunesmith(platform, "session", "create", "--session-id", "broken", "--plan", file, fails=True)
    assert expected in said
    assert "There is no session" in tunesmith(platform, "session", "get", "broken", fails=True)


def test_huge_and_empty_instructions_are_refused(platform: Platform) -> None:
    assert "20000" in tunesmith(platform, "session", "create", "--instruction", "x" * 30_000, fails=True)
    assert "Say what to do" in tunesmith(platform, "session", "create", "--instruction", "", fails=True)
    assert "There is no session" in tunesmith(platform, "session", "send", "none-such", "hello", fails=True)


def test_of_many_approvals_one_wins_and_an_ended_session_takes_no_message(platform: Platform) -> None:
    assert start(platform, "race", {**PLAN, "approvals": {"promotion": False}})["pendingGate"]["kind"] == "plan"
    answers: list[str] = []

    def approve() -> None:
        try:
            platform.request("POST", f"{ROOT}/sessions/race:send", {"message": "Approved, proceed."})
            answers.append("")
        except urllib.error.HTTPError as error:
            answers.append(json.loads(error.read())["message"])

    threads = [threading.Thread(target=approve) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers.count("") == 1
    refused = [each for each in answers if each]
    assert all("approved already" in each for each in refused), refused
    said = tunesmith(platform, "session", "send", "race", "use 3 epochs instead", fails=True)
    assert "cannot be changed any more" in said
    tunesmith(platform, "session", "cancel", "race", "--yes")
    assert sessions.get(platform, "race")["state"] == "cancelled"
    assert "has ended" in tunesmith(platform, "session", "send", "race", "Approved, proceed.", fails=True)
    assert sessions.texts(platform, "race", "user_message") == ["Approved, proceed."]


def end_candidate(platform: Platform, identity: str) -> None:
    """Cancel a training job as soon as it is there."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            platform.request("POST", f"{ROOT}/supervisedFineTuningJobs/{identity}:cancel", {})
            return
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            time.sleep(0.05)
    raise AssertionError(f"{identity} was never created")


def test_candidates_that_fail_are_left_out_until_none_is_left(platform: Platform) -> None:
    two = {"points": [{"loraRank": rank, "learningRate": 5e-3} for rank in (4, 8)]}
    unasked = {"approvals": {"plan": False}}
    for identity, grid in (("one-fails", two), ("all-fail", PLAN["grid"])):
        file = sessions.plan_file(platform, identity, {**PLAN, **unasked, "grid": grid})
        tunesmith(platform, "session", "create", "--session-id", identity, "--plan", file)
        end_candidate(platform, f"sft-{identity}-c1")
    session = sessions.rests(platform, "all-fail")
    assert session["state"] == "failed"
    assert session["status"]["message"].startswith("The only candidate failed. candidate 1: ")
    assert tunesmith(platform, "session", "events", "all-fail").rstrip().splitlines()[-1].count("error: ") == 1
    session = sessions.rests(platform, "one-fails")
    assert (session["pendingGate"]["kind"], session["winner"]) == ("promotion", 2)
    assert len(sessions.texts(platform, "one-fails", "warning")) == 1
    assert "has no model" in tunesmith(platform, "session", "send", "one-fails", "use candidate 1", fails=True)
    assert "There is no candidate 7" in tunesmith(
        platform, "session", "send", "one-fails", "use candidate 7", fails=True
    )
    session = say(platform, "one-fails", "stop here")
    assert (session["state"], session["winner"]) == ("succeeded", 0)


def test_six_candidates_that_learn_nothing_have_no_winner_and_one_may_be_taken_all_the_same(platform: Platform) -> None:
    points = [{"loraRank": rank, "learningRate": 0} for rank in (1, 2, 4, 8, 16, 32)]
    plan = {**PLAN, "grid": {"points": points}, "subsample": 10, "finalRun": False, "deploy": False}
    start(platform, "nothing", plan)
    session = say(platform, "nothing", "Approved, proceed.")
    assert session["winner"] == 0
    assert session["pendingGate"]["text"].startswith("I propose to stop")
    assert [each["better"] for each in session["candidates"] if each["number"]] == [False] * 6
    said = tunesmith(platform, "session", "send", "nothing", "Proceed with the winning config.", fails=True)
    assert "There is no winner" in said
    session = say(platform, "nothing", "use candidate 3")
    assert (session["state"], session["winner"]) == ("succeeded", 3)
    assert session["heldOut"]["difference"]["mean"] == 0
    assert "A person chose candidate 3" in session["reason"]


def test_pilot_key_ends_nothing(platform: Platform) -> None:
    start(platform, "piloted", PLAN)
    tunesmith(
        platform, "user", "create", "bad-input-pilot", "--service-account", "--permission-preset", "pilot", "--json"
    )
    key = tunesmith(platform, "api-key", "create", "bad-input-pilot").strip()
    for verb in ("cancel", "delete"):
        argv = (BIN / "tunesmith", "session", verb, "piloted", "--yes")
        ended = platform.run(*argv, cwd=platform.home, env={"TUNESMITH_API_KEY": key})
        assert ended.returncode != 0, ended.stdout
        assert "pilot" in ended.stdout, ended.stdout
    assert sessions.get(platform, "piloted")["state"] == "waiting"
