"""The other workflows of the Agent, each from a plan to its report: preferences, delta learning, classification, the user's own evaluator.

Three sessions run side by side on one platform, as those of three people would; delta learning takes the model of one of them for
the strong one.
"""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.loop import projects, sessions, tuning
from tests.loop.platform import BIN, Platform
from tests.loop.sessions import ROOT, tunesmith

SORTS = {"pears": "1", "cherries": "1", "books": "2", "shells": "2"}
"""Labels may be numbers where a classification is asked for."""
FORM = projects.HEADER + (
    "    import re\n    score = float(re.fullmatch(r'= \\d+ \\w+', text.strip()) is not None)\n" + projects.FOOTER
)
"""An evaluator of the user's: whether the answer reads as those of the data do."""
POINT = {"loraRank": 8, "learningRate": 5e-3}
UNASKED: dict[str, Any] = {
    "approvals": {"plan": False, "promotion": False},
    "baseModels": ["tiny-math-v1"],
    "deploy": False,
}
PLANS: dict[str, dict[str, Any]] = {
    "form": {
        "dataset": "form-rows",
        "evaluationDataset": "form-more",
        "baseModels": ["tiny-math-v1", "tiny-tools-v1"],
        "grid": {"points": [POINT]},
        "epochs": 5,
        "evaluation": {"path": "evaluator", "evaluator": "form"},
        "finalRun": False,
    },
    "labels": {
        "method": "classification",
        "dataset": "label-rows",
        "grid": {"points": [{"loraRank": 0, "learningRate": 1e-3}, {"loraRank": 8, "learningRate": 2e-3}]},
        "epochs": 4,
        "batchSizeSamples": 16,
    },
    "pairs": {"dataset": "pair-rows", "grid": {"points": [POINT], "betas": [0.1, 0.3]}, "epochs": 2},
    "delta": {
        "method": "dpo",
        "dataset": "prompts",
        "strongModel": "sft-form-c1",
        "weakModel": "tiny-math-v1",
        "grid": {"points": [POINT]},
        "epochs": 2,
    },
}


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    with tempfile.TemporaryDirectory(prefix="ts") as home, Platform(Path(home) / "h") as running:
        sessions.dataset(running, "form-rows", tuning.chats(60))
        sessions.dataset(running, "form-more", tuning.chats(12, seed=2))
        sessions.dataset(running, "label-rows", labelled(160))
        sessions.dataset(running, "pair-rows", tuning.pairs(100))
        sessions.dataset(running, "prompts", [{"messages": row["messages"][:1]} for row in tuning.chats(80, seed=3)])
        project = projects.write(Path(home) / "form", source=FORM)
        uploaded = running.run(BIN / "ep", "upload", "--yes", "--id", "form", "--wait", cwd=project)
        assert uploaded.returncode == 0, uploaded.stdout
        for identity in ("form", "labels", "pairs"):
            start(running, identity)
        yield running


def labelled(count: int) -> list[dict[str, Any]]:
    """Sums, labelled with the sort of the things that are counted."""
    found = []
    for row in tuning.chats(count, seed=4):
        question = row["messages"][0]["content"]
        found.append(tuning.chat(question, next(sort for thing, sort in SORTS.items() if thing in question)))
    return found


def start(platform: Platform, identity: str) -> None:
    plan = sessions.plan_file(platform, identity, {**UNASKED, **PLANS[identity]})
    tunesmith(platform, "session", "create", "--session-id", identity, "--plan", plan)


def answered(platform: Platform, role: str) -> list[int]:
    """Lines of the dataset whose prompts a model has answered so far."""
    file = platform.data_dir / "sessions" / "delta" / "data" / f"answers-{role}.jsonl"
    whole = [line for line in (file.read_bytes() if file.exists() else b"").splitlines(True) if line.endswith(b"\n")]
    return [json.loads(line)["line"] for line in whole]


def wait_for_answers(platform: Platform, role: str) -> None:
    deadline = time.monotonic() + 120
    while not answered(platform, role):
        assert time.monotonic() < deadline, sessions.events(platform, "delta")[-3:]
        time.sleep(0.01)


def ended(platform: Platform, identity: str) -> tuple[dict[str, Any], str]:
    """(the session, which must have succeeded, its report)."""
    session = sessions.rests(platform, identity)
    assert session["state"] == "succeeded", (session, sessions.events(platform, identity)[-3:])
    file = platform.home / identity / "final_report.md"
    file.parent.mkdir(exist_ok=True)
    tunesmith(platform, "session", "get", identity, "--report", file)
    return session, file.read_text()


def rows_of(platform: Platform, dataset: str) -> list[dict[str, Any]]:
    tunesmith(platform, "dataset", "download", dataset, "--output-dir", platform.home)
    file = platform.home / f"{dataset}.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_users_evaluator_compares_candidates_of_two_base_models(platform: Platform) -> None:
    session, report = ended(platform, "form")
    bases = {each["number"]: each for each in session["candidates"] if not each["number"]}
    tuned = [each for each in session["candidates"] if each["number"]]
    assert bases
    assert [each["candidate"]["baseModel"].rsplit("/", 1)[-1] for each in tuned] == ["tiny-math-v1", "tiny-tools-v1"]
    assert all(each["score"]["rows"] == 12 for each in session["candidates"])
    assert session["winner"] > 0
    winner = next(each for each in tuned if each["number"] == session["winner"])
    assert winner["better"]
    assert session["heldOut"]["metric"] == "score"
    assert session["heldOut"]["tuned"]["mean"] > session["heldOut"]["base"]["mean"]
    skipped = f"No full-data run: the plan skips it. The model of candidate {session['winner']} is the final one"
    assert any(text.startswith(skipped) for text in sessions.texts(platform, "form", "status_info"))
    assert "deployed" not in session
    assert "accounts/local/evaluators/form" in report
    jobs = platform.get(f"{ROOT}/supervisedFineTuningJobs?pageSize=200")["supervisedFineTuningJobs"]
    assert not [job for job in jobs if job["name"].endswith("sft-form-final")]


def test_classification_reports_accuracy_by_label_and_what_was_confused(platform: Platform) -> None:
    session, report = ended(platform, "labels")
    assert [each["candidate"]["loraRank"] for each in session["candidates"] if each["number"]] == [0, 8]
    assert session["winner"] > 0
    found = session["heldOut"]
    assert found["tuned"]["mean"] > found["base"]["mean"]
    for model in ("base", "tuned"):
        assert found["details"][model]["confusion"]
        assert set(found["details"][model]["labels"]) == {"1", "2"}
    assert re.search(r"\| *1 *\|", report)
    assert "label by label" in report


def test_preference_pairs_are_trained_on_and_compared_as_they_are(platform: Platform) -> None:
    session, report = ended(platform, "pairs")
    tuned = [each for each in session["candidates"] if each["number"]]
    assert [each["candidate"]["beta"] for each in tuned] == [0.1, 0.3]
    assert [each["run"]["job"].rsplit("/", 1)[-1] for each in tuned] == ["dpo-pairs-c1", "dpo-pairs-c2"]
    assert session["winner"] > 0
    assert session["heldOut"]["difference"]["mean"] < 0
    assert session["heldOut"]["details"]["preferenceAccuracy"] > 0.9
    assert "| Method | dpo |" in report


def test_delta_learning_makes_its_pairs_from_answers_of_both_models(platform: Platform) -> None:
    ended(platform, "form")
    start(platform, "delta")
    for role in ("strong", "weak"):
        wait_for_answers(platform, role)
        sessions.kill_worker(platform)
    session, report = ended(platform, "delta")
    for role in ("strong", "weak"):
        assert sorted(answered(platform, role)) == list(range(1, 81))  # each prompt once, whoever died meanwhile
    made = rows_of(platform, "ds-delta-pairs")
    assert 40 <= len(made) <= 80
    strong = [row["preferred_output"][0]["content"] for row in made]
    weak = [row["non_preferred_output"][0]["content"] for row in made]
    assert sum(tuning.FORM.search(text) is not None for text in strong) > 0.8 * len(made)
    assert not any(tuning.FORM.fullmatch(text) for text in weak)
    assert re.search(r"ds-delta-pairs", report)
    assert session["estimate"]["inferenceTokens"] > 0
    plan = next(text for text in sessions.texts(platform, "delta", "status_info") if text.startswith("The plan"))
    assert "accounts/local/models/sft-form-c1 and accounts/tunesmith/models/tiny-math-v1 answer every prompt" in plan
    assert session["winner"] > 0
    assert session["heldOut"]["difference"]["mean"] < 0
    displayed = platform.get(f"{ROOT}/datasets/ds-delta-pairs")["displayName"]
    assert re.search(r"pairs \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$", displayed)
