"""Bad input to SFT and DPO jobs through the public command line: each a clear error, and nothing lost."""

from __future__ import annotations

import json

import pytest

from tests.loop import tuning
from tests.loop.projects import BASE
from tests.loop.tuning import chat, create, get, pair, run, upload

GOOD = chat("2 + 2?", "4")
LONG = "word " * 6000
"""More than the context of the tiny model."""


def answered(**answer: object) -> dict:
    """A conversation whose answer has more fields, or others."""
    question, said = GOOD["messages"]
    return {"messages": [question, {**said, **answer}]}


def listed(platform) -> list[str]:
    return [job["name"] for command in ("sftj", "dpoj") for job in json.loads(run(platform, command, "list", "--json"))]


@pytest.fixture(scope="module", autouse=True)
def rows(platform, tmp_path_factory) -> None:
    folder = tmp_path_factory.mktemp("rows")
    upload(platform, folder, "bad-chats", tuning.chats(12))
    upload(platform, folder, "bad-pairs", tuning.pairs(12))


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ('{"messages": [', "invalid JSON on line 3"),
        (answered(role="robot"), 'message 1 on line 3 has the role "robot"'),
        ({"prompt": "2 + 2?"}, "Missing required field 'messages' on line 3"),
        (pair("2 + 2?", "4", "5"), "Rows of one dataset are of one kind"),
    ],
    ids=["broken line", "role", "no messages", "a pair among conversations"],
)
def test_rows_that_no_upload_takes(platform, tmp_path, row, expected):
    assert expected in upload(platform, tmp_path, "bad-rows", [GOOD, GOOD, row], status=1)
    start = ("sftj", "create", "--base-model", BASE, "--dataset", "bad-rows")
    assert expected in run(platform, *start, status=1), "who tries to train on them is told the same"
    upload(platform, tmp_path, "bad-rows", [GOOD] * 3)
    run(platform, "dataset", "delete", "bad-rows")


@pytest.mark.parametrize(
    ("command", "dataset", "rows", "expected"),
    [
        ("sftj", "weight-2", [GOOD, GOOD, answered(weight=2)], "weight 2; a message's weight is 0 or 1 (line 3)"),
        ("sftj", "some-weights", [GOOD, GOOD, {**GOOD, "weight": 2}], "must be on all rows or on none"),
        ("dpoj", "same", [pair("a?", "b", "c")] * 2 + [pair("a?", "b", "b")], "are the same answer"),
    ],
    ids=["weight 2", "weights on some rows", "a pair of the same answers"],
)
def test_rows_that_a_job_ends_with(platform, tmp_path, command, dataset, rows, expected):
    upload(platform, tmp_path, dataset, rows)
    said = create(platform, command, dataset, dataset, status=1)
    assert "FAILED: Dataset validation failed" in said
    assert expected in said
    assert "(line 3)" in said
    assert get(platform, command, dataset)["status"]["code"] == "FAILED_PRECONDITION"
    assert "no model" in run(platform, "model", "get", dataset, status=1)


def test_rows_that_have_nothing_to_train_are_counted(platform, tmp_path):
    upload(platform, tmp_path, "too-long", [GOOD, GOOD, GOOD, chat(LONG, "4"), answered(weight=0)])
    said = create(platform, "sftj", "too-long", "too-long", "--epochs", "1")
    assert "2 of 5 rows had no token to train on" in said
    assert get(platform, "sftj", "too-long")["run"]["rows_left_out"] == 2


def test_options_that_cannot_be_taken(platform, tmp_path):
    upload(platform, tmp_path, "bad-two", [GOOD] * 2)
    upload(platform, tmp_path, "bad-unanswered", [GOOD, GOOD, {"messages": GOOD["messages"][:1]}])

    before = listed(platform)

    def refuse(expected: str, *flags: object, command: str = "sftj", dataset: str = "bad-chats") -> None:
        start = () if "--warm-start-from" in flags else ("--base-model", BASE)
        said = run(platform, command, "create", *start, "--dataset", dataset, *flags, status=1)
        assert expected in said

    refuse("has 2 rows; a job needs 3 to 3,000,000", dataset="bad-two")
    refuse("row 3 of accounts/local/datasets/bad-unanswered has no message of the assistant", dataset="bad-unanswered")
    refuse("are preferences", dataset="bad-pairs")
    refuse("are conversations", command="dpoj")
    refuse("no dataset accounts/local/datasets/none", dataset="none")
    refuse("no dataset accounts/local/datasets/none", "--evaluation-dataset", "none")
    refuse("give one of them", "--evaluation-dataset", "bad-chats", "--eval-auto-carveout")
    refuse("Give exactly one of baseModel and warmStartFrom", "--base-model", BASE, "--warm-start-from", "none")
    refuse("no model accounts/local/models/none", "--warm-start-from", "none")
    refuse("outside valid range [0, 0.01]", "--learning-rate", "0.5")
    refuse("outside valid range {0, 1, 2, 4, 8, 16, 32}", "--lora-rank", "7")
    refuse("the upper end is the base model's context in tokens", "--max-context-length", "100000")
    refuse("outside valid range (0, 0.5)", "--beta", "0.5", command="dpoj", dataset="bad-pairs")
    assert listed(platform) == before, "nothing was made of any of them"


def test_names_that_are_taken_and_jobs_that_are_over(platform):
    create(platform, "sftj", "taken", "bad-chats")
    start = ("sftj", "create", "--base-model", BASE, "--dataset", "bad-chats", "--job-id")
    assert "exists already, with other options" in run(platform, *start, "taken", "--epochs", "2", status=1)
    assert "the model accounts/local/models/taken exists already" in run(
        platform, *start, "other", "--output-model", "taken", status=1
    )
    assert "nothing to cancel" in run(platform, "sftj", "cancel", "taken")
    assert "has completed; only a FAILED job can be resumed" in run(platform, "sftj", "resume", "taken", status=1)
    assert get(platform, "sftj", "taken")["state"] == "JOB_STATE_COMPLETED"
