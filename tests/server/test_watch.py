"""The stream of live changes: what it tells, that it can be cut at every event, and that it rests while nothing happens."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from sqlalchemy import text
from tunesmith.db.jobs import claim, enqueue, expire_leases, finish, renew, set_progress
from tunesmith.db.rollouts import add_events, add_rollouts
from tunesmith.db.tables import EvaluatorVersion, Job
from tunesmith.server import changes, topics
from tunesmith.server.routes import watch

from tests.server.conftest import ACCOUNT, Platform
from tests.server.test_rft_monitoring import NAME, rollout, spec

VERSION = "accounts/local/evaluators/e/versions/1"


@dataclass
class Listener:
    """A page that watches: its events as they come, in a thread of its own."""

    url: str
    headers: dict[str, str]
    events: list[tuple[str, str, Any]] = field(default_factory=list)
    """(id, kind, data)"""
    last_id: str = ""
    status: int = 0
    ended: bool = False
    _socket: socket.socket | None = None
    _thread: threading.Thread | None = None

    def start(self) -> Listener:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Cut the connection, as a closed page does."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
        assert self._thread is not None
        self._thread.join(20)

    def _run(self) -> None:
        where = urlsplit(self.url)
        connection = http.client.HTTPConnection(where.netloc, timeout=30)
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection.connect()
            self._socket = connection.sock
            connection.request("GET", f"{where.path}?{where.query}", headers=self.headers)
            response = connection.getresponse()
            self.status = response.status
            found: dict[str, str] = {}
            while line := response.readline():
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name:
                    found[name] = value
                    continue
                self.last_id = found.get("id", self.last_id)
                if "data" in found:
                    self.events.append((found["id"], found["event"], json.loads(found["data"])))
                found = {}
        connection.close()
        self.ended = True

    def until(self, kind: str, count: int = 1) -> list[Any]:
        """The data of the events of that kind, once there are so many."""
        self.until_true(lambda: len(self.of(kind)) >= count, f"{count} {kind}")
        return self.of(kind)

    def until_true(self, holds: Any, what: str) -> None:
        deadline = time.monotonic() + 20
        while not holds():
            assert time.monotonic() < deadline, f"no {what}: {[event[1:] for event in self.events][-5:]}"
            time.sleep(0.01)

    def of(self, kind: str) -> list[Any]:
        return [data for _, name, data in self.events if name == kind]

    def told(self) -> list[tuple[str, Any]]:
        """The events without their ids."""
        return [(kind, data) for _, kind, data in self.events]


@contextmanager
def watching(platform: Platform, *asked: str, after: str = "", key: str = "") -> Iterator[Listener]:
    query = "&".join(f"topic={topic}" for topic in asked)
    headers = {"Authorization": f"Bearer {key or platform.key}", **({"Last-Event-ID": after} if after else {})}
    listener = Listener(f"{platform.url}{ACCOUNT}/watch?{query}", headers).start()
    try:
        listener.until_true(lambda: listener.last_id or listener.ended, "beginning")
        yield listener
    finally:
        listener.stop()


@pytest.fixture
def running(platform: Platform) -> Platform:
    with platform.control.sessions.begin() as session:
        enqueue(session, NAME, "accounts/local", "rft", spec(), state="JOB_STATE_RUNNING")
        add_events(session, NAME, "events.jsonl", [(100, {"kind": "chunk", "n": 1}), (200, {"kind": "version"})])
        add_events(session, NAME, "metrics.jsonl", [(50, {"step": 0, "loss": float("nan")})])
        add_rollouts(session, NAME, "rollouts.jsonl", [(i, rollout(i, 0.5)) for i in range(3)])
    return platform


def _finish(platform: Platform) -> None:
    with platform.control.sessions.begin() as session:
        add_events(session, NAME, "events.jsonl", [(300, {"kind": "chunk", "n": 2})])
        add_rollouts(session, NAME, "rollouts.jsonl", [(i, rollout(i, 0.5)) for i in range(3, 5)])
        finish(session, NAME, "JOB_STATE_COMPLETED", {"code": "OK", "message": ""})


def test_a_page_hears_what_others_make_change_and_remove(platform: Platform) -> None:
    platform.dataset("before")
    with watching(platform, "changes") as page:
        name = platform.dataset("d")
        page.until_true(lambda: any(name in c["names"] for c in page.of("changed")), "dataset")
        assert {c["noun"] for c in page.of("changed")} == {"datasets"}
        platform.ok("POST", "/secrets", json={"name": "s", "keyName": "S", "value": "v"})
        page.until_true(lambda: page.of("changed")[-1]["noun"] == "secrets", "secret")
        heard = len(page.of("changed"))
        platform.ok("DELETE", "/datasets/before")
        page.until("changed", heard + 1)
        assert page.of("changed")[-1] == {"noun": "datasets", "names": []}
        with platform.control.sessions.begin() as session:
            enqueue(session, NAME, "accounts/local", "rft", spec())
        page.until_true(
            lambda: page.of("changed")[-1] == {"noun": "reinforcementFineTuningJobs", "names": [NAME]}, "job"
        )


def test_a_database_that_cannot_be_read_for_a_while_ends_no_stream(
    platform: Platform, caplog: pytest.LogCaptureFixture
) -> None:
    with watching(platform, "changes") as page:
        _rename(platform, "providers", "away")
        page.until_true(lambda: "could not be looked at" in caplog.text, "failed look")
        _rename(platform, "away", "providers")
        name = platform.dataset("d")
        page.until_true(lambda: any(name in c["names"] for c in page.of("changed")), "dataset")


def _rename(platform: Platform, table: str, new: str) -> None:
    with platform.control.sessions.begin() as session:
        session.execute(text(f"ALTER TABLE {table} RENAME TO {new}"))


def test_changes_between_two_streams_are_told_once(platform: Platform) -> None:
    with watching(platform, "changes") as page:
        pass
    first, second = platform.dataset("one"), platform.dataset("two")
    with watching(platform, "changes", after=page.last_id) as again:
        names = [name for change in again.until("changed") for name in change["names"]]
        assert sorted(names) == [first, second]
    with watching(platform, "changes", after=again.last_id) as third:
        platform.dataset("three")
        third.until("changed")
        assert [c["names"] for c in third.of("changed")] == [["accounts/local/datasets/three"]]


def test_a_position_of_another_process_has_the_page_look_at_everything(platform: Platform) -> None:
    with watching(platform, "changes") as page:
        pass
    position = base64.urlsafe_b64encode(json.dumps({"changes": ["00000000", 3]}).encode()).decode()
    assert position != page.last_id
    with watching(platform, "changes", after=position) as again:
        heard = again.until("changed", len(changes.NOUNS))
        assert {change["noun"] for change in heard} == set(changes.NOUNS)
        assert all(change["names"] == [] for change in heard)


def test_nobody_hears_of_another_account_or_of_what_they_may_not_list(platform: Platform) -> None:
    other = platform.make_key("accounts/b")
    platform.ok("POST", "/users?userId=ada", json={"role": "contributor"})
    key = platform.ok("POST", "/users/ada/apiKeys", json={"apiKey": {}})["key"]
    with watching(platform, "changes", key=key) as page:
        headers = {"Authorization": f"Bearer {other}"}
        body = {"dataset": {}, "datasetId": "theirs"}
        httpx2.post(f"{platform.url}/v1/accounts/b/datasets", json=body, headers=headers)
        platform.ok("POST", "/users?userId=eve", json={"role": "user"})
        platform.ok("POST", "/users/eve/apiKeys", json={"apiKey": {}})
        platform.dataset("ours")
        page.until_true(lambda: "datasets" in {c["noun"] for c in page.of("changed")}, "dataset")
        assert "theirs" not in str(page.events)
        assert {change["noun"] for change in page.of("changed")} <= {"datasets", "users"}
    platform.fails(403, "GET", "/watch?topic=jobs/accounts/b/reinforcementFineTuningJobs/x")
    assert platform.http.get("/v1/accounts/b/watch?topic=changes").status_code == 403


def test_a_jobs_story_is_told_to_its_end(running: Platform) -> None:
    with watching(running, f"jobs/{NAME}") as page:
        page.until("rollouts")
        assert page.of("events") == [
            {"job": NAME, "line": {"kind": "chunk", "n": 1}},
            {"job": NAME, "line": {"kind": "version"}},
        ]
        assert page.of("metrics") == [{"job": NAME, "line": {"step": 0, "loss": None}}]
        assert page.of("rollouts")[0] == {"job": NAME, "count": 3, "latest": "3"}
        assert page.of("job")[0]["job"]["state"] == "JOB_STATE_RUNNING"
        with running.control.sessions.begin() as session:
            set_progress(session, NAME, {"percent": 40, "run": {"step": 1}})
        assert page.until("job", 2)[1]["job"]["jobProgress"]["percent"] == 40
        assert page.of("end") == []
        _finish(running)
        assert page.until("end") == [{"job": NAME}]
        kinds = [kind for kind, _ in page.told()]
        assert kinds[-1] == "end"
        assert page.of("rollouts")[-1]["count"] == 5
        assert page.of("events")[-1]["line"]["n"] == 2
        assert page.of("job")[-1]["job"]["state"] == "JOB_STATE_COMPLETED"


def test_a_stream_cut_at_any_event_goes_on_with_the_next(running: Platform) -> None:
    _finish(running)
    asked = (f"jobs/{NAME}", "changes")
    with watching(running, *asked) as whole:
        whole.until("end")
    assert len(whole.events) == 3 + 1 + 1 + 1 + 1
    for cut, (identity, _, _) in enumerate(whole.events, start=1):
        with watching(running, *asked, after=identity) as rest:
            if cut < len(whole.events):
                rest.until("end")
        assert rest.told() == whole.told()[cut:]


def test_a_job_that_is_resumed_goes_on_in_the_same_stream(running: Platform) -> None:
    with watching(running, f"jobs/{NAME}") as page:
        _finish(running)
        page.until("end")
        with running.control.sessions.begin() as session:
            session.get_one(Job, NAME).state = "JOB_STATE_RUNNING"
        page.until_true(lambda: page.of("job")[-1]["job"]["state"] == "JOB_STATE_RUNNING", "resumed job")
        with running.control.sessions.begin() as session:
            finish(session, NAME, "JOB_STATE_FAILED", {"code": "INTERNAL", "message": "x"})
        assert len(page.until("end", 2)) == 2


def test_renewing_a_lease_is_no_change(running: Platform) -> None:
    with running.control.sessions.begin() as session:
        session.get_one(Job, NAME).lease_expires = 1.0
        assert claim(session, "worker", ["rft"], 30) is not None
        before = session.get_one(Job, NAME).updated
        assert renew(session, NAME, "worker", 30) is not None
        expire_leases(session, "worker")
    with running.control.sessions() as session:
        job = session.get_one(Job, NAME)
        assert (job.updated, job.lease_owner) == (before, None)


def test_a_build_is_followed_by_whole_lines(platform: Platform) -> None:
    def write(log: str, state: str = "BUILDING") -> None:
        with platform.control.sessions.begin() as session:
            row = session.get(EvaluatorVersion, VERSION)
            if row is None:
                row = EvaluatorVersion(name=VERSION, evaluator=VERSION.rsplit("/", 2)[0], version=1, archive_key="k")
                session.add(row)
            row.build_log, row.state = log, state

    write("# unpacking\nhalf of a li")
    with watching(platform, f"builds/{VERSION}") as page:
        assert page.until("build") == [{"name": VERSION, "state": "BUILDING", "text": "# unpacking\n", "offset": 0}]
        write("# unpacking\nhalf of a line\n")
        assert page.until("build", 2)[1] == {
            "name": VERSION,
            "state": "BUILDING",
            "text": "half of a line\n",
            "offset": 12,
        }
    write("# unpacking\nhalf of a line\nbuilt", "ACTIVE")
    with watching(platform, f"builds/{VERSION}", after=page.last_id) as again:
        assert again.until("build") == [{"name": VERSION, "state": "ACTIVE", "text": "built", "offset": 27}]
    write("another log\n", "BUILD_FAILED")
    with watching(platform, f"builds/{VERSION}", after=again.last_id) as anew:
        assert anew.until("build") == [{"name": VERSION, "state": "BUILD_FAILED", "text": "another log\n", "offset": 0}]


def test_the_log_of_a_job_is_followed(platform: Platform) -> None:
    with platform.control.sessions.begin() as session:
        enqueue(session, NAME, "accounts/local", "rft", spec(), state="JOB_STATE_RUNNING")
    path = platform.control.settings.path("logs", "j-learner.log")
    path.write_text("first line\nsecond")
    with watching(platform, f"logs/{NAME}") as page:
        page.until_true(lambda: "first line" in str(page.events), "line")
        assert "second" not in str(page.events)
        with path.open("a") as file:
            file.write(" line, whole\n")
        page.until_true(lambda: "second line, whole" in str(page.events), "line")
    with watching(platform, f"logs/{NAME}", after=page.last_id) as again:
        with path.open("a") as file:
            file.write("third line\n")
        again.until_true(lambda: "third line" in str(again.events), "line")
        assert "first line" not in str(again.events)
        assert all(data["job"] == NAME for data in again.of("log"))


def test_a_session_and_its_history(platform: Platform) -> None:
    platform.ok("POST", "/sessions?sessionId=talk", json={"instruction": "Run SFT on the dataset chats."})
    name = "accounts/local/sessions/talk"
    with watching(platform, f"sessions/{name}") as page:
        page.until("session-event")
        assert page.of("session")[0]["session"]["name"] == name
        heard = len(page.of("session-event"))
        platform.ok("POST", "/sessions/talk:send", json={"message": "Use 2 epochs."})
        page.until("session-event", heard + 1)
        numbers = [data["event"]["sequence"] for data in page.of("session-event")]
        assert numbers == list(range(1, len(numbers) + 1))
    with watching(platform, f"sessions/{name}", after=page.last_id) as again:
        platform.ok("POST", "/sessions/talk:send", json={"message": "Use 3 epochs."})
        again.until("session-event")
        assert again.of("session-event")[0]["event"]["sequence"] == numbers[-1] + 1


def test_what_cannot_be_watched_is_said_at_once(running: Platform) -> None:
    assert "There is no job" in running.fails(404, "GET", f"/watch?topic=jobs/{NAME}x")
    assert "builds/EVALUATOR" in running.fails(400, "GET", "/watch?topic=nothing")
    running.fails(400, "GET", "/watch")
    running.fails(400, "GET", "/watch?" + "&".join("topic=changes" for _ in range(100)))
    for wrong in ("nonsense!", "e30x", "W10", "eyJjaGFuZ2VzIjoiYSJ9"):
        running.fails(400, "GET", "/watch?topic=changes", headers={"Last-Event-ID": wrong})
    for events in (1.5, 2**70, "1"):
        at = {f"jobs/{NAME}": {"job": 0.0, "events": events, "metrics": -1, "rollouts": 0, "end": 0}}
        wrong = base64.urlsafe_b64encode(json.dumps(at).encode()).decode()
        running.fails(400, "GET", f"/watch?topic=jobs/{NAME}", headers={"Last-Event-ID": wrong})


def test_a_stream_ends_with_its_key(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "CHECK_SECONDS", 0.0)
    platform.ok("POST", "/users?userId=ada", json={"role": "user"})
    key = platform.ok("POST", "/users/ada/apiKeys", json={"apiKey": {}})
    with watching(platform, "changes", key=key["key"]) as page:
        platform.ok("POST", "/users/ada/apiKeys:delete", json={"keyId": key["keyId"]})
        page.until_true(lambda: page.ended, "end of the stream")


def test_nothing_is_searched_while_nobody_commits_or_watches(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = []
    real = changes.Changes._compare
    monkeypatch.setattr(
        changes.Changes, "_compare", lambda self, s, noun: (compared.append(noun.name), real(self, s, noun))
    )
    monkeypatch.setattr(changes, "LOOK_SECONDS", 0.01)
    with watching(platform, "changes"):
        time.sleep(0.1)
        searched = len(compared)
        time.sleep(0.3)
        assert len(compared) == searched
    platform.dataset("d")
    time.sleep(0.2)
    assert len(compared) == searched


def test_rollouts_are_told_at_most_once_a_second(running: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics, "ROLLOUTS_SECONDS", 3600.0)
    with watching(running, f"jobs/{NAME}") as page:
        page.until("rollouts")
        with running.control.sessions.begin() as session:
            add_rollouts(session, NAME, "rollouts.jsonl", [(9, rollout(9, 0.5))])
            add_events(session, NAME, "events.jsonl", [(900, {"kind": "after"})])
        page.until_true(lambda: page.of("events")[-1]["line"]["kind"] == "after", "later event")
        assert len(page.of("rollouts")) == 1
        _finish(running)
        page.until("end")
        assert page.of("rollouts")[-1]["count"] == 6
