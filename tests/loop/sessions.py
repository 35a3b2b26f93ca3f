"""Sessions of the Agent as a person drives them: the command line, and what the API shows of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.error
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.loop.platform import BIN, REPO, Platform

ROOT = "/v1/accounts/local"
ENDED = {"succeeded", "failed", "cancelled"}
PROBLEMS = REPO / "examples" / "sft" / "problems.jsonl"


def tunesmith(platform: Platform, *words: object, fails: bool = False) -> str:
    """What a command printed; `fails`: it must end with a status other than 0, and without a stack trace."""
    ended: subprocess.CompletedProcess[str] = platform.run(BIN / "tunesmith", *words, cwd=platform.home)
    assert (ended.returncode != 0) == fails, ended.stdout
    assert "Traceback" not in ended.stdout, ended.stdout
    return ended.stdout


def dataset(platform: Platform, identity: str, rows: list[dict[str, Any]]) -> None:
    """A dataset with these rows."""
    file = platform.home / f"{identity}.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    tunesmith(platform, "dataset", "create", identity, file)


def problems(count: int) -> list[dict[str, Any]]:
    """The first rows of the Agent's example."""
    return [json.loads(line) for line in PROBLEMS.read_text().splitlines()[:count]]


def plan_file(platform: Platform, identity: str, plan: dict[str, Any]) -> Path:
    """The plan as a file (JSON is YAML)."""
    file = platform.home / f"{identity}-plan.yaml"
    file.write_text(json.dumps(plan))
    return file


def get(platform: Platform, identity: str) -> dict[str, Any]:
    """The session as it is now."""
    return platform.get(f"{ROOT}/sessions/{identity}")


def found(platform: Platform, identity: str) -> dict[str, Any] | None:
    """The session as it is now; None while the web process is being started again."""
    try:
        return get(platform, identity)
    except urllib.error.HTTPError:
        raise
    except (OSError, ValueError):
        return None


def rests(platform: Platform, identity: str, seconds: float = 300) -> dict[str, Any]:
    """The session once it waits or has ended."""
    return until(platform, identity, lambda session: session["state"] != "running", seconds)


def until(
    platform: Platform, identity: str, ready: Callable[[dict[str, Any]], bool], seconds: float = 300
) -> dict[str, Any]:
    """The session once it is `ready`."""
    deadline, session = time.monotonic() + seconds, None
    while time.monotonic() < deadline:
        session = found(platform, identity)
        if session is not None and ready(session):
            return session
        time.sleep(0.1)
    raise AssertionError(f"session {identity} stays as it is: {session}")


def say(platform: Platform, identity: str, words: str) -> dict[str, Any]:
    """Send a message; the session once it waits or has ended."""
    tunesmith(platform, "session", "send", identity, words)
    return rests(platform, identity)


def events(platform: Platform, identity: str) -> list[dict[str, Any]]:
    """The whole history, which must be numbered without gaps, and tell of nothing twice."""
    listed = platform.get(f"{ROOT}/sessions/{identity}/events?pageSize=1000")["events"]
    assert [event["sequence"] for event in listed] == list(range(1, len(listed) + 1))
    said = Counter(event["text"] for event in listed if event["kind"] not in ("user_message", "answer"))
    assert not said or max(said.values()) == 1, said.most_common(3)
    return listed


def texts(platform: Platform, identity: str, kind: str) -> list[str]:
    """The lines of one kind."""
    return [event["text"] for event in events(platform, identity) if event["kind"] == kind]


def kill_worker(platform: Platform) -> None:
    """kill -9; the supervisor starts another one."""
    running = json.loads((platform.data_dir / "supervisor.json").read_text())["processes"]
    os.kill(next(each["pid"] for each in running if each["name"] == "worker"), signal.SIGKILL)
