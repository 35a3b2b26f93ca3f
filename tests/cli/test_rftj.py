"""What the job commands print, against a platform whose answers are given: states that a real one passes through quickly."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tunesmith.cli import rftj, status

JOB: dict[str, Any] = {
    "name": "accounts/local/reinforcementFineTuningJobs/j",
    "state": "JOB_STATE_RUNNING",
    "jobProgress": {"percent": 7, "epoch": 1},
    "run": {"step": 1, "total_steps": 9, "mean_score": 0.7909722222222216, "best_version": 1, "best_score": None},
    "processes": [{"name": "learner", "pid": 4711, "peak_rss_mib": 312.4}],
}


class Platform(ThreadingHTTPServer):
    """One job; after a DELETE it is found `lingers` more times."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.job: dict[str, Any] | None = dict(JOB)
        self.lingers: int | None = None
        self.cancelled = 0


class _Handler(BaseHTTPRequestHandler):
    server: Platform  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        if self.server.lingers is not None:
            self.server.lingers -= 1
            if self.server.lingers < 0:
                self.server.job = None
        job = self.server.job
        if self.path == "/health":
            self._answer(200, {})
        elif "?" in self.path:
            self._answer(200, {"reinforcementFineTuningJobs": [job] if job else []})
        else:
            self._answer(200 if job else 404, job or {"code": 5, "message": "There is no job j."})

    def do_POST(self) -> None:
        self.server.cancelled += 1
        self._answer(200, {})

    def do_DELETE(self) -> None:
        self.server.lingers = 2
        self._answer(200, {})

    def _answer(self, code: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    with Platform() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("HOME", str(tmp_path))
        (tmp_path / ".tunesmith").mkdir()
        profile = {"api_base": f"http://127.0.0.1:{server.server_port}", "api_key": "k", "account_id": "local"}
        (tmp_path / ".tunesmith" / "profile.json").write_text(json.dumps(profile))
        yield server
        server.shutdown()
        thread.join()


def said(*arguments: str) -> str:
    done = CliRunner().invoke(rftj.command, arguments)
    assert done.exit_code == 0, done.output
    return done.output


def test_cancel_says_when_there_is_nothing_to_cancel(platform: Platform) -> None:
    assert said("cancel", "j").startswith("Cancelling j")
    assert platform.cancelled == 1
    platform.job = {**JOB, "state": "JOB_STATE_COMPLETED", "completedTime": "2026-01-01T00:00:00Z"}
    assert said("cancel", "j") == "j has ended already (COMPLETED); there is nothing to cancel.\n"


def test_deleted_means_gone(platform: Platform) -> None:
    assert said("delete", "j") == "Deleted j.\n"
    assert platform.job is None


def test_delete_does_not_wait_for_ever(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rftj, "_DELETE_SECONDS", 0.1)
    assert said("delete", "j").startswith("Deleting j;")
    assert platform.job is not None


def test_a_best_version_without_a_score_has_none(platform: Platform) -> None:
    shown = said("get", "j")
    assert "Best        version 1\n" in shown
    assert "Mean score  0.791\n" in shown
    platform.job = {**JOB, "run": {**JOB["run"], "best_score": 0.5}}
    assert "Best        version 1, score 0.500\n" in said("get", "j")


@pytest.mark.usefixtures("platform")
def test_status_shows_the_processes_of_running_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "running_processes", lambda _: [])
    done = CliRunner().invoke(status.command, ["--data-dir", str(tmp_path)])
    assert "RUNNING 7 %" in done.output
    learner = next(line for line in done.output.splitlines() if "learner" in line)
    assert learner.split() == ["learner", "pid", "4711", "peak", "312", "MiB"]
