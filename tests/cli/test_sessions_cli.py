"""`tunesmith session` against a real web process, and its reading of events against a connection that breaks."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tunesmith.agent.document import EventKind, State
from tunesmith.cli import main, session_events
from tunesmith.cli.profile import Profile
from tunesmith.cli.sessions import read_plan, save_report
from tunesmith.db import sessions as table
from tunesmith.errors import InvalidArgument, Unavailable

from tests.server.conftest import Platform

NAME = "accounts/local/sessions/s1"


def run(*arguments: str, **options: Any) -> Result:
    return CliRunner().invoke(main, ["session", *arguments], **options)


def ok(*arguments: str, **options: Any) -> str:
    result = run(*arguments, **options)
    assert result.exit_code == 0, result.output
    return result.stdout


def act(served: Platform, state: State, kind: EventKind, text: str, key: str, **changes: Any) -> None:
    """What the handler does in one step: a new document with the event that tells of it."""
    with served.control.sessions.begin() as session:
        document, revision = table.read(session, NAME)
        table.write(session, NAME, document.model_copy(update=changes), revision, state=state)
        table.append_event(session, NAME, key, kind, text)


def test_from_create_to_delete(served: Platform, tmp_path: Path) -> None:
    served.dataset("math")
    words = "Run SFT on accounts/local/datasets/math with tiny-math-v1 for 2 epochs."
    assert ok("create", "--instruction", words, "--session-id", "s1").strip() == "Session ID: s1"
    act(served, State.WAITING, EventKind.STATUS_INFO, "Looked at the data.\nIt is fine.", "looked")
    lines = ok("events", "s1", "--wait").splitlines()
    assert lines[-1] == "[done] session status: waiting"
    assert lines[-2] == "It is fine."
    assert lines[-3][22:] == "status_info: Looked at the data."
    assert json.loads(ok("events", "s1", "--json").splitlines()[-1])["kind"] == "status_info"
    assert "s1" in ok("list", "--filter", "status=waiting")
    assert ok("list", "--filter", "status=failed").startswith("No sessions")
    assert "waiting" in ok("get", "s1")

    said = ok("send", "s1", "Which base models do you support for SFT?").splitlines()
    assert "user_message: Which base models" in said[0]
    assert said[-1].startswith("[done] session status: ")
    assert "It is fine." not in said

    assert run("update", "s1", "--display-name", "Mine", input="n\n").exit_code == 1
    assert "Mine" in ok("update", "s1", "--display-name", "Mine", "--yes")
    assert run("cancel", "s1", input="").exit_code == 1
    assert json.loads(ok("get", "s1", "--json"))["state"] != "cancelled"
    ok("cancel", "s1", input="y\n")
    assert "ended already" in ok("cancel", "s1", "--yes")
    stopped = run("events", "s1", "--wait")
    assert (stopped.exit_code, stopped.stdout.splitlines()[-1]) == (1, "[done] session status: cancelled")
    ok("delete", "s1", "--yes")
    assert "session" in run("get", "s1").output
    assert run("get", "s1").exit_code == 1


def test_a_report_is_saved_with_its_pictures(served: Platform, tmp_path: Path) -> None:
    ok("create", "--instruction", "Run SFT on accounts/local/datasets/math.", "--session-id", "s1")
    early = run("get", "s1", "--report", str(tmp_path / "final_report.md"))
    assert (early.exit_code, list(tmp_path.glob("*.md"))) == (1, [])
    report, figures = "# Report\n\n![loss](loss.svg) ![again](loss.svg)\n", {"loss.svg": "<svg/>"}
    act(served, State.SUCCEEDED, EventKind.RESULT, "done", "end", report=report, figures=figures)
    out = tmp_path / "out"
    out.mkdir()
    ok("get", "s1", "--report", str(out / "final_report.md"))
    assert (out / "final_report.md").read_text() == report
    assert (out / "loss.svg").read_text() == "<svg/>"
    assert "cannot be written" in run("get", "s1", "--report", str(tmp_path / "none" / "r.md")).output


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("dataset: accounts/local/datasets/math\ngrid: [{learning_rate: 1e-4, rank: 8}]\n", 1e-4),
        ('{\n\t"dataset": "accounts/local/datasets/math",\n\t"grid": [{"learning_rate": 2e-3, "rank": 8}]}', 2e-3),
        ("dataset: accounts/local/datasets/math\ngrid: [{learning_rate: 5E-5, rank: 8}]", 5e-5),
    ],
)
def test_a_plan_is_read_as_people_write_it(tmp_path: Path, text: str, rate: float) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(text)
    plan = read_plan(file)
    assert plan["dataset"] == "accounts/local/datasets/math"
    assert plan["grid"] == [{"learning_rate": rate, "rank": 8}]


@pytest.mark.parametrize("text", ["- a\n", "a: [", "!!python/object/apply:os.getcwd []"])
def test_what_is_no_plan_is_refused_by_its_name(tmp_path: Path, text: str) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(text)
    with pytest.raises(InvalidArgument, match=r"plan\.yaml"):
        read_plan(file)
    with pytest.raises(InvalidArgument, match="cannot be read"):
        read_plan(tmp_path / "none")


def test_what_to_do_must_be_said(served: Platform) -> None:
    assert "--instruction" in run("create").output
    assert "either" in run("send", "s1").output


class Breaking(ThreadingHTTPServer):
    """Three events and an end, one connection each; what it was asked to go on behind."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[int] = []
        self.busy = True


class _Handler(BaseHTTPRequestHandler):
    server: Breaking  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        after = int(self.headers["Last-Event-ID"])
        self.server.asked.append(after)
        if after == 2 and self.server.busy:
            self.server.busy = False
            self.send_error(503)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        event = {
            "sequence": after + 1,
            "time": "2026-11-22T10:00:00.000Z",
            "kind": "status_info",
            "text": f"n{after + 1}",
        }
        self.wfile.write(f": here\n\nid: {after + 1}\nevent: status_info\ndata: {json.dumps(event)}\n\n".encode())
        last = after == 2
        self.wfile.write(b'event: done\ndata: {"state": "waiting"}\n\n' if last else b"event: status_info\ndata: {cut")

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def breaking(monkeypatch: pytest.MonkeyPatch) -> Iterator[Breaking]:
    monkeypatch.setattr(session_events, "_FIRST_PAUSE", 0.01)
    server = Breaking()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join(5)


def test_a_broken_connection_goes_on_behind_what_was_printed(
    breaking: Breaking, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = Profile(f"http://127.0.0.1:{breaking.server_port}", "key", "local")
    ended = session_events.print_followed(profile, "/s", 0, as_json=False)
    shown = capsys.readouterr()
    assert [line.rsplit(" ", 1)[-1] for line in shown.out.splitlines()] == ["n1", "n2", "n3", "waiting"]
    assert ended == {"state": "waiting"}
    assert breaking.asked == [0, 1, 2, 2]
    assert "trying again" in shown.err


def test_nobody_there_at_all_is_said_at_once() -> None:
    with pytest.raises(Unavailable, match="tunesmith up"):
        session_events.print_followed(Profile("http://127.0.0.1:9", "key", "local"), "/s", 0, as_json=False)


def test_a_reports_pictures_lie_beside_it_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[str] = []

    def fetch(_profile: Profile, _method: str, path: str) -> bytes:
        asked.append(path)
        return (
            b"![a](../../x/evil.svg) ![b](..) ![c](https://e.org/c.svg) ![d](./d.svg)"
            if path == "/s/report"
            else b"picture"
        )

    monkeypatch.setattr("tunesmith.cli.sessions.fetch", fetch)
    saved = save_report(Profile("", "", ""), "/s", tmp_path / "r.md")
    assert saved == [tmp_path / "r.md", tmp_path / "d.svg"]
    assert asked == ["/s/report", "/s/report/d.svg"]


def test_control_characters_of_rows_do_not_reach_the_terminal() -> None:
    event = {"time": "2026-11-22T10:00:00Z", "kind": "status_info", "text": "Labels: \x1b]0;evil\x07 é\nnext"}
    line = session_events.line_of(event)
    assert line.endswith("status_info: Labels: \\x1b]0;evil\\x07 é\nnext")


def scored(file: Path, scores: list[float | None]) -> str:
    lines = [{"evaluation_result": {"score": one or 0.0, "is_score_valid": one is not None}} for one in scores]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(file)


def test_scored_rows_are_compared_as_the_report_compares_them(tmp_path: Path) -> None:
    base = scored(tmp_path / "base.jsonl", [0.0, 1.0, 0.0, 0.0, None])
    tuned = scored(tmp_path / "tuned.jsonl", [1.0, 1.0, 1.0, 1.0, 1.0])
    found = json.loads(ok("compare", base, tuned, "--json"))
    assert (found["base"]["mean"], found["base"]["invalid"]) == (0.25, 1)
    assert found["difference"]["mean"] == 0.75
    assert found["pValue"] == pytest.approx(
        1 / 2**3
    )  # three rows differ, all one way: two sides of 1/8, counted half (mid-p)
    assert "p-value, two-sided: 0.125" in ok("compare", base, tuned)


def test_files_that_are_not_scored_rows_are_named(tmp_path: Path) -> None:
    one = scored(tmp_path / "one.jsonl", [1.0])
    (tmp_path / "rows.jsonl").write_text('{"messages": []}\n')
    assert "rows.jsonl, line 1" in run("compare", one, str(tmp_path / "rows.jsonl")).output
    assert "not scored on the same rows" in run("compare", one, scored(tmp_path / "two.jsonl", [1.0, 0.0])).output
