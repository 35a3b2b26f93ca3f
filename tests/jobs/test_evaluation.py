"""Evaluation jobs end to end: the real web process with its gateway, a worker, a real evaluator host; only the engine is a fake."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from tunesmith.db import throughputs
from tunesmith.db.accounts import ensure_account
from tunesmith.db.api_keys import new_key
from tunesmith.db.session import reading
from tunesmith.db.tables import ApiKey, Dataset, Evaluator, Job, Model
from tunesmith.jobs.evaluation import EvaluationHandler
from tunesmith.jobs.evaluation_gateway import GatewayRecords
from tunesmith.jobs.evaluation_rows import EvaluationRows
from tunesmith.server import create_app
from tunesmith.settings import Settings
from tunesmith.storage.keys import load_keys

from tests.fakes.engine import FakeEngine, FakeSupervisor
from tests.fakes.model_folder import make_model_folder
from tests.gateway.conftest import serve_app
from tests.jobs.conftest import ACCOUNT, final, until, working

HEADER = """
import os, time
from eval_protocol.models import EvaluateResult, EvaluationRow
from eval_protocol.pytest import NoOpRolloutProcessor, SingleTurnRolloutProcessor, evaluation_test
"""
EXACT = """
@evaluation_test(input_dataset=["x.jsonl"], rollout_processor=SingleTurnRolloutProcessor())
def evaluate(row: EvaluationRow) -> EvaluationRow:
    text = row.messages[-1].text
    if text == "boom": raise ValueError("cannot read it")
    if text == "lost": os._exit(3)
    row.evaluation_result = EvaluateResult(score=float(text == row.ground_truth), reason=f"it said {text}")
    return row
"""


def row(text: str, truth: str | None = None, answer: str | None = None) -> dict[str, Any]:
    messages = [{"role": "user", "content": f"say {text}"}]
    if answer is not None:
        messages.append({"role": "assistant", "content": answer})
    return {"messages": messages, "ground_truth": text if truth is None else truth}


@dataclass
class Stage:
    """The platform, an evaluator and the engine that answers."""

    settings: Settings
    sessions: Any
    engine: FakeEngine
    base: str
    http: aiohttp.ClientSession
    build_dir: Path

    async def call(self, method: str, path: str, **arguments: Any) -> tuple[int, Any]:
        async with self.http.request(method, f"/v1/accounts/local{path}", **arguments) as answer:
            return answer.status, await answer.json()

    async def dataset(self, identity: str, rows: list[dict[str, Any]], **fields: Any) -> str:
        status, body = await self.call("POST", "/datasets", json={"datasetId": identity, "dataset": fields})
        assert status == 200, body
        form = aiohttp.FormData()
        form.add_field("file", "".join(json.dumps(one) + "\n" for one in rows).encode(), filename="rows.jsonl")
        status, body = await self.call("POST", f"/datasets/{identity}:upload", data=form)
        assert status == 200, body
        return f"{ACCOUNT}/datasets/{identity}"

    async def create(self, identity: str = "eval-1", **fields: Any) -> tuple[int, Any]:
        wanted = {"evaluator": "judge", "inputDataset": "rows", "outputDataset": f"{identity}-results"}
        wanted |= {"scoring": {"model": self.base}, **fields}
        return await self.call("POST", "/evaluationJobs", json={"evaluationJobId": identity, "evaluationJob": wanted})

    async def created(self, identity: str = "eval-1", **fields: Any) -> str:
        status, body = await self.create(identity, **fields)
        assert (status, body.get("state")) == (200, "JOB_STATE_PENDING"), body
        return body["name"]

    async def get(self, identity: str = "eval-1") -> dict[str, Any]:
        status, body = await self.call("GET", f"/evaluationJobs/{identity}")
        assert status == 200, body
        return body

    async def results(self, identity: str) -> list[dict[str, Any]]:
        status, body = await self.call("GET", f"/datasets/{identity}:getDownloadEndpoint")
        assert status == 200, body
        [url] = body["filenameToSignedUrls"].values()
        async with self.http.get(url) as answer:
            return [json.loads(line) for line in (await answer.text()).splitlines()]

    def evaluator(self, code: str = EXACT, **values: Any) -> None:
        (self.build_dir / "src" / "evaluation.py").write_text(HEADER + code)
        fields = {"state": "ACTIVE", "build_dir": str(self.build_dir), "version": 1, **values}
        spec = {"entryPoint": "evaluation.py::evaluate"}
        with self.sessions.begin() as session:
            session.merge(Evaluator(name=f"{ACCOUNT}/evaluators/judge", account=ACCOUNT, spec=spec, **fields))

    def worker(self) -> Any:
        return working(self.settings, self.sessions, [(EvaluationHandler(), 1)])


async def hold_back(stage: Stage) -> asyncio.Event:
    """Have the engine keep `say held` waiting until the event is set; calls made before get no answer."""
    gate, answer = asyncio.Event(), stage.engine._generate

    async def held(request):
        body = await request.json()
        if "say held" in stage.engine.tokenizer.decode(body["prompt_ids"]) and not gate.is_set():
            stage.engine.generated.append(body)
            await asyncio.sleep(60)
        return await answer(request)

    await stage.engine.stop()
    stage.engine._generate = held
    await stage.engine.start()
    return gate


def host_processes(stage: Stage) -> list[int]:
    """The evaluator host of the job that runs."""
    mark = str(stage.settings.data_dir / "hosts").encode()
    found = [path for path in Path("/proc").glob("[0-9]*/cmdline") if mark in path.read_bytes()]
    return [int(path.parent.name) for path in found]


@pytest.fixture
def data_dir() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="ts"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def build_dir(tmp_path: Path) -> Path:
    """A built evaluator whose environment is the one that runs this test."""
    python = tmp_path / "built" / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    (tmp_path / "built" / "src").mkdir()
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return tmp_path / "built"


@pytest.fixture
async def stage(data_dir: Path, build_dir: Path) -> AsyncIterator[Stage]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    settings = Settings(data_dir=data_dir, port=port, sandbox="off", lease_seconds=1.5, evaluation_timeout_seconds=5)
    folder = make_model_folder(data_dir / "base")
    engine = FakeEngine(folder, str(folder), load_keys(settings).engine)
    supervisor = FakeSupervisor(data_dir / "supervisor.sock", {str(folder): engine})
    await engine.start()
    await supervisor.start()
    app = create_app(settings)
    control = app.state.control
    with control.sessions.begin() as session:
        ensure_account(session, ACCOUNT)
        key = new_key(session, ACCOUNT, {"kind": "account"}, "", None, control.keys.pepper)[1]
    server, task, url = await serve_app(app, port)
    async with aiohttp.ClientSession(url, headers={"Authorization": f"Bearer {key}"}) as http:
        made = Stage(settings, control.sessions, engine, str(folder), http, build_dir)
        made.evaluator()
        yield made
    server.should_exit = True
    await task
    await supervisor.stop()
    await engine.stop()
    control.sessions.kw["bind"].dispose()


async def test_a_models_answers_are_scored_row_by_row(stage: Stage) -> None:
    await stage.dataset("rows", [row("4", answer="gold"), row("5", truth="6"), row("boom"), row("7")])
    name = await stage.created(displayName="mine")
    async with stage.worker():
        job = await final(stage.sessions, name)
    shown = await stage.get()
    assert job.state == shown["state"] == "JOB_STATE_COMPLETED"
    assert shown["displayName"] == "mine"
    metrics = shown["metrics"]
    assert (metrics["score"], metrics["rows"], metrics["invalid"]) == (pytest.approx(2 / 3), 4, 1)
    assert metrics["standard_error"] == pytest.approx(1 / 3)
    assert metrics["output_tokens"] == sum(len(text) + 1 for text in ("4", "5", "boom", "7"))
    assert metrics["input_tokens"] > metrics["output_tokens"]
    assert "1 of 4 rows could not be scored: 1 x " in shown["status"]["message"]
    assert "cannot read it" in shown["status"]["message"]
    assert shown["jobProgress"] == {"percent": 100, "scored": 4, "rows": 4}
    assert (shown["sandbox"]["kind"], shown["sandbox"]["degraded"]) == ("none", True)
    assert shown["notes"][0]["reason"].startswith("The evaluator of this job is not fully confined: switched off")
    results = await stage.results("eval-1-results")
    assert [one["messages"][0]["content"] for one in results] == ["say 4", "say 5", "say boom", "say 7"]
    assert [one["messages"][-1]["content"] for one in results] == ["4", "5", "boom", "7"]
    assert [one["evaluation_result"]["is_score_valid"] for one in results] == [True, True, False, True]
    assert [one["evaluation_result"]["score"] for one in results] == [1, 0, 0, 1]
    assert results[1]["evaluation_result"]["reason"] == "it said 5"
    assert not any("gold" in json.dumps(asked) for asked in stage.engine.generated)
    assert {asked["temperature"] for asked in stage.engine.generated} == {0}
    with reading(stage.sessions) as session:
        output = session.get(Dataset, f"{ACCOUNT}/datasets/eval-1-results")
        assert output is not None
        assert (output.state, output.example_count) == ("READY", 4)
        assert output.spec["evaluationResult"] == {"evaluationJobId": name}
        [seen] = throughputs.recent(session, stage.base, "generate")
        assert (seen.source, seen.tokens_per_second > 0) == (name, True)
        assert session.query(ApiKey).filter(ApiKey.display_name == "rollout key").count() == 0


@pytest.mark.parametrize("processor", ["NoOpRolloutProcessor", "SingleTurnRolloutProcessor"])
async def test_rows_are_scored_as_they_are_when_no_model_is_named(stage: Stage, processor: str) -> None:
    stage.evaluator(EXACT.replace("SingleTurnRolloutProcessor", processor))
    await stage.dataset("rows", [row("4", answer="4"), row("5", answer="6"), row("7")])
    name = await stage.created(scoring={})
    async with stage.worker():
        job = await final(stage.sessions, name)
    assert job.state == "JOB_STATE_COMPLETED"
    assert (job.progress["metrics"]["score"], job.progress["metrics"]["invalid"]) == (0.5, 1)
    assert "does not end in an assistant message" in job.status["message"]
    results = await stage.results("eval-1-results")
    assert [one["messages"][-1]["content"] for one in results] == ["4", "6", "say 7"]
    assert stage.engine.generated == []
    with reading(stage.sessions) as session:
        assert throughputs.recent(session, stage.base, "generate") == []


async def test_an_evaluator_that_rolls_nothing_out_scores_the_models_answers(stage: Stage) -> None:
    stage.evaluator(EXACT.replace("SingleTurnRolloutProcessor", "NoOpRolloutProcessor"))
    await stage.dataset("rows", [row("4", answer="gold"), row("5", answer="5", truth="6")])
    name = await stage.created()
    async with stage.worker():
        job = await final(stage.sessions, name)
    assert job.progress["metrics"]["score"] == 0.5
    assert [one["messages"][-1]["content"] for one in await stage.results("eval-1-results")] == ["4", "5"]


async def test_no_score_at_all_is_a_failure_with_the_reasons(stage: Stage) -> None:
    await stage.dataset("rows", [row("boom"), row("boom")])
    name = await stage.created()
    async with stage.worker():
        job = await final(stage.sessions, name)
    assert job.state == "JOB_STATE_FAILED"
    assert job.status["message"].startswith("None of the 2 rows could be scored: 2 x ")
    assert "cannot read it" in job.status["message"]
    status, output = await stage.call("GET", "/datasets/eval-1-results")
    assert (status, output["state"]) == (200, "UPLOADING")
    stage.evaluator(EXACT.replace('"boom"', '"never"'), version=2)
    again = await stage.created("eval-2", outputDataset="eval-1-results")
    async with stage.worker():
        assert (await final(stage.sessions, again)).state == "JOB_STATE_COMPLETED"


@pytest.mark.parametrize("how", ["worker", "host"])
async def test_a_job_that_was_cut_goes_on_and_asks_for_no_rollout_twice(stage: Stage, how: str) -> None:
    gate = await hold_back(stage)
    await stage.dataset("rows", [row("1"), row("2"), row("held")])
    name = await stage.created(scoring={"model": stage.base, "temperature": 0.7})
    folder = stage.settings.path("evaluations", "eval-1")

    async def two_done() -> None:
        log = folder / "rollouts.jsonl"
        while not log.exists() or len(log.read_bytes().splitlines()) < 2 or len(stage.engine.generated) < 3:
            await asyncio.sleep(0.02)

    async with stage.worker():
        await asyncio.wait_for(two_done(), 120)
        gate.set()
        if how == "host":
            for pid in host_processes(stage):
                os.kill(pid, signal.SIGKILL)
            job = await final(stage.sessions, name)
    if how == "worker":
        with (folder / "rollouts.jsonl").open("ab") as file:
            file.write(b'{"row_index": 2, "torn')
        async with stage.worker():
            job = await final(stage.sessions, name)
    assert (job.state, job.progress["metrics"]["score"]) == ("JOB_STATE_COMPLETED", 1.0)
    seeds = Counter(asked["seed"] for asked in stage.engine.generated)
    assert sorted(seeds.values()) == [1, 1, 2]  # the repeated attempt draws the same noise
    record = EvaluationRows(folder)
    assert sorted(one["rollout_id"] for one in record._records) == [
        "eval-1-row0-a0", "eval-1-row1-a0", "eval-1-row2-a1",
    ]  # fmt: skip
    record.close()


async def test_a_running_job_is_cancelled_then_deleted_with_its_files(stage: Stage) -> None:
    await hold_back(stage)
    await stage.dataset("rows", [row("1"), row("held")])
    name = await stage.created()
    folder = stage.settings.path("evaluations", "eval-1")
    async with stage.worker():
        await until(stage.sessions, name, lambda job: len(stage.engine.generated) >= 2)
        assert (await stage.call("DELETE", "/datasets/rows"))[0] == 400
        assert await stage.call("POST", "/evaluationJobs/eval-1:cancel") == (200, {})
        job = await final(stage.sessions, name)
        assert job.state == "JOB_STATE_CANCELLED"
        assert host_processes(stage) == []
        assert folder.exists()
        assert await stage.call("DELETE", "/evaluationJobs/eval-1") == (200, {})
        while (await stage.call("GET", "/evaluationJobs/eval-1"))[0] == 200:
            await asyncio.sleep(0.05)
    assert not folder.exists()
    assert (await stage.call("GET", "/datasets/eval-1-results"))[0] == 404


async def test_what_is_wrong_is_said_at_the_create(stage: Stage) -> None:
    await stage.dataset("rows", [row("1")])
    await stage.dataset("full", [row("2")])
    await stage.call("POST", "/datasets", json={"datasetId": "announced", "dataset": {}})
    stage.evaluator(state="ACTIVE")
    cases = [
        (404, {"inputDataset": "nowhere"}, "There is no dataset accounts/local/datasets/nowhere"),
        (400, {"inputDataset": "announced"}, "announced is not READY but UPLOADING"),
        (404, {"evaluator": "nobody"}, "nobody"),
        (409, {"outputDataset": "full"}, "full exists already, with other content"),
        (400, {"outputDataset": "rows"}, "outputDataset is the inputDataset"),
        (404, {"scoring": {"model": "accounts/local/models/gone"}}, "there is no model accounts/local/models/gone"),
        (404, {"scoring": {"model": "no-such-model"}}, "'no-such-model' is not known here"),
        (404, {"scoring": {"model": "accounts/local/deployments/gone"}}, "there is no deployment"),
        (400, {"scoring": {"model": stage.base, "maxTokens": 512}}, "leaves no room for a prompt"),
        (400, {"scoring": {"model": stage.base, "topP": 0.9}}, "topP"),
        (400, {"scoring": {"temperature": 0.5}}, "scoring.temperature has no effect without scoring.model"),
    ]
    for expected, fields, text in cases:
        status, body = await stage.create(**fields)
        assert (status, text in body["message"]) == (expected, True), (fields, body)
    stage.evaluator(state="BUILD_FAILED", status={"code": "INVALID_ARGUMENT", "message": "pip failed"})
    status, body = await stage.create()
    assert (status, "not ACTIVE but BUILD_FAILED: pip failed" in body["message"]) == (400, True), body
    assert (await stage.call("GET", "/evaluationJobs"))[1]["evaluationJobs"] == []
    assert (await stage.call("GET", "/datasets/eval-1-results"))[0] == 404


async def test_an_adapter_on_a_full_model_of_the_account_is_evaluated(stage: Stage) -> None:
    await stage.dataset("rows", [row("1")])
    full, tuned = f"{ACCOUNT}/models/full", f"{ACCOUNT}/models/tuned"
    folder = make_model_folder(stage.settings.path("objects", "models", "local", "full"))
    kinds = {full: ("HF_BASE_MODEL", stage.base), tuned: ("HF_PEFT_ADDON", full)}
    with stage.sessions.begin() as session:
        for name, (kind, base) in kinds.items():
            fields = {"kind": kind, "base_model": base, "adapter_path": str(folder), "sha256": "ab"}
            session.add(Model(name=name, account=ACCOUNT, **fields))
    name = await stage.created(scoring={"model": tuned})
    with stage.sessions() as session:
        spec = session.get_one(Job, name).spec
    assert (spec["model"], spec["base_model"]) == (tuned, full)


async def test_the_same_create_again_is_the_same_job(stage: Stage) -> None:
    await stage.dataset("rows", [row("1")])
    first = await stage.create()
    assert await stage.create() == first
    status, body = await stage.create(displayName="other")
    assert (status, "with other options" in body["message"]) == (409, True)
    status, body = await stage.create("eval-2", outputDataset="eval-1-results")
    assert (status, f"written by {ACCOUNT}/evaluationJobs/eval-1" in body["message"]) == (409, True)


async def test_an_evaluator_of_an_older_sdk_is_told_to_be_built_anew(stage: Stage) -> None:
    python = stage.build_dir / "venv" / "bin" / "python"
    older = "import json,sys,socket\np=sys.argv[sys.argv.index('--socket')+1]\ns=socket.socket(socket.AF_UNIX)\n"
    older += "s.bind(p)\ns.listen()\nwhile 1:\n c,_=s.accept()\n f=c.makefile('rwb')\n f.readline()\n"
    older += ' f.write(b\'{"type":"described","name":"e"}\\n\')\n f.close()\n c.close()\n'
    (stage.build_dir / "older.py").write_text(older)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} {stage.build_dir}/older.py "$@"\n')
    await stage.dataset("rows", [row("1")])
    name = await stage.created()
    async with stage.worker():
        job = await final(stage.sessions, name)
    assert (job.state, "built with an SDK that cannot run evaluation jobs" in job.status["message"]) == (
        "JOB_STATE_FAILED",
        True,
    )


async def test_a_rollout_id_stays_one_segment_of_the_address_and_odd_usage_is_none() -> None:
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.raw_path)
        return web.json_response({"completions": [{"prompt_ids": [1, 2], "sampled_ids": [3]}]})

    app = web.Application()
    app.router.add_get("/{rest:.*}", answer)
    async with TestServer(app) as server:
        gateway = GatewayRecords(str(server.make_url("")).rstrip("/"), "key")
        assert await gateway.tokens("../gateway?x=", {"execution_metadata": {"usage": [1]}}) == (2, 1)
    assert asked == ["/internal/rollouts/..%2Fgateway%3Fx=/completions"]
