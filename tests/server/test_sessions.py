"""Sessions over HTTP: create, talk, follow, end. The handler's side is played by writing the document as it does."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from tunesmith.agent.document import CandidateResult, Document, EventKind, Gate, GateKind, State
from tunesmith.agent.plan import Candidate, Plan
from tunesmith.db import jobs
from tunesmith.db import sessions as table

from tests.server.conftest import Platform

NAME = "accounts/local/sessions/s1"
PLAN = {"dataset": "d", "baseModels": ["accounts/tunesmith/models/tiny-math-v1"], "epochs": 2}
MODEL = "accounts/tunesmith/models/tiny-math-v1"


def start(platform: Platform, **body: Any) -> dict[str, Any]:
    return platform.ok("POST", "/sessions?sessionId=s1", json=body or {"plan": PLAN})


def show(platform: Platform, kind: GateKind, **fields: Any) -> None:
    """A gate, as the handler presents it: one transaction with the job at rest."""
    with platform.control.sessions.begin() as session:
        jobs.claim(session, "worker", ["session"], 30)
        document, revision = table.read(session, NAME)
        for name, value in fields.items():
            setattr(document, name, value)
        document.gate = Gate(id=1, kind=kind, text="What now?")
        table.write(session, NAME, document, revision, state=State.WAITING, phase="plan")
        table.append_event(session, NAME, "gate-1", EventKind.ASK_USER, "What now?")
        assert jobs.pause(session, NAME, "worker")


def job_state(platform: Platform) -> str:
    with platform.control.sessions() as session:
        return jobs.get(session, NAME).state


def send(platform: Platform, message: str) -> dict[str, Any]:
    return platform.ok("POST", "/sessions/s1:send", json={"message": message})


def history(platform: Platform) -> list[dict[str, Any]]:
    return platform.ok("GET", "/sessions/s1/events")["events"]


def test_a_session_begins_with_its_plan_and_a_job(platform: Platform) -> None:
    made = start(platform, plan=PLAN, displayName="first")
    assert made["name"] == NAME
    assert (made["state"], made["phase"], made["scope"], made["displayName"]) == (
        "running",
        "inspection",
        "optimize",
        "first",
    )
    assert made["plan"]["baseModels"] == [MODEL]
    assert made["pendingGate"] is None
    assert made["createdBy"]
    assert job_state(platform) == "JOB_STATE_PENDING"
    assert platform.ok("GET", "/sessions/s1") == made


def test_an_id_is_made_where_none_is_given(platform: Platform) -> None:
    made = platform.ok("POST", "/sessions", json={"plan": PLAN})
    seconds, digits = made["name"].rsplit("/", 1)[1].split("-")
    assert int(seconds) > 1_700_000_000
    assert len(digits) == 4


def test_the_same_create_again_is_answered_with_the_session(platform: Platform) -> None:
    assert start(platform)["createTime"] == start(platform)["createTime"]
    message = platform.fails(409, "POST", "/sessions?sessionId=s1", json={"instruction": "Run SFT on d."})
    assert "another id" in message


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "instruction, a plan"),
        ({"instruction": "  "}, "instruction, a plan"),
        ({"plan": {"epochs": 0}}, "plan.epochs"),
        ({"plan": {"epoch": 1}}, "plan.epoch: unknown field"),
        ({"instruction": "x", "scope": "everything"}, "scope"),
        ({"instruction": "x", "colour": "red"}, "colour"),
    ],
)
def test_a_wrong_create_is_refused_and_leaves_nothing(platform: Platform, body: dict[str, Any], says: str) -> None:
    assert says in platform.fails(400, "POST", "/sessions?sessionId=s1", json=body)
    platform.fails(404, "GET", "/sessions/s1")
    assert platform.ok("GET", "/sessions")["sessions"] == []


@pytest.mark.parametrize("identity", ["UPPER", "a_b", "x" * 36])
def test_an_id_that_children_cannot_carry_is_refused(platform: Platform, identity: str) -> None:
    assert "sessionId" in platform.fails(400, "POST", f"/sessions?sessionId={identity}", json={"plan": PLAN})


def test_an_approval_answers_the_gate_and_wakes_the_job(platform: Platform) -> None:
    start(platform)
    show(platform, GateKind.PLAN)
    assert platform.ok("GET", "/sessions/s1")["pendingGate"]["text"] == "What now?"
    assert job_state(platform) == "JOB_STATE_PAUSED"
    after = send(platform, "Approved, proceed.")
    assert (after["state"], after["pendingGate"]) == ("running", None)
    assert after["approvedPlan"]["epochs"] == 2
    assert job_state(platform) == "JOB_STATE_PENDING"
    assert [(event["kind"], event["sequence"]) for event in history(platform)][-3:] == [
        ("ask_user", 2),
        ("user_message", 3),
        ("status_info", 4),
    ]


def test_an_approval_before_the_plan_and_a_second_one_are_refused(platform: Platform) -> None:
    start(platform)
    before = history(platform)
    assert "no plan to approve yet" in platform.fails(400, "POST", "/sessions/s1:send", json={"message": "Approved."})
    assert history(platform) == before
    show(platform, GateKind.PLAN)
    send(platform, "Approved, proceed.")
    message = platform.fails(400, "POST", "/sessions/s1:send", json={"message": "Approved, proceed."})
    assert "approved already" in message


def test_of_two_approvals_at_once_one_wins(platform: Platform) -> None:
    start(platform)
    show(platform, GateKind.PLAN)
    codes: list[int] = []

    def approve() -> None:
        codes.append(platform.call("POST", "/sessions/s1:send", json={"message": "Approved, proceed."}).status_code)

    threads = [threading.Thread(target=approve) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == [200, 400, 400, 400]
    assert sum(event["text"] == "The plan is approved." for event in history(platform)) == 1


def test_a_plan_may_be_sent_until_one_is_approved(platform: Platform) -> None:
    start(platform)
    show(platform, GateKind.PLAN)
    after = platform.ok("POST", "/sessions/s1:send", json={"plan": {**PLAN, "epochs": 4}})
    assert (after["plan"]["epochs"], after["state"], after.get("approvedPlan")) == (4, "running", None)
    assert "still being made" in platform.fails(400, "POST", "/sessions/s1:send", json={"message": "Approved."})
    show(platform, GateKind.PLAN)
    send(platform, "yes")
    refused = platform.fails(400, "POST", "/sessions/s1:send", json={"plan": PLAN})
    assert "cannot be replaced" in refused
    assert "either a message or a plan" in platform.fails(400, "POST", "/sessions/s1:send", json={})


def test_a_candidate_is_promoted(platform: Platform) -> None:
    start(platform)
    one = CandidateResult(number=1, candidate=Candidate(base_model=MODEL, lora_rank=8, learning_rate=1e-3))
    two = CandidateResult(number=2, candidate=one.candidate, failed="ran out of memory")
    show(platform, GateKind.PROMOTION, candidates=[one, two], winner=1, approved_plan=Plan.model_validate(PLAN))
    assert "ran out of memory" in platform.fails(400, "POST", "/sessions/s1:send", json={"message": "use candidate 2"})
    assert "no candidate 7" in platform.fails(400, "POST", "/sessions/s1:send", json={"message": "use candidate 7"})
    assert send(platform, "Proceed with the winning config.")["state"] == "running"


def test_a_message_to_an_ended_session_is_refused(platform: Platform) -> None:
    start(platform)
    platform.ok("POST", "/sessions/s1:cancel")
    assert platform.ok("GET", "/sessions/s1")["state"] == "cancelled"
    assert platform.ok("GET", "/sessions/s1")["completedTime"]
    message = platform.fails(400, "POST", "/sessions/s1:send", json={"message": "hello?"})
    assert "has ended" in message
    assert platform.ok("POST", "/sessions/s1:cancel") == {}


def test_cancel_ends_the_jobs_that_the_session_started_and_no_others(platform: Platform) -> None:
    start(platform)
    show(platform, GateKind.PLAN)
    own = ["supervisedFineTuningJobs/sft-s1-c1", "dpoJobs/dpo-s1-final", "evaluationJobs/eval-s1-report-base-t3"]
    others = ["supervisedFineTuningJobs/sft-s1-more-c1", "supervisedFineTuningJobs/sft-s10-c1"]
    with platform.control.sessions.begin() as session:
        for name in [*own, *others]:
            kind = {"s": "sft", "d": "dpo", "e": "evaluation"}[name[0]]
            jobs.enqueue(session, f"accounts/local/{name}", "accounts/local", kind, {})
    platform.ok("POST", "/sessions/s1:cancel")
    with platform.control.sessions() as session:
        states = {name: jobs.get(session, f"accounts/local/{name}").state for name in [*own, *others]}
        assert jobs.claimable_kinds(session, ["session"])  # a paused job winds up, too
    assert {name for name, state in states.items() if state == "JOB_STATE_CANCELLED"} == set(own)


def test_delete_takes_the_history_and_leaves_the_id_until_the_worker_has_cleaned_up(platform: Platform) -> None:
    start(platform)
    platform.ok("DELETE", "/sessions/s1")
    platform.fails(404, "GET", "/sessions/s1")
    platform.fails(404, "GET", "/sessions/s1/events")
    assert "still being deleted" in platform.fails(400, "POST", "/sessions?sessionId=s1", json={"plan": PLAN})
    with platform.control.sessions.begin() as session:
        claimed = jobs.claim(session, "worker", ["session"], 30)
        assert claimed is not None
        assert jobs.remove(session, NAME, "worker")
    start(platform)
    assert [event["sequence"] for event in history(platform)] == [1]


def test_lists_are_filtered_by_state_under_both_names(platform: Platform) -> None:
    start(platform)
    platform.ok("POST", "/sessions?sessionId=s2", json={"plan": PLAN})
    show_name = {"state=waiting": 0, "status=running": 2, 'phase = "inspection"': 2}
    for text, count in show_name.items():
        assert len(platform.ok("GET", "/sessions", params={"filter": text})["sessions"]) == count
    page = platform.ok("GET", "/sessions", params={"pageSize": 1, "orderBy": "createTime"})
    assert page["sessions"][0]["name"] == NAME
    rest = platform.ok(
        "GET", "/sessions", params={"pageSize": 1, "orderBy": "createTime", "pageToken": page["nextPageToken"]}
    )
    assert [each["name"] for each in rest["sessions"]] == ["accounts/local/sessions/s2"]


def test_the_display_name_changes(platform: Platform) -> None:
    start(platform)
    assert platform.ok("PATCH", "/sessions/s1", json={"displayName": "mine"})["displayName"] == "mine"
    assert platform.ok("GET", "/sessions/s1")["displayName"] == "mine"


def test_events_come_in_pages(platform: Platform) -> None:
    start(platform)
    with platform.control.sessions.begin() as session:
        for index in range(5):
            table.append_event(session, NAME, f"k{index}", EventKind.STATUS_INFO, f"line {index}")
            table.append_event(session, NAME, f"k{index}", EventKind.STATUS_INFO, "said twice")
    page = platform.ok("GET", "/sessions/s1/events", params={"pageSize": 4})
    assert [event["sequence"] for event in page["events"]] == [1, 2, 3, 4]
    rest = platform.ok("GET", "/sessions/s1/events", params={"pageSize": 4, "pageToken": page["nextPageToken"]})
    assert [event["text"] for event in rest["events"]] == ["line 3", "line 4"]
    assert rest["nextPageToken"] == ""
    assert platform.ok("GET", "/sessions/s1/events", params={"after": 6})["events"] == []


def sse(text: str) -> list[tuple[str, str, Any]]:
    found = []
    for block in text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
        found.append((fields.get("id", ""), fields["event"], json.loads(fields["data"])))
    return found


def test_the_stream_tells_everything_and_ends_when_the_session_waits(platform: Platform) -> None:
    start(platform)
    accept = {"Accept": "text/event-stream"}
    with platform.http.stream("GET", "/v1/accounts/local/sessions/s1/events", headers=accept) as answer:
        lines = answer.iter_text()
        first = next(lines)
        show(platform, GateKind.PLAN)
        events = sse(first + "".join(lines))
    assert [(identity, kind) for identity, kind, _ in events] == [("1", "status_info"), ("2", "ask_user"), ("", "done")]
    assert events[-1][2]["state"] == "waiting"
    assert events[-1][2]["pendingGate"]["kind"] == "plan"
    again = platform.call("GET", "/sessions/s1/events", headers={**accept, "Last-Event-ID": "1"})
    assert [kind for _, kind, _ in sse(again.text)] == ["ask_user", "done"]
    platform.fails(400, "GET", "/sessions/s1/events", headers={**accept, "Last-Event-ID": "x"})
    platform.fails(404, "GET", "/sessions/nope/events", headers=accept)


def test_the_report_and_its_pictures_are_served(platform: Platform) -> None:
    start(platform)
    assert "no report yet" in platform.fails(404, "GET", "/sessions/s1/report")
    with platform.control.sessions.begin() as session:
        document, revision = table.read(session, NAME)
        document.report, document.figures = "# Final report\n", {"loss.svg": "<svg/>"}
        table.write(session, NAME, document, revision, state=State.SUCCEEDED)
    shown = platform.ok("GET", "/sessions/s1")
    answer = platform.call("GET", shown["reportUrl"])
    assert answer.text == "# Final report\n"
    assert answer.headers["content-type"].startswith("text/markdown")
    picture = platform.call("GET", shown["reportUrl"] + "/loss.svg")
    assert picture.text == "<svg/>"
    assert picture.headers["content-type"].startswith("image/svg+xml")
    assert "loss.svg" in platform.fails(404, "GET", "/sessions/s1/report/x.svg")


def test_the_schema_of_a_plan_fits_a_plan(platform: Platform) -> None:
    schema = platform.ok("GET", "/sessionPlanSchema")
    assert {"baseModels", "grid", "epochs", "approvals"} <= schema["properties"].keys()
    assert schema["additionalProperties"] is False


def test_a_session_of_another_account_is_not_shown(platform: Platform) -> None:
    start(platform)
    other = {"Authorization": f"Bearer {platform.make_key('accounts/other')}"}
    platform.fails(403, "GET", "/sessions/s1", headers=other)
    platform.fails(403, "POST", "/sessions/s1:send", json={"message": "yes"}, headers=other)


def test_a_write_on_an_older_revision_is_a_conflict(platform: Platform) -> None:
    start(platform)
    with platform.control.sessions.begin() as session:
        document, revision = table.read(session, NAME)
        table.write(session, NAME, document, revision)
    with platform.control.sessions() as session, pytest.raises(table.Conflict, match="meanwhile"):
        table.write(session, NAME, Document(), revision)


def test_a_message_while_the_worker_is_about_to_rest_is_not_missed(platform: Platform) -> None:
    start(platform)
    with platform.control.sessions.begin() as session:
        assert jobs.claim(session, "worker", ["session"], 30)
        assert jobs.wake(session, NAME)
        assert jobs.pause(session, NAME, "worker")
        assert jobs.claim(session, "worker", ["session"], 30)
        assert jobs.pause(session, NAME, "worker")
        assert jobs.claim(session, "worker", ["session"], 30) is None
