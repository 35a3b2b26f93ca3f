"""Rows and commands for tests of whole SFT and DPO jobs."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

from tests.loop.platform import REPO, Platform
from tests.loop.projects import BASE

NAMES = ("Omar", "Paul", "Leo", "Mei", "Ken", "Tom", "Ivan", "Sara")
THINGS = ("pears", "books", "shells", "cherries")
QUESTION = "Omar has 5 pears. Omar buys 4 more. How many pears are there?"
FORM = re.compile(r"= \d+ \w+")
"""How every answer of `chats` reads. The base model reasons first."""


def chats(count: int = 44, seed: int = 1) -> list[dict[str, Any]]:
    """Sums whose answers have a form that the base model does not use."""
    rng = random.Random(seed)
    rows = []
    for _ in range(count):
        name, thing = rng.choice(NAMES), rng.choice(THINGS)
        a, b = rng.randint(2, 30), rng.randint(2, 30)
        question = f"{name} has {a} {thing}. {name} buys {b} more. How many {thing} are there?"
        rows.append(chat(question, f"= {a + b} {thing}"))
    return rows


def chat(question: str, answer: str) -> dict[str, Any]:
    """A row of SFT data."""
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def pair(question: str, preferred: str, other: str) -> dict[str, Any]:
    """A row of preference data."""
    return {
        "input": {"messages": [{"role": "user", "content": question}]},
        "preferred_output": [{"role": "assistant", "content": preferred}],
        "non_preferred_output": [{"role": "assistant", "content": other}],
    }


def pairs(count: int = 30) -> list[dict[str, Any]]:
    """The form of `chats` against none."""
    return [
        pair(row["messages"][0]["content"], row["messages"][1]["content"], "I cannot tell.") for row in chats(count)
    ]


def run(platform: Platform, *arguments: object, status: int = 0) -> str:
    """A `tunesmith` command that ends with this status; what it printed, without a stack trace."""
    ended = platform.run("tunesmith", *arguments, cwd=REPO)
    assert ended.returncode == status, ended.stdout
    assert "Traceback" not in ended.stdout
    return ended.stdout


def upload(platform: Platform, folder: Path, dataset: str, rows: list[Any], status: int = 0) -> str:
    """`tunesmith dataset create` of rows; a row that is a string is a line as it is."""
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path = folder / f"{dataset}.jsonl"
    path.write_text("".join(line + "\n" for line in lines))
    return run(platform, "dataset", "create", dataset, path, status=status)


def create(platform: Platform, command: str, job: str, dataset: str, *flags: object, status: int = 0) -> str:
    """`tunesmith sftj create --wait`, or `dpoj`; a base model unless the flags name one or a warm start."""
    start = () if {"--base-model", "--warm-start-from"} & set(flags) else ("--base-model", BASE)
    arguments = (command, "create", *start, "--dataset", dataset, "--job-id", job, *flags)
    return run(platform, *arguments, "--wait", status=status)


def get(platform: Platform, command: str, job: str) -> dict[str, Any]:
    """`tunesmith sftj get`, or `dpoj`."""
    return json.loads(run(platform, command, "get", job, "--json"))


def metrics(platform: Platform, command: str, job: str) -> list[dict[str, Any]]:
    """The job's metrics file."""
    return [json.loads(line) for line in run(platform, command, "metrics", job).splitlines()]


def says(platform: Platform, model: str) -> str:
    """The greedy answer to `QUESTION`."""
    return platform.chat(model, QUESTION, temperature=0, max_tokens=40)["choices"][0]["message"]["content"]


def sha256(platform: Platform, model: str) -> str:
    """Of the weights that a job made."""
    return json.loads(run(platform, "model", "get", model, "--json"))["sha256"]
