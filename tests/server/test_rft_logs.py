"""A job's log: several sources in one stream that nobody who reads on from a position loses a line of."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any

import pytest
from tunesmith.db.captured import CapturedFile, log_tags, logs
from tunesmith.db.jobs import enqueue, finish
from tunesmith.db.rollouts import add_events
from tunesmith.db.session import reading
from tunesmith.db.tables import Job
from tunesmith.server.job_log_sources import parse_line
from tunesmith.server.job_logs import read_lines

from tests.server.conftest import Platform
from tests.server.test_rft_monitoring import spec

NAME = "accounts/local/reinforcementFineTuningJobs/j"
PATH = "/reinforcementFineTuningJobs/j/logs"
START = datetime(2026, 11, 20, 12, 0, 0).timestamp()


def write(platform: Platform, process: str, text: str) -> None:
    path = platform.control.settings.path("logs", f"j-{process}.log")
    with open(path, "ab") as file:
        file.write(text.encode())


async def post(platform: Platform, second: float, message: str, **fields: Any) -> None:
    file = CapturedFile(platform.control.settings.path("completions.db"))
    id, rollout = int((START + second) * 1e9), fields.pop("rollout", "j-c0-r0-k0-a0")
    row = {
        "id": id, "account": "accounts/local", "job": "j", "program": "agent", "message": message, "severity": "INFO",
        "status_code": None, "status": None, "tags": [f"rollout_id:{rollout}"], "extras": {}, "size": 10, **fields,
    }  # fmt: skip
    await file.writer.write(log_tags, [{"tag": row["tags"][0], "account": row["account"], "log": id}])
    await file.writer.write(logs, [row])
    file.close()


@pytest.fixture
def job(platform: Platform) -> Platform:
    with platform.control.sessions.begin() as session:
        made = enqueue(session, NAME, "accounts/local", "rft", spec(), state="JOB_STATE_RUNNING")
        made.created, made.started = START - 2, START - 1
        chunk = {
            "kind": "chunk",
            "epoch": 0,
            "sealed": 1,
            "mean_score": 0.5,
            "rollouts": 4,
            "invalid": 0,
            "kept_groups": 2,
        }
        chunk |= {"dropped_groups": 0, "version": 0}
        events = [
            {**chunk, "chunk": 0, "step": 0, "time": START + 10, "seconds": 10.0},
            {**chunk, "chunk": 1, "step": 1, "epoch": 1, "invalid": 1, "time": START + 20, "seconds": 8.0},
        ]
        add_events(session, NAME, "events.jsonl", [(100 * n, event) for n, event in enumerate(events, start=1)])
    write(platform, "orchestrator", "2026-11-20 12:00:01,250 INFO hello\n2026-11-20 12:00:11,000 WARNING slow host\n")
    write(platform, "learner", "UserWarning: odd\nTraceback (most recent call last):\n  File x\nValueError: no\ntorn")
    write(platform, "evaluator-host", "DEBUG:root:printed 1\n2026-11-20T12:00:15Z [ERROR] boom\nafter\n")
    return platform


def lines(answer: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(line["source"], line["level"], line["message"]) for line in answer["lines"]]


async def test_all_sources_in_one_stream_by_time(job: Platform) -> None:
    await post(job, 5, "from the agent", severity="WARNING")
    await post(job, 6, "", status={"code": 100, "message": "done"})
    await post(job, 7, "of another job", job="other")
    await post(job, 8, "with an account key", job=None)
    await post(job, 9, "with an account key, another job", job=None, rollout="other-c0-r0-k0-a0")
    shown = job.ok("GET", PATH)
    assert shown["nextPageToken"] == ""
    found = lines(shown)
    assert [line for line in found if line[0] == "learner"] == [
        ("learner", "WARNING", "UserWarning: odd"),
        ("learner", "ERROR", "Traceback (most recent call last):"),
        ("learner", "ERROR", "  File x"),
        ("learner", "ERROR", "ValueError: no"),
    ], "a torn line waits for its end"
    assert [line for line in found if line[0] == "agent"] == [
        ("agent", "WARNING", "from the agent"),
        ("agent", "INFO", "status 100: done"),
        ("agent", "INFO", "with an account key"),
    ]
    assert ("evaluator-host", "DEBUG", "root:printed 1") in found
    assert ("orchestrator", "WARNING", "slow host") in found
    assert [level for source, level, _ in found if source == "job"] == ["INFO", "INFO", "INFO", "WARNING"]
    by_source: dict[str, list[str]] = {}
    for line in shown["lines"]:
        by_source.setdefault(line["source"], []).append(line["time"])
    assert all(times == sorted(times) for times in by_source.values())
    order = [message for _, _, message in found]
    assert order.index("hello") < order.index("from the agent") < order.index("slow host")
    agents = [line for line in shown["lines"] if line["source"] == "agent"]
    assert agents[0]["rolloutId"] == "j-c0-r0-k0-a0"


async def test_reading_on_from_any_line_loses_and_repeats_nothing(job: Platform) -> None:
    await post(job, 5, "from the agent")
    whole = job.ok("GET", PATH)["lines"]
    for number, line in enumerate(whole):
        rest = job.ok("GET", PATH, params={"pageToken": line["position"]})["lines"]
        assert rest == whole[number + 1 :]
    by_page, token = [], ""
    while True:
        answer = job.ok("GET", PATH, params={"pageSize": 2, "pageToken": token})
        by_page += answer["lines"]
        if not (token := answer["nextPageToken"]):
            break
    assert by_page == whole
    end = whole[-1]["position"]
    assert job.ok("GET", PATH, params={"pageToken": end})["lines"] == []
    write(job, "learner", " line\nmore\n")
    await post(job, 60, "later")
    with job.control.sessions.begin() as session:
        finish(session, NAME, "JOB_STATE_FAILED", {"code": "INTERNAL", "message": "out of luck"})
    fresh = lines(job.ok("GET", PATH, params={"pageToken": end}))
    assert sorted(fresh) == sorted(
        [
            ("learner", "INFO", "torn line"),
            ("learner", "INFO", "more"),
            ("agent", "INFO", "later"),
            ("job", "ERROR", "The job ended: FAILED. out of luck"),
        ]
    )


async def test_filters(job: Platform) -> None:
    await post(job, 5, "in step 0", rollout="j-c0-r1-k0-a0")
    await post(job, 15, "in step 1")
    await post(job, 25, "going on")

    def shown(**query: Any) -> list[tuple[str, str, str]]:
        return lines(job.ok("GET", PATH, params=query))

    assert {source for source, _, _ in shown(source="agent")} == {"agent"}
    assert {level for _, level, _ in shown(level="WARNING")} == {"WARNING", "ERROR"}
    assert shown(contains="BOOM") == [("evaluator-host", "ERROR", "boom")]
    assert shown(rolloutId="j-c0-r1-k0-a0") == [("agent", "INFO", "in step 0")]
    assert [message for _, _, message in shown(source="agent", step=0)] == ["in step 0"]
    assert [message for _, _, message in shown(source="agent", epoch=1)] == ["in step 1", "going on"]
    assert [message for _, _, message in shown(source="agent", step=2)] == ["going on"]
    assert shown(step=7) == []
    whole = shown()
    assert shown(tail=3) == whole[-3:]
    assert shown(tail=1, source="learner") == [line for line in whole if line[0] == "learner"][-1:]


def test_the_end_of_a_long_log_is_found_without_its_beginning(job: Platform) -> None:
    write(job, "evaluator-host", "".join(f"2026-11-20 13:00:00 INFO line {n} {'x' * 200}\n" for n in range(8000)))
    last = job.ok("GET", PATH, params={"tail": 2})["lines"]
    assert [line["message"].split()[1] for line in last] == ["7998", "7999"]
    assert job.ok("GET", PATH, params={"pageToken": last[0]["position"]})["lines"][0]["message"] == last[1]["message"]
    rare = job.ok("GET", PATH, params={"tail": 5, "contains": "slow host"})["lines"]
    assert [line["message"] for line in rare] == ["slow host"], "what is far from the end is found, too"


def test_secrets_and_keys_are_named_not_shown(job: Platform) -> None:
    job.ok(
        "POST", "/secrets", json={"name": "accounts/local/secrets/t", "keyName": "MY_TOKEN", "value": "hunter2-hunter2"}
    )
    file = job.control.settings.path("runs", "j", "rollout.key")
    file.write_text("ts_rolloutkey_123")
    write(job, "evaluator-host", json.dumps({"env": "hunter2-hunter2", "key": "ts_rolloutkey_123"}) + "\n")
    text = job.call("GET", PATH).text
    assert not re.search("hunter2|ts_rolloutkey", text)
    assert "[MY_TOKEN]" in text
    assert "[rollout key]" in text


def test_wrong_questions_are_errors(job: Platform) -> None:
    for query in ({"pageToken": "x"}, {"source": "moon"}, {"level": "LOUD"}, {"tail": 0}, {"step": -1}):
        job.fails(400, "GET", PATH, params=query)
    assert job.ok("GET", PATH, params={"pageToken": "e9999999999999999999"})["lines"] is not None
    job.fails(404, "GET", "/reinforcementFineTuningJobs/none/logs")


def test_other_kinds_of_jobs_have_a_log_too(platform: Platform) -> None:
    name = "accounts/local/supervisedFineTuningJobs/s"
    with platform.control.sessions.begin() as session:
        enqueue(session, name, "accounts/local", "sft", {}, state="JOB_STATE_RUNNING")
    platform.control.settings.path("logs", "s-trainer.log").write_text("step 1\n")
    with reading(platform.control.sessions) as session:
        job = session.get(Job, name)
        assert job is not None
        found, position = read_lines(platform.control, job, position="", limit=10)
    assert [line.message for line in found] == ["The job was created.", "step 1"]
    assert read_lines(platform.control, job, position=position, limit=10) == ([], position)


@pytest.mark.parametrize(
    ("text", "level", "message"),
    [
        ("2026-11-23 12:00:01,250 INFO hello", "INFO", "hello"),
        ("[2026-11-23T12:00:01.25+01:00] CRITICAL: x", "ERROR", "x"),
        ("WARN something", "WARNING", "something"),
        ("INFORMATION is power", None, "INFORMATION is power"),
        ("/a/b.py:3: DeprecationWarning: old", "WARNING", "/a/b.py:3: DeprecationWarning: old"),
        ("aiohttp.ClientError: gone", "ERROR", "aiohttp.ClientError: gone"),
        ("no Errors here", None, "no Errors here"),
        ("2026-99-99 12:00:01 x", None, "2026-99-99 12:00:01 x"),
    ],
)
def test_a_level_is_read_from_a_line_where_it_says_one(text: str, level: str | None, message: str) -> None:
    assert parse_line(text)[1:] == (level, message)
