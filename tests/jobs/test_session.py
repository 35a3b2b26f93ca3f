"""Sessions, worked off by the real handler against the real control plane; training itself is a stand-in at its seam, the run directory."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from shutil import copytree
from typing import Any

import httpx2
import pytest
import tunesmith.catalog
import uvicorn
from fastapi import FastAPI
from tunesmith.db import throughputs
from tunesmith.db.accounts import ensure_account
from tunesmith.db.api_keys import new_key
from tunesmith.db.tables import ApiKey
from tunesmith.errors import FailedPrecondition
from tunesmith.jobs.handler import ClaimedJob, Handler, JobContext, Outcome
from tunesmith.jobs.session import SessionHandler
from tunesmith.runs.files import write_atomic
from tunesmith.schemas.tuning_spec import TuningSpec
from tunesmith.server import create_app
from tunesmith.settings import Settings

from tests.jobs.conftest import working

BASE = "accounts/tunesmith/models/tiny-math-v1"
ROOT = "/v1/accounts/local"
CATALOGUE = Path(tunesmith.catalog.__file__).parent / "models"
PLAN = {
    "dataset": "sums",
    "baseModels": ["tiny-math-v1"],
    "grid": {"points": [{"loraRank": 8, "learningRate": 1e-3}, {"loraRank": 8, "learningRate": 1e-4}]},
    "epochs": 1,
}


class Learner(Handler):
    """Stands in for training: the higher the learning rate, the lower the loss; 0 leaves every row as it was, 5e-3 fails."""

    kind = "sft"

    def __init__(self) -> None:
        self.ended: Counter[str] = Counter()

    async def run(self, job: ClaimedJob, context: JobContext) -> Outcome:
        spec = TuningSpec.model_validate(job.spec)
        if spec.learning_rate == 5e-3:
            raise FailedPrecondition("the loss is not a number any more")
        await asyncio.sleep(0.2)
        folder = context.settings.path("runs", job.id, "evaluation")
        for step in (0, 8):
            share = 1.0 if step == 0 else 1.0 - 200 * spec.learning_rate
            rows = [{"nats": (5.0 + row % 3) * share, "tokens": 10, "bytes": 30} for row in range(30)]
            write_atomic(folder / f"step-{step:06d}.json", json.dumps({"step": step, "rows": rows}))
        run = {"best_step": 8, "best_eval_loss": 0.6 * share, "epoch": 1, "trained_tokens": 1000}
        await context.progress({"percent": 100, "epoch": 1, "run": run})
        self.ended[job.id] += 1
        return Outcome("JOB_STATE_COMPLETED")


class World:
    """A control plane on a port of its own, its client, and workers."""

    def __init__(self, settings: Settings, http: httpx2.Client, app: FastAPI) -> None:
        self.settings, self.http, self.app, self.learner = settings, http, app, Learner()
        self.control = app.state.control

    def call(self, method: str, path: str, **options: Any) -> Any:
        answer = self.http.request(method, ROOT + path, **options)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def dataset(self, identity: str, rows: list[dict[str, Any]]) -> None:
        self.call("POST", "/datasets", json={"datasetId": identity, "dataset": {"exampleCount": str(len(rows))}})
        content = "".join(json.dumps(row) + "\n" for row in rows).encode()
        self.call("POST", f"/datasets/{identity}:upload", files={"file": ("rows.jsonl", content)})

    def start(self, plan: dict[str, Any], identity: str = "s1") -> None:
        self.call("POST", f"/sessions?sessionId={identity}", json={"plan": plan})

    def events(self, identity: str = "s1") -> list[dict[str, Any]]:
        return self.call("GET", f"/sessions/{identity}/events?pageSize=1000")["events"]

    @asynccontextmanager
    async def worker(self):
        async with working(self.settings, self.control.sessions, [(SessionHandler(), 64), (self.learner, 6)]):
            yield

    async def rests(self, identity: str = "s1", seconds: float = 120) -> dict[str, Any]:
        """The session once it waits or has ended."""

        async def poll() -> dict[str, Any]:
            while True:
                found = await asyncio.to_thread(self.call, "GET", f"/sessions/{identity}")
                if found["state"] != "running":
                    return found
                await asyncio.sleep(0.05)

        return await asyncio.wait_for(poll(), seconds)

    async def say(self, words: str, identity: str = "s1") -> dict[str, Any]:
        """Send a message, and wait until the session rests again."""
        await asyncio.to_thread(self.call, "POST", f"/sessions/{identity}:send", json={"message": words})
        return await self.rests(identity)


def rows(count: int = 150) -> list[dict[str, Any]]:
    return [
        {
            "messages": [
                {"role": "user", "content": f"What is {n} + 1?"},
                {"role": "assistant", "content": f"<answer>{n + 1}</answer>"},
            ]
        }
        for n in range(count)
    ]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    settings = Settings(data_dir=tmp_path / "data", port=port, lease_seconds=5)
    app = create_app(settings)
    control = app.state.control
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    with control.sessions.begin() as session:
        ensure_account(session, "accounts/local")
        key = new_key(session, "accounts/local", {"kind": "account"}, "", None, control.keys.pepper)[1]
        for work in ("sft", "score", "generate"):
            throughputs.record(session, BASE, work, 5000.0, "accounts/local/supervisedFineTuningJobs/earlier")
    with httpx2.Client(base_url=settings.base_url, timeout=20, headers={"Authorization": f"Bearer {key}"}) as http:
        made = World(settings, http, app)
        made.dataset("sums", rows())
        yield made
    server.should_exit = True
    thread.join(10)
    control.sessions.kw["bind"].dispose()


async def test_plan_is_shown_priced_and_nothing_runs_before_its_approval(world: World) -> None:
    world.start(PLAN)
    async with world.worker():
        session = await world.rests()
    gate = session["pendingGate"]
    assert (session["state"], session["phase"], gate["kind"]) == ("waiting", "plan", "plan")
    for expected in (
        "LoRA rank 8, learning rate 0.001",
        "Epochs: 1",
        "Training",
        "Inference",
        "Total",
        "30 choose the winner",
    ):
        assert expected in gate["text"]
    assert session["estimate"]["totalSeconds"]["high"] > session["estimate"]["totalSeconds"]["low"] > 0
    assert not world.learner.ended
    assert world.call("GET", "/supervisedFineTuningJobs")["supervisedFineTuningJobs"] == []


async def test_sweep_finds_the_better_candidate_and_stops_where_a_person_says_so(world: World) -> None:
    world.start(PLAN)
    async with world.worker():
        await world.rests()
        session = await world.say("Approved, proceed.")
        assert (session["pendingGate"]["kind"], session["winner"]) == ("promotion", 1)
        assert "candidate 1" in session["pendingGate"]["text"].lower()
        assert [each["number"] for each in session["candidates"]] == [0, 1, 2]
        session = await world.say("stop here")
    assert (session["state"], session["winner"]) == ("succeeded", 0)
    assert "deployed" not in session
    report = world.http.get(f"{ROOT}/sessions/s1/report").text
    assert "sft-s1-c2" in report
    assert world.http.get(f"{ROOT}/sessions/s1/report/scoreboard.svg").headers["content-type"] == "image/svg+xml"
    assert world.learner.ended == {"sft-s1-c1": 1, "sft-s1-c2": 1}
    with world.control.sessions() as opened:
        assert not [key for key in opened.query(ApiKey) if key.scope.get("session")]


async def test_candidates_that_learned_nothing_yield_no_winner(world: World) -> None:
    points = [{"loraRank": rank, "learningRate": 0} for rank in (4, 8, 16)]
    world.start({**PLAN, "grid": {"points": points}})
    async with world.worker():
        await world.rests()
        session = await world.say("Approved, proceed.")
    assert session["winner"] == 0
    assert session["pendingGate"]["text"].startswith("I propose to stop")


async def test_one_failed_candidate_is_left_out(world: World) -> None:
    points = [{"loraRank": 8, "learningRate": rate} for rate in (5e-3, 1e-3)]
    world.start({**PLAN, "grid": {"points": points}})
    async with world.worker():
        await world.rests()
        session = await world.say("Approved, proceed.")
    assert session["winner"] == 2
    assert session["candidates"][1]["failed"] == "the loss is not a number any more"
    assert [event["text"] for event in world.events() if event["kind"] == "warning"] == [
        "Candidate 1 of 2 failed, and is left out: the loss is not a number any more"
    ]


async def test_all_failed_candidates_fail_the_session_with_their_reasons(world: World) -> None:
    world.start({**PLAN, "grid": {"points": [{"loraRank": 8, "learningRate": 5e-3}]}})
    async with world.worker():
        await world.rests()
        session = await world.say("Approved, proceed.")
    assert session["state"] == "failed"
    assert session["status"]["message"] == "The only candidate failed. candidate 1: the loss is not a number any more"
    assert world.events()[-1]["kind"] == "error"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"dataset": "sum"},
            "There is no dataset accounts/local/datasets/sum. Did you mean accounts/local/datasets/sums?",
        ),
        ({"baseModels": ["tiny-math-v9"]}, "Did you mean accounts/tunesmith/models/tiny-math-v1"),
        ({"grid": {"points": [{"loraRank": 8, "learningRate": 1}]}}, "earning rate 1"),
        ({"grid": {"points": [{"loraRank": 7, "learningRate": 1e-3}]}}, "7"),
        (
            {"evaluation": {"path": "evaluator", "evaluator": "none"}},
            "There is no evaluator accounts/local/evaluators/none.",
        ),
        ({"dataset": None}, "Your datasets: prompts, few, sums."),
        ({"baseModels": []}, "On this machine: tiny-math-v1; "),
        ({"method": "dpo"}, "dpo needs preference pairs"),
        ({"dataset": "few"}, "too few to hold some out"),
        ({"dataset": "prompts"}, "prompts without answers"),
        ({"evaluationDataset": "prompts"}, "I cannot evaluate on accounts/local/datasets/prompts"),
    ],
)
async def test_what_is_missing_or_wrong_is_asked(world: World, change: dict[str, Any], words: str) -> None:
    world.dataset("few", rows(10))
    world.dataset("prompts", [{"messages": row["messages"][:1]} for row in rows(10)])
    world.start({**PLAN, **change})
    async with world.worker():
        session = await world.rests()
    assert session["pendingGate"]["kind"] == "question"
    assert words in session["pendingGate"]["text"]
    assert not world.learner.ended


async def test_another_plan_takes_the_place_of_the_one_that_was_asked_about(world: World) -> None:
    world.start({**PLAN, "dataset": "sum"})
    async with world.worker():
        assert (await world.rests())["pendingGate"]["kind"] == "question"
        await asyncio.to_thread(world.call, "POST", "/sessions/s1:send", json={"plan": PLAN})
        assert (await world.rests())["pendingGate"]["kind"] == "plan"


async def test_without_approvals_it_passes_both_gates(world: World) -> None:
    plan = {**PLAN, "approvals": {"plan": False, "promotion": False}}
    world.start({**plan, "grid": {"points": [{"loraRank": 8, "learningRate": 0}]}})
    async with world.worker():
        session = await world.rests()
    assert (session["state"], session["winner"]) == ("succeeded", 0)


async def test_session_ends_the_same_when_its_worker_is_replaced_all_the_time(world: World) -> None:
    world.start({**PLAN, "approvals": {"plan": False, "promotion": True}})
    deadline = time.monotonic() + 400  # only ends what hangs
    while time.monotonic() < deadline:
        async with world.worker():
            await asyncio.sleep(0.4)
        if world.call("GET", "/sessions/s1")["state"] != "running":
            break
    session = world.call("GET", "/sessions/s1")
    assert (session["state"], session["winner"]) == ("waiting", 1)
    assert world.learner.ended == {"sft-s1-c1": 1, "sft-s1-c2": 1}
    texts = Counter(event["text"] for event in world.events())
    assert max(texts.values()) == 1


async def test_cancelled_session_cancels_its_jobs(world: World) -> None:
    world.start(PLAN)
    async with world.worker():
        await world.rests()
        await asyncio.to_thread(world.call, "POST", "/sessions/s1:send", json={"message": "Approved, proceed."})
        await asyncio.to_thread(world.call, "POST", "/sessions/s1:cancel", json={})
        assert (await world.rests())["state"] == "cancelled"


async def test_session_goes_on_with_the_rows_that_it_fetched_when_the_dataset_is_deleted_between_its_gates(
    world: World,
) -> None:
    world.start(PLAN)
    async with world.worker():
        await world.rests()
        await asyncio.to_thread(world.call, "DELETE", "/datasets/sums")
        session = await world.say("Approved, proceed.")
        assert (session["pendingGate"]["kind"], session["winner"]) == ("promotion", 1)


async def test_base_model_that_went_after_the_approval_is_asked_for_again(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "base"
    copytree(CATALOGUE / "tiny-math-v1", folder)
    world.start({**PLAN, "baseModels": [str(folder)]})
    async with world.worker():
        assert (await world.rests())["pendingGate"]["kind"] == "plan"
        folder.rename(tmp_path / "elsewhere")
        session = await world.say("Approved, proceed.")
        asked = session["pendingGate"]
        assert asked["kind"] == "question"
        assert asked["text"].endswith("put it back and say `go on`, or cancel this session.")
        assert "Which" not in asked["text"]
        (tmp_path / "elsewhere").rename(folder)
        assert (await world.say("go on"))["pendingGate"]["kind"] == "promotion"
