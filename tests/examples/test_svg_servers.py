"""Both agent servers, Python and TypeScript, driven through the same `/init` requests against one small gateway: they behave alike."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.examples.svg import EXAMPLE

Answer = tuple[int, dict[str, Any]]
WAIT_SECONDS = 30.0
IDS = {"invocation_id": "i", "experiment_id": "e", "run_id": "n", "row_id": "w"}
DRAWING = '<svg viewBox="0 0 100 100"><circle cx="50" cy="50" r="40" fill="red"/></svg>'
COMPLETION = {
    "id": "c",
    "object": "chat.completion",
    "created": 0,
    "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": DRAWING}}],
}


class Gateway:
    """Takes model calls and log lines; answers the calls as the test says."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str | None, dict[str, Any]]] = []
        self.lines: list[tuple[str | None, dict[str, Any]]] = []
        self.answer: Callable[[dict[str, Any]], Answer] = lambda _: (200, COMPLETION)
        self._changed = threading.Condition()
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                key = self.headers["Authorization"]
                status, answer = gateway._take(self.path, key, body)
                data = json.dumps(answer).encode()
                with suppress(OSError):
                    self.send_response(status)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(data)))
                    self.send_header("retry-after-ms", "1")
                    self.end_headers()
                    self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                """Quiet."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def _take(self, path: str, key: str | None, body: dict[str, Any]) -> Answer:
        if path == "/litellm-gateway/logs":
            with self._changed:
                self.lines.append((key, body))
                self._changed.notify_all()
            return 200, {}
        if path.endswith("/chat/completions"):
            with self._changed:
                self.calls.append((path, key, body))
                self._changed.notify_all()
            return self.answer(body)
        return 404, {"error": {"message": path}}

    def wait_for(self, condition: Callable[[], Any]) -> Any:
        """What the condition gives once it gives something."""
        with self._changed:
            assert self._changed.wait_for(lambda: condition() is not None, WAIT_SECONDS), (self.calls, self.lines)
            return condition()

    def status(self, rollout: str) -> dict[str, Any] | None:
        """The terminal status of a rollout, when it has one."""
        for _, line in self.lines:
            if f"rollout_id:{rollout}" in line["tags"] and line["status"] and line["status"]["code"] != 101:
                return line["status"]
        return None

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Agent:
    """One agent server, as its README starts it."""

    def __init__(self, argv: list[str], folder: Path, log: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        env = {name: value for name, value in os.environ.items() if not name.startswith(("FIREWORKS_", "EP_", "FW_"))}
        with open(log, "wb") as output:
            self.process = subprocess.Popen(
                [*argv, "--port", str(self.port)],
                cwd=folder,
                env={**env, "HOME": str(log.parent)},
                stdout=output,
                stderr=output,
            )
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            with suppress(OSError):
                if self.send("GET", "/health")[0] == 200:
                    return
            assert self.process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)

    def send(self, method: str, path: str, body: bytes | None = None) -> tuple[int, Any]:
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=WAIT_SECONDS) as response:
                return response.status, json.loads(response.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    def init(self, body: dict[str, Any]) -> tuple[int, Any]:
        return self.send("POST", "/init", json.dumps(body).encode())


@pytest.fixture(scope="module", params=["py", "ts"])
def agent(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    log = tmp_path_factory.mktemp("agent") / "log"
    if request.param == "py":
        folder, argv = EXAMPLE / "server_py", [sys.executable, "agent.py"]
    else:
        folder, argv = EXAMPLE / "server_ts", ["node", "dist/dev.js"]
        build(folder)
    started = Agent(argv, folder, log)
    yield started
    started.process.send_signal(signal.SIGTERM)
    assert started.process.wait(WAIT_SECONDS) in (0, -signal.SIGTERM), log.read_text()


def build(folder: Path) -> None:
    """`npm ci` once, and compile. Skipped without Node or without a registry, unless this is CI."""
    problem = None if shutil.which("npm") else "npm is not installed"
    if problem is None and not (folder / "node_modules" / ".package-lock.json").exists():
        done = subprocess.run(["npm", "ci"], cwd=folder, capture_output=True, text=True)
        problem = f"npm ci failed: {done.stderr[-500:]}" if done.returncode else None
    if problem is not None:
        if os.environ.get("CI"):
            pytest.fail(problem)
        pytest.skip(problem)
    subprocess.run(["npm", "run", "build"], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    started = Gateway()
    yield started
    started.close()


def init_body(gateway: str, rollout: str, **changes: Any) -> dict[str, Any]:
    """A body as our SDK posts it, null keys included."""
    nulls = dict.fromkeys(("name", "tool_call_id", "tool_calls", "function_call", "reasoning_content"))
    base = f"{gateway}/litellm-gateway/rollout_id/{rollout}/invocation_id/i/experiment_id/e/run_id/n/row_id/w"
    body = {
        "completion_params": {
            "model": "fireworks_ai/accounts/tunesmith/models/m",
            "temperature": 0.5,
            "max_tokens": None,
        },
        "messages": [{"role": "user", "content": "Draw a red circle.", **nulls}],
        "tools": None,
        "model_base_url": base,
        "metadata": {**IDS, "rollout_id": rollout},
        "api_key": "rollout-key",
    }
    return {**body, **changes}


def test_a_rollout_calls_the_model_and_reports_its_end(agent: Agent, gateway: Gateway):
    status, answer = agent.init(init_body(gateway.url, "good-1"))
    assert (status, answer) == (202, {"rollout_id": "good-1", "status": "running"})
    assert gateway.wait_for(lambda: gateway.status("good-1"))["code"] == 100
    [(path, key, body)] = gateway.calls
    assert (
        path == "/litellm-gateway/rollout_id/good-1/invocation_id/i/experiment_id/e/run_id/n/row_id/w/chat/completions"
    )
    assert key == "Bearer rollout-key"
    assert body["model"] == "fireworks_ai/accounts/tunesmith/models/m"
    assert body["temperature"] == 0.5
    assert "max_tokens" not in body
    assert body["messages"] == [{"role": "user", "content": "Draw a red circle."}]
    gateway.wait_for(lambda: True if len(gateway.lines) >= 3 else None)
    assert {key for key, _ in gateway.lines} == {"Bearer rollout-key"}
    messages = {line["message"] for _, line in gateway.lines}
    assert {"Drawing row w", f"The model answered {len(DRAWING)} characters (stop)"} <= messages
    assert "Rollout good-1 completed" in messages
    ended = next(line for _, line in gateway.lines if line["status"])
    assert {"rollout_id:good-1", "experiment_id:e", "run_id:n"} <= set(ended["tags"])


def test_the_same_init_twice_is_one_rollout(agent: Agent, gateway: Gateway):
    release = threading.Event()
    gateway.answer = lambda _: (release.wait(WAIT_SECONDS), (200, COMPLETION))[1]
    body = init_body(gateway.url, "twice")
    assert agent.init(body)[0] == 202
    gateway.wait_for(lambda: gateway.calls or None)
    assert agent.init(body) == (200, {"rollout_id": "twice", "status": "running"})
    release.set()
    gateway.wait_for(lambda: gateway.status("twice"))
    assert agent.init(body) == (200, {"rollout_id": "twice", "status": "finished"})
    assert len(gateway.calls) == 1


@pytest.mark.parametrize(
    ("http", "code", "calls"), [(400, 3, 1), (401, 16, 1), (404, 5, 1), (500, 13, 3), (503, 14, 3), (429, 8, 3)]
)
def test_a_model_error_is_the_rollouts_status(agent: Agent, gateway: Gateway, http: int, code: int, calls: int):
    gateway.answer = lambda _: (http, {"error": {"message": f"because {http}", "code": "x", "type": "y"}})
    rollout = f"error-{http}"
    assert agent.init(init_body(gateway.url, rollout))[0] == 202
    status = gateway.wait_for(lambda: gateway.status(rollout))
    assert status["code"] == code
    assert f"because {http}" in status["message"]
    assert len(gateway.calls) == calls


def test_a_request_without_messages_fails_as_a_rollout(agent: Agent, gateway: Gateway):
    assert agent.init(init_body(gateway.url, "empty", messages=[]))[0] == 202
    status = gateway.wait_for(lambda: gateway.status("empty"))
    assert status["code"] == 13
    assert "no messages" in status["message"]
    assert gateway.calls == []


def test_tools_and_conversations_reach_the_model(agent: Agent, gateway: Gateway):
    tools = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}]
    talk = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Draw."},
        {"role": "assistant", "content": "What?"},
        {"role": "user", "content": "A circle."},
    ]
    assert agent.init(init_body(gateway.url, "talk", messages=talk, tools=tools))[0] == 202
    gateway.wait_for(lambda: gateway.status("talk"))
    assert gateway.calls[0][2]["messages"] == talk
    assert gateway.calls[0][2]["tools"] == tools


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"metadata": {**IDS}}, "metadata.rollout_id"),
        ({"metadata": None}, "metadata"),
        ({"completion_params": "no"}, "completion_params"),
        ({"model_base_url": None}, "model_base_url"),
        ({"messages": "hello"}, "messages"),
    ],
)
def test_a_body_that_does_not_fit_is_refused_with_the_field(
    agent: Agent, gateway: Gateway, change: dict[str, Any], field: str
):
    status, answer = agent.init(init_body(gateway.url, "bad", **change))
    assert status == 400
    assert answer["error"]["field"] == field
    assert field in answer["error"]["message"]
    assert gateway.calls == []


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"\xff\xfe"])
def test_a_body_that_is_no_request_is_refused(agent: Agent, body: bytes):
    status, answer = agent.send("POST", "/init", body)
    assert status == 400
    assert answer["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/init", 405), ("POST", "/health", 405), ("GET", "/nothing", 404)]
)
def test_other_routes(agent: Agent, method: str, path: str, status: int):
    assert agent.send(method, path)[0] == status


def test_a_gateway_that_is_away_does_not_hurt_the_server(agent: Agent, gateway: Gateway):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{closed.getsockname()[1]}"
        assert agent.init(init_body(nowhere, "lost"))[0] == 202
        assert agent.init(init_body(gateway.url, "found"))[0] == 202
        assert gateway.wait_for(lambda: gateway.status("found"))["code"] == 100
    assert agent.process.poll() is None


def test_many_rollouts_at_once(agent: Agent, gateway: Gateway):
    for number in range(150):
        assert agent.init(init_body(gateway.url, f"many-{number}"))[0] == 202
    gateway.wait_for(lambda: True if all(gateway.status(f"many-{n}") for n in range(150)) else None)
    assert {gateway.status(f"many-{number}")["code"] for number in range(150)} == {100}  # type: ignore[index]
    assert len(gateway.calls) == 150


def test_a_server_that_is_stopped_says_so_for_its_rollouts(agent: Agent, gateway: Gateway, tmp_path: Path):
    """On a server of its own: the one of this module goes on."""
    argv = [str(word) for word in agent.process.args[:2]]  # type: ignore[index]
    folder = EXAMPLE / ("server_py" if argv[1] == "agent.py" else "server_ts")
    own = Agent(argv, folder, tmp_path / "log")
    release = threading.Event()
    gateway.answer = lambda _: (release.wait(WAIT_SECONDS), (200, COMPLETION))[1]
    try:
        assert own.init(init_body(gateway.url, "stopped"))[0] == 202
        gateway.wait_for(lambda: gateway.calls or None)
        own.process.send_signal(signal.SIGTERM)
        assert gateway.wait_for(lambda: gateway.status("stopped"))["code"] == 14
        own.process.wait(WAIT_SECONDS)
    finally:
        release.set()
        own.process.kill()
        own.process.wait()
