"""The evaluator host as the platform uses it: a process, a unix socket, and evaluators that misbehave."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from eval_protocol.models import EvaluationRow

from tests.sdk.conftest import FakeModel, completion

HEADER = """
import asyncio, ctypes, os, sys, time
from eval_protocol.models import EvaluateResult, EvaluationRow, Message
from eval_protocol.pytest import NoOpRolloutProcessor, RolloutProcessor, SingleTurnRolloutProcessor, evaluation_test
print("imported in", os.getpid(), flush=True)
"""
MISBEHAVING = """
@evaluation_test(input_dataset=["x.jsonl"], rollout_processor=NoOpRolloutProcessor())
def evaluate(row: EvaluationRow) -> EvaluationRow:
    text = row.messages[0].text
    if text == "hang": time.sleep(600)
    if text == "spin":
        while True: pass
    if text == "exit": os._exit(3)
    if text == "sys.exit": sys.exit(4)
    if text == "segfault": ctypes.string_at(0)
    if text == "raise": raise ValueError("my mistake")
    if text == "none": return None
    if text == "1.5": return 1.5
    if text == "nan": return float("nan")
    if text == "json": row.odd = object()
    if text == "child":
        if os.fork() == 0: time.sleep(600)
        os._exit(5)
    if text == "print": print("user output", flush=True); os.write(1, b"raw output\\n")
    row.evaluation_result = EvaluateResult(score=float(text) if text[0] in "01" else 1.0, reason="fine")
    return row
"""
CHAT = """
@evaluation_test(
    input_dataset=["x.jsonl"],
    completion_params=[{"model": "author/model", "temperature": 0.1}],
    num_runs=7, max_dataset_rows=1, passed_threshold=1.0,
    evaluation_test_kwargs=[{"bonus": 0.25}],
)
async def evaluate(row: EvaluationRow, bonus: float) -> EvaluationRow:
    await asyncio.sleep(0)
    assert row.ground_truth == "<answer>4</answer>"
    row.evaluation_result = EvaluateResult(score=bonus + ("4" in row.messages[-1].text) / 2, reason=row.messages[-1].text)
    return row
"""


class Client:
    """The platform's side of the socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, message: Any) -> None:
        self.writer.write((message if isinstance(message, bytes) else json.dumps(message).encode()) + b"\n")

    async def receive(self) -> dict[str, Any]:
        return json.loads(await asyncio.wait_for(self.reader.readline(), 20))

    async def ask(self, message: Any) -> dict[str, Any]:
        self.send(message)
        return await self.receive()

    async def run(self, rows: list[dict[str, Any]], request_id: str = "r", **more: Any) -> dict[int, dict[str, Any]]:
        self.send(run_request(rows, request_id, **more))
        return await self.events(request_id)

    async def events(self, request_id: str = "r") -> dict[int, dict[str, Any]]:
        events: dict[int, dict[str, Any]] = {}
        while (event := await self.receive())["type"] == "rollout":
            assert event["request_id"] == request_id
            events[event["row_index"]] = event
        assert event == {"type": "done", "request_id": request_id}
        return events


def run_request(rows: list[dict[str, Any]], request_id: str = "r", **more: Any) -> dict[str, Any]:
    attempts = [
        {"row_index": index, "k": 2, "attempt": 1, "rollout_id": f"job-r{index}-k2-a1", "row": row}
        for index, row in enumerate(rows)
    ]
    return {
        "type": "run",
        "request_id": request_id,
        "invocation_id": "job-epoch-0-chunk-0",
        "completion_params": {"model": "accounts/local/models/job-v0", "temperature": 1.0},
        "attempts": attempts,
        **more,
    }


def question(text: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **more}


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def writing(code: str) -> Path:
        (tmp_path / "evaluation.py").write_text(HEADER + code)
        return tmp_path

    return writing


@pytest.fixture
def start(write: Callable[[str], Path], tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []

    def starting(code: str, *arguments: str, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        folder = write(code)
        command = [sys.executable, "-m", "eval_protocol.host", "--entry", "evaluation.py::evaluate"]
        command += ["--socket", str(folder / "h.sock"), "--scorers", "2", *arguments]
        with open(folder / "host.log", "ab") as log:
            process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env={**os.environ, **(env or {})})
        started.append(process)
        return process

    yield starting
    for process in started:
        if process.poll() is None:
            process.terminate()
        assert process.wait(10) is not None


@pytest.fixture
async def connect(tmp_path: Path) -> AsyncIterator[Callable[[], Any]]:
    clients: list[Client] = []

    async def connecting() -> Client:
        for _ in range(400):
            try:
                clients.append(Client(*await asyncio.open_unix_connection(str(tmp_path / "h.sock"), limit=2**24)))
                return clients[-1]
            except OSError:
                await asyncio.sleep(0.025)
        raise AssertionError((tmp_path / "host.log").read_text())

    yield connecting
    for client in clients:
        client.writer.close()


def processes_of(folder: Path) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if str(folder / "h.sock").encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return sorted(found)


async def forked(folder: Path, count: int) -> None:
    """Wait until the host has that many processes."""
    for _ in range(400):
        if len(processes_of(folder)) == count:
            return
        await asyncio.sleep(0.025)
    assert len(processes_of(folder)) == count


def gone(folder: Path) -> bool:
    for _ in range(200):
        if not processes_of(folder):
            return True
        time.sleep(0.025)
    return False


async def test_every_misdeed_costs_one_row(start: Any, connect: Any, tmp_path: Path):
    start(MISBEHAVING, "--evaluation-timeout", "0.7")
    client = await connect()
    expected = {
        "0.5": None,
        "hang": r"did not return within 0.7 s",
        "exit": "ended while it worked on this row (exit code 3)",
        "sys.exit": "Error during evaluation: SystemExit: 4",
        "segfault": "killed by SIGSEGV",
        "1.0": None,
        "raise": "Error during evaluation: ValueError: my mistake (evaluation.py:",
        "none": "None instead of the row",
        "1.5": "The score is 1.5; it must lie between 0 and 1.",
        "nan": "nan, not a finite number",
        "json": "cannot be written as JSON",
        "child": "exit code 5",
        "spin": r"did not return within 0.7 s",
        "print": None,
        "0": None,
    }
    events = await client.run([question(text) for text in expected])
    assert len(events) == len(expected)
    for event, (text, reason) in zip((events[i] for i in range(len(expected))), expected.items(), strict=True):
        assert (event["k"], event["attempt"], event["rollout_id"]) == (2, 1, f"job-r{event['row_index']}-k2-a1")
        row = EvaluationRow.model_validate(event["row"])
        assert row.execution_metadata.rollout_id == event["rollout_id"]
        assert row.evaluation_result is not None
        assert row.evaluation_result.is_score_valid is event["is_score_valid"] is (reason is None), event
        if reason is None:
            assert event["score"] == (float(text) if text[0] in "01" else 1.0)
            assert event["reason"] == "fine"
        else:
            assert event["score"] is None
            assert reason in event["reason"]
            assert reason in (row.evaluation_result.reason or "")
    again = await client.run([question("1.0")] * 4, request_id="again")
    assert [event["score"] for event in again.values()] == [1.0] * 4
    log = (tmp_path / "host.log").read_text()
    assert "user output" in log
    assert "raw output" in log
    assert log.count("imported in") == 1
    await forked(tmp_path, 4)  # each scorer that served a row is being replaced


LEAVES_SOMETHING = """
import json, os, subprocess, sys, time
from eval_protocol import EvaluateResult, EvaluationRow, evaluation_test
from eval_protocol.rollouts import NoOpRolloutProcessor


@evaluation_test(rollout_processor=NoOpRolloutProcessor())
def evaluate(row: EvaluationRow) -> EvaluationRow:
    if row.messages[-1].content == "daemon":
        subprocess.Popen(["sh", "-c", "setsid sleep 86311 & exit 0"]).wait()
    if row.messages[-1].content == "patch":
        json.dumps = lambda *_, **__: "{}"
        EvaluateResult.model_validate = None
        __builtins__["len"] = lambda _: 0
    row.evaluation_result = EvaluateResult(score=0.5 + len("ab") / 8, reason="fine")
    return row
"""


async def test_what_a_row_did_to_its_process_and_left_behind_is_gone_for_the_next(start: Any, connect: Any):
    start(LEAVES_SOMETHING, "--scorers", "1", "--evaluation-timeout", "2")
    client = await connect()
    await client.run([question("daemon"), question("patch")])
    events = await client.run([question("fine")], request_id="again")
    assert events[0]["score"] == 0.75
    for _ in range(400):
        if not any(b"86311" in line for line in command_lines()):
            break
        time.sleep(0.025)
    assert not any(b"86311" in line for line in command_lines())


def command_lines() -> list[bytes]:
    lines = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(entry.read_bytes())
        except OSError:
            continue
    return lines


SYNC = """
async def later(value):
    await asyncio.sleep(0.001)
    return value

@evaluation_test(input_dataset=["x.jsonl"], rollout_processor=NoOpRolloutProcessor())
def evaluate(row: EvaluationRow) -> EvaluationRow:
    print("said without a flush")
    text = row.messages[0].text
    if text == "own loop": return asyncio.run(later(0.25))
    if text == "awaitable": return later(0.75)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return 1.0
"""
ASYNC = """
@evaluation_test(input_dataset=["x.jsonl"], rollout_processor=NoOpRolloutProcessor())
async def evaluate(row: EvaluationRow) -> EvaluationRow:
    text = row.messages[0].text
    if text == "left over":
        left = [asyncio.create_task(asyncio.sleep(600)), asyncio.get_running_loop().run_in_executor(None, time.sleep, 600)]
        return 0.5
    await asyncio.gather(asyncio.sleep(0.001), asyncio.to_thread(time.sleep, 0.001))
    return 0.25
"""


async def test_a_plain_function_sees_no_event_loop_as_in_pytest(start: Any, connect: Any, tmp_path: Path):
    start(SYNC)
    client = await connect()
    events = await client.run([question(text) for text in ("own loop", "awaitable", "none")])
    assert [events[i]["score"] for i in range(3)] == [0.25, 0.75, 1.0], events
    assert (tmp_path / "host.log").read_text().count("said without a flush") == 3


async def test_a_coroutine_function_has_a_loop_and_need_not_tidy_up(start: Any, connect: Any):
    start(ASYNC)
    client = await connect()
    events = await client.run([question(text) for text in ("left over", "waits")])
    assert [events[i]["score"] for i in range(2)] == [0.5, 0.25], events


ODD_PROCESSOR = """
import asyncio
from eval_protocol import EvaluationRow, evaluation_test
from eval_protocol.pytest import RolloutProcessor


class Odd(RolloutProcessor):
    def __call__(self, rows, config):
        async def roll(row):
            odd = float("nan") if row.messages[0].content == "nan" else 1.0
            row.execution_metadata.rollout_duration_seconds = odd
            return row

        return [asyncio.create_task(roll(row)) for row in rows]


@evaluation_test(rollout_processor=Odd())
def evaluate(row: EvaluationRow) -> EvaluationRow:
    return 1.0
"""


async def test_what_a_processor_leaves_that_is_no_json_costs_its_row_only(start: Any, connect: Any):
    start(ODD_PROCESSOR)
    client = await connect()
    events = await client.run([question("nan"), question("fine")])
    assert [events[i]["score"] for i in range(2)] == [None, 1.0]
    assert "cannot be written as JSON" in events[0]["reason"]


async def test_rollouts_go_through_the_tests_own_processor(start: Any, connect: Any, model: FakeModel):
    """Gold answer dropped, given ids and parameters used, the decorator's ignored, failures not scored."""

    def answer(seen: Any) -> Any:
        text = seen.body["messages"][-1]["content"]
        if text == "refuse":
            return 400, {}, {"error": {"message": "prompt too long"}}
        if text == "later" and sum(other.body["messages"][-1]["content"] == "later" for other in model.seen) == 1:
            return 503, {"Retry-After": "0.05"}, {"error": "starting"}
        return 200, {}, completion("it is 4" if text == "2+2" else "no idea")

    model.answer = answer
    start(CHAT, env={"EP_MODEL_BASE_URL": model.url, "EP_REMOTE_API_KEY": "rk", "FIREWORKS_API_KEY": "rk"})
    client = await connect()
    described = await client.ask({"type": "describe"})
    assert described | {"line": 0} == {
        "type": "described", "name": "evaluate", "mode": "pointwise", "file": "evaluation.py", "line": 0, "timeout": 60.0,
        "answers": ["score", "replace"], "passed_threshold": 1.0, "listens": "fd", "agent_server": None,
    }  # fmt: skip
    gold = {"role": "assistant", "content": "GOLD <answer>4</answer>"}
    rows = [
        {"messages": [{"role": "user", "content": text}, gold], "ground_truth": "<answer>4</answer>"}
        for text in ("2+2", "other", "refuse", "later")
    ]
    rows[0]["input_metadata"] = {"row_id": "row-0"}
    rows.append({"messages": "nonsense"})
    events = await client.run(rows, max_concurrent_rollouts=2)
    assert [events[i]["score"] for i in range(5)] == [0.75, 0.25, None, 0.25, None]
    assert "400: prompt too long" in events[2]["reason"]
    assert events[2]["row"]["rollout_status"]["code"] == 3
    assert "evaluation_result" not in events[2]["row"]
    assert "not an evaluation row: `messages`" in events[4]["reason"]
    assert [message["role"] for message in events[0]["row"]["messages"]] == ["user", "assistant"]
    assert events[0]["row"]["messages"][-1]["content"] == "it is 4"
    assert len(model.seen) == 5
    assert model.busiest <= 2
    assert "GOLD" not in json.dumps([seen.body for seen in model.seen])
    assert {seen.body["model"] for seen in model.seen} == {"accounts/local/models/job-v0"}
    assert {seen.body["temperature"] for seen in model.seen} == {1.0}
    assert {seen.headers["Authorization"] for seen in model.seen} == {"Bearer rk"}
    again = [seen.path.split("/")[2] for seen in model.seen if seen.body["messages"][-1]["content"] == "later"]
    assert again == ["job-r3-k2-a1", "job-r3-k2-a1-t1"]
    assert events[3]["rollout_id"] == again[1] == events[3]["row"]["execution_metadata"]["rollout_id"]
    assert [events[i]["rollout_id"] for i in (0, 2, 4)] == [f"job-r{i}-k2-a1" for i in (0, 2, 4)]
    first = next(seen for seen in model.seen if seen.body["messages"][-1]["content"] == "2+2")
    assert first.path == (
        "/rollout_id/job-r0-k2-a1/invocation_id/job-epoch-0-chunk-0/experiment_id/job-epoch-0-chunk-0"
        "/run_id/k2/row_id/row-0/chat/completions"
    )


async def test_rows_are_scored_as_they_are_when_asked_to(start, connect, model: FakeModel):
    start(CHAT, env={"EP_MODEL_BASE_URL": model.url, "EP_REMOTE_API_KEY": "rk"})
    client = await connect()
    answers = [{"role": "assistant", "content": text} for text in ("it is 4", "no idea")]
    rows = [question("2+2", ground_truth="<answer>4</answer>") for _ in range(3)]
    for row, answer in zip(rows, answers, strict=False):
        row["messages"].append(answer)
    events = await client.run(rows, answers="score")
    assert [events[i]["score"] for i in range(3)] == [0.75, 0.25, None]
    assert [events[i]["row"]["messages"][-1]["content"] for i in range(2)] == ["it is 4", "no idea"]
    assert "does not end in an assistant message" in events[2]["reason"]
    assert model.seen == []


@pytest.mark.parametrize(("answers", "expected"), [(None, "gold"), ("score", "gold"), ("replace", "from the model")])
async def test_an_evaluator_without_rollouts_can_be_given_a_models_answers(
    start, connect, model: FakeModel, answers: str | None, expected: str
):
    model.answer = lambda seen: (200, {}, completion("from the model"))
    quoting = """
@evaluation_test(input_dataset=["x.jsonl"], rollout_processor=NoOpRolloutProcessor())
def evaluate(row: EvaluationRow) -> EvaluationRow:
    row.evaluation_result = EvaluateResult(score=1.0, reason=row.messages[-1].text)
    return row
"""
    start(quoting, env={"EP_MODEL_BASE_URL": model.url, "EP_REMOTE_API_KEY": "rk"})
    client = await connect()
    row = question("2+2")
    row["messages"].append({"role": "assistant", "content": "gold"})
    events = await client.run([row], **({"answers": answers} if answers else {}))
    assert (events[0]["score"], events[0]["reason"]) == (1.0, expected)
    assert "gold" not in json.dumps([seen.body for seen in model.seen])


ADAPTING = """
def adapter(raw):
    if raw and "hang" in raw[0]: time.sleep(600)
    if raw and "exit" in raw[0]: os._exit(1)
    return [EvaluationRow(messages=[Message(role="user", content=entry["q"])], ground_truth=entry["a"]) for entry in raw]

@evaluation_test(
    input_dataset=["x.jsonl"], dataset_adapter=adapter, rollout_processor=NoOpRolloutProcessor(),
    preprocess_fn=lambda rows: [row for row in rows if row.ground_truth],
)
def evaluate(row: EvaluationRow) -> EvaluationRow:
    return float(row.messages[-1].role == "assistant")
"""


async def test_datasets_are_adapted_by_the_test(start: Any, connect: Any):
    start(ADAPTING)
    client = await connect()
    adapted = await client.ask({"type": "adapt", "rows": [{"q": "2+2", "a": "4"}, {"q": "none", "a": ""}]})
    assert adapted["type"] == "adapted"
    [row] = [EvaluationRow.model_validate(row) for row in adapted["rows"]]
    assert (row.messages[0].content, row.ground_truth) == ("2+2", "4")
    assert row.input_metadata.row_id
    failed = await client.ask({"type": "adapt", "rows": [{"wrong": 1}]})
    assert failed == {"type": "error", "message": "The dataset_adapter adapter failed: KeyError: 'q'."}
    crashed = await client.ask({"type": "adapt", "rows": [{"exit": 1}]})
    assert crashed["type"] == "error"
    assert "ended while it worked on the dataset (exit code 1)" in crashed["message"]
    precomputed = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
    assert (await client.run([precomputed]))[0]["score"] == 1.0


async def test_requests_that_make_no_sense(start: Any, connect: Any):
    start(MISBEHAVING)
    client = await connect()
    for message in (b"{", b"[1]", b'{"type": "explode"}', b'{"type": "run", "request_id": "x"}'):
        answer = await client.ask(message)
        assert answer["type"] == "error"
        assert answer["message"].startswith("Not a request of the evaluator host")
    assert answer["request_id"] == "x"
    assert (await client.ask({"type": "describe"}))["type"] == "described"
    assert await client.run([]) == {}


async def test_a_run_can_be_cancelled_and_a_lost_client_cancels_it(start: Any, connect: Any, tmp_path: Path):
    start(MISBEHAVING, "--evaluation-timeout", "300")
    client = await connect()
    client.send(run_request([question("1.0"), question("hang"), question("hang"), question("hang")]))
    assert (await client.receive())["row_index"] == 0
    assert (await client.ask(run_request([])))["message"] == "The request r is running already."
    client.send({"type": "cancel", "request_id": "r"})
    assert await client.events() == {}
    assert await client.ask({"type": "cancel", "request_id": "r"}) == {"type": "done", "request_id": "r"}
    events = await client.run([question("1.0")] * 3, "after")  # both scorers were hanging
    assert [event["score"] for event in events.values()] == [1.0] * 3
    client.send(run_request([question("hang"), question("hang")], "lost"))
    await asyncio.sleep(0.2)
    client.writer.close()
    other = await connect()
    assert (await other.run([question("0")]))[0]["score"] == 0.0


async def test_single_rollouts_are_stopped_from_any_connection_and_the_others_go_on(start: Any, connect: Any):
    start(MISBEHAVING, "--evaluation-timeout", "300")
    client, other = await connect(), await connect()
    client.send(run_request([question("1.0"), question("hang"), question("0.0"), question("hang")]))
    first = await client.receive()
    stuck = [f"job-r{row}-k2-a1" for row in (1, 3)]
    assert await other.ask({"type": "cancel", "request_id": "c", "rollouts": [*stuck, "unknown"]}) == {
        "type": "done",
        "request_id": "c",
    }
    events = await client.events()
    assert {0, 2} == {first["row_index"], *events}, "nothing is said of what was stopped, and `done` comes"
    assert [event["score"] for event in (await client.run([question("1.0")] * 3, "after")).values()] == [1.0] * 3


async def test_connections_do_not_wait_for_each_other(start: Any, connect: Any):
    start(MISBEHAVING, "--evaluation-timeout", "1.5")
    first, second = await connect(), await connect()
    first.send(run_request([question("hang")]))
    started = time.monotonic()
    assert (await second.run([question("1.0")] * 3))[0]["score"] == 1.0
    assert time.monotonic() - started < 1.4
    assert "did not return" in (await first.events())[0]["reason"]


async def test_sigterm_ends_everything_tidily(start: Any, connect: Any, tmp_path: Path):
    process = start(MISBEHAVING)
    await connect()
    await forked(tmp_path, 4)
    assert (tmp_path / "h.sock").stat().st_mode & 0o777 == 0o600
    process.terminate()
    assert process.wait(10) == 0
    assert gone(tmp_path)
    assert not (tmp_path / "h.sock").exists()


async def test_kill_9_of_the_main_process_takes_all_with_it(start: Any, connect: Any, tmp_path: Path):
    process = start(MISBEHAVING, "--evaluation-timeout", "300")
    client = await connect()
    client.send(run_request([question("hang"), question("spin")]))
    await asyncio.sleep(0.2)
    process.kill()
    process.wait(10)
    assert gone(tmp_path)


async def test_a_loop_that_dies_takes_all_with_it(start: Any, connect: Any, tmp_path: Path):
    """A processor runs in the loop process: what it does to it must not leave half a host behind."""
    process = start(
        """
class Fatal(RolloutProcessor):
    def __call__(self, rows, config):
        os._exit(7)

@evaluation_test(input_dataset=["x.jsonl"], rollout_processor=Fatal())
def evaluate(row: EvaluationRow) -> EvaluationRow:
    return 1.0
"""
    )
    client = await connect()
    client.send(run_request([question("q")]))
    assert process.wait(10) == 7
    assert gone(tmp_path)
    assert "event loop ended: exit code 7" in (tmp_path / "host.log").read_text()


def test_the_host_dies_with_its_parent(write: Any, tmp_path: Path):
    folder = write(MISBEHAVING)
    code = (
        "import subprocess, sys, time\n"
        "p = subprocess.Popen([sys.executable, '-m', 'eval_protocol.host', '--entry', 'evaluation.py::evaluate',"
        f" '--socket', {str(folder / 'h.sock')!r}])\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=folder, stdout=subprocess.DEVNULL)
    try:
        for _ in range(400):
            if (folder / "h.sock").exists():
                break
            time.sleep(0.025)
        assert (folder / "h.sock").exists()
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    assert gone(folder)


def check(folder: Path, entry: str = "evaluation.py::evaluate") -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "eval_protocol.host", "--entry", entry, "--check"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, json.loads(done.stdout)


SEVERAL = """
@evaluation_test(input_dataset=["x.jsonl"], completion_params=[{"model": "a"}, {"model": "b", "api_key": "sk-x"}])
def evaluate(row: EvaluationRow) -> EvaluationRow:
    return 1.0
"""


@pytest.mark.parametrize(
    ("code", "entry", "says"),
    [
        ("import no_such_module\n", "evaluation.py::evaluate", "No module named 'no_such_module' (evaluation.py:6)"),
        ("def f(:\n", "evaluation.py::evaluate", "SyntaxError"),
        ("def evaluate(row): pass\n", "evaluation.py::evaluate", "has no evaluation 'evaluate'"),
        ("", "other.py::evaluate", "no file other.py"),
        (SEVERAL, "evaluation.py::evaluate", "has 2 parametrizations, but a training job runs one:\n  - a"),
    ],
)
def test_check_says_why_it_cannot_run(write: Any, code: str, entry: str, says: str):
    returncode, answer = check(write(code), entry)
    assert returncode == 1
    assert answer["type"] == "error"
    assert says in answer["message"]
    assert "sk-x" not in answer["message"]


def test_check_describes(write: Any):
    returncode, answer = check(write(MISBEHAVING))
    assert returncode == 0
    assert (answer["type"], answer["name"], answer["mode"]) == ("described", "evaluate", "pointwise")


def test_serving_what_does_not_import_fails_with_the_reason(start: Any, tmp_path: Path):
    process = start("import no_such_module\n")
    assert process.wait(20) == 1
    assert "No module named 'no_such_module' (evaluation.py:6)" in (tmp_path / "host.log").read_text()
