"""A real web process in a thread: uvicorn on a free port, a data folder of its own, an account key, and a client."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from tunesmith.db.accounts import ensure_account
from tunesmith.db.api_keys import new_key
from tunesmith.db.tables import Evaluator
from tunesmith.server import create_app
from tunesmith.server.control import ControlPlane
from tunesmith.server.dashboard import pages
from tunesmith.settings import Settings

ACCOUNT = "/v1/accounts/local"
BASE_MODEL = "accounts/tunesmith/models/tiny-math-v1"
ROW = {"messages": [{"role": "user", "content": "What is 2 + 2?"}], "ground_truth": "4"}


def jsonl(count: int = 3) -> bytes:
    return b"".join(json.dumps({**ROW, "n": index}).encode() + b"\n" for index in range(count))


@dataclass
class Platform:
    """A running web process and what a test needs to drive it."""

    url: str
    control: ControlPlane
    key: str
    http: httpx2.Client

    def call(self, method: str, path: str, **options: Any) -> httpx2.Response:
        return self.http.request(
            method, path if path.startswith(("/v1/accounts", "http")) else ACCOUNT + path, **options
        )

    def ok(self, method: str, path: str, **options: Any) -> Any:
        response = self.call(method, path, **options)
        assert response.status_code == 200, response.text
        return response.json()

    def fails(self, status: int, method: str, path: str, **options: Any) -> str:
        response = self.call(method, path, **options)
        assert response.status_code == status, response.text
        body = response.json()
        assert set(body) == {"code", "message", "details"}
        assert isinstance(body["code"], int)
        assert "Traceback" not in response.text
        return body["message"]

    def make_key(
        self, account: str = "accounts/local", scope: dict[str, Any] | None = None, expires: float | None = None
    ) -> str:
        with self.control.sessions.begin() as session:
            ensure_account(session, account)
            return new_key(session, account, scope or {"kind": "account"}, "", expires, self.control.keys.pepper)[1]

    def dataset(self, identity: str, content: bytes | None = None) -> str:
        self.ok("POST", "/datasets", json={"dataset": {"exampleCount": "3"}, "datasetId": identity})
        self.ok("POST", f"/datasets/{identity}:upload", files={"file": ("d.jsonl", content or jsonl())})
        return f"accounts/local/datasets/{identity}"

    def evaluator(self, identity: str, state: str = "ACTIVE") -> str:
        """An evaluator as the jobs worker leaves it."""
        name = f"accounts/local/evaluators/{identity}"
        with self.control.sessions.begin() as session:
            session.add(
                Evaluator(
                    name=name,
                    account="accounts/local",
                    spec={"entryPoint": "evaluation.py::f"},
                    state=state,
                    status={"code": "OK", "message": "pip failed"},
                    version=3,
                    archive_key="evaluators/x",
                    build_dir="/built" if state == "ACTIVE" else None,
                )
            )
        return name


def serve(app: Any) -> Iterator[str]:
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + 10
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    assert server.started
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)
    listener.close()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", max_upload_bytes=2_000_000)


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The dashboard's files as the web build leaves them, so that no test waits for that build."""
    folder = tmp_path / "bundle"
    (folder / "assets").mkdir(parents=True)
    page = '<!doctype html><meta name="csp-nonce" content="" /><div id="root"></div>'
    (folder / "dashboard.html").write_text(page)
    (folder / "assets" / "app-1.js").write_text("console.log('app')")
    monkeypatch.setattr(pages, "BUNDLE", folder)
    return folder


@pytest.fixture
def platform(settings: Settings, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # no test asks the network
    app = create_app(settings)
    for url in serve(app):
        with httpx2.Client(base_url=url, timeout=20) as http:
            running = Platform(url, app.state.control, "", http)
            running.key = running.make_key()
            http.headers["Authorization"] = f"Bearer {running.key}"
            yield running
    app.state.control.sessions.kw["bind"].dispose()
