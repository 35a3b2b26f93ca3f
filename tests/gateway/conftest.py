"""A whole gateway per test: routes in a real uvicorn, real SQLite, an engine and a supervisor of the contract's shape."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
import uvicorn
from safetensors.numpy import save_file
from starlette.applications import Starlette
from tunesmith.db.accounts import ensure_account
from tunesmith.db.api_keys import new_key
from tunesmith.db.completions import Completion, CompletionStore
from tunesmith.db.session import open_database
from tunesmith.db.tables import Model
from tunesmith.gateway import GatewayState, gateway_routes
from tunesmith.settings import Settings
from tunesmith.storage.keys import load_keys

from tests.fakes.engine import FakeEngine, FakeSupervisor
from tests.fakes.model_folder import make_model_folder

FIVE = "rollout_id/{r}/invocation_id/inv/experiment_id/exp/run_id/run/row_id/row"


@pytest.fixture(scope="session")
def fresh_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty control-plane database: migrating once is what makes a gateway per test cheap."""
    path = tmp_path_factory.mktemp("database") / "tunesmith.db"
    sessions = open_database(path)
    sessions.kw["bind"].dispose()
    return path


@pytest.fixture
def data_dir(fresh_database: Path) -> Iterator[Path]:
    """A short path: the supervisor's socket lies in it, and a socket's path holds 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="ts"))
    shutil.copy(fresh_database, folder / "tunesmith.db")
    yield folder
    shutil.rmtree(folder)


@dataclass
class Answer:
    """Status and body of a call."""

    status: int
    body: Any
    headers: dict[str, str]


@dataclass
class Gateway:
    """A running gateway and everything around it."""

    state: GatewayState
    engine: FakeEngine
    supervisor: FakeSupervisor
    base: str
    url: str = ""
    keys: dict[str, str] = field(default_factory=dict)
    session: aiohttp.ClientSession | None = None

    async def call(self, method: str, path: str, key: str | None = "account", **arguments: Any) -> Answer:
        """One request; `key` names one of `keys`, or is a bearer itself."""
        assert self.session is not None
        headers = {} if key is None else {"Authorization": f"Bearer {self.keys.get(key, key)}"}
        async with self.session.request(method, self.url + path, headers=headers, **arguments) as response:
            text = await response.text()
            body = json.loads(text) if response.content_type == "application/json" else text
            return Answer(response.status, body, dict(response.headers))

    async def chat(self, text: str = "say hi", path: str = "/v1", key: str | None = "account", **fields: Any) -> Answer:
        """One chat call with one user message."""
        body = {"model": self.base, "messages": [{"role": "user", "content": text}], **fields}
        return await self.call("POST", f"{path}/chat/completions", key, json=body)

    async def stream(self, text: str = "say hi", path: str = "/v1", **fields: Any) -> list[dict[str, Any]]:
        """The chunks of a streamed call; checks that [DONE] ends it."""
        answer = await self.chat(text, path, stream=True, **fields)
        assert answer.status == 200, answer.body
        events = [line.removeprefix("data: ") for line in answer.body.split("\n\n") if line]
        assert events[-1] == "[DONE]"
        return [json.loads(event) for event in events[:-1]]

    async def completions(self, rollout_id: str) -> list[dict[str, Any]]:
        """What the store has of a rollout, as the internal route says it."""
        answer = await self.call("GET", f"/internal/rollouts/{rollout_id}/completions", "internal")
        assert answer.status == 200, answer.body
        return answer.body["completions"]

    async def completions_of(self, state: GatewayState, rollout_id: str) -> list[Completion]:
        """What the files of a data folder hold of a rollout, read by a fresh store."""
        store = CompletionStore(state.settings.path("completions.db"))
        try:
            return store.of_rollout(rollout_id)
        finally:
            store.close()

    def adapter(self, folder: str, fill: float = 1.0) -> tuple[Path, str]:
        """Write an adapter of one number; returns its folder and sha256."""
        path = self.state.settings.data_dir / folder
        path.mkdir(parents=True, exist_ok=True)
        file = path / "adapter_model.safetensors"
        save_file({"a": np.full((2,), fill, np.float32)}, str(file))
        return path, hashlib.sha256(file.read_bytes()).hexdigest()

    def policy(self, job: str = "job1", version: int = 0, fill: float = 1.0, **fields: Any) -> dict[str, Any]:
        """A body of PUT /internal/policies, its adapter written."""
        path, sha256 = self.adapter(f"runs/{job}/adapters/v{version:06d}", fill)
        return {
            "name": f"accounts/local/models/{job}-v{version}",
            "base_model": self.base,
            "adapter_path": str(path),
            "sha256": sha256,
            "seed": 7,
            "job": job,
            "version": version,
            "sampling": {"temperature": 1.0, "max_tokens": 20, "stop": []},
            **fields,
        }

    async def publish(self, key: str = "run", **fields: Any) -> str:
        """Publish a policy version; returns its name."""
        body = self.policy(**fields)
        answer = await self.call("PUT", "/internal/policies", key, json=body)
        assert answer.status == 200, answer.body
        assert answer.body == {"name": body["name"], "sha256": body["sha256"]}
        return body["name"]

    def promote(self, id: str, fill: float = 2.0, account: str = "accounts/local") -> str:
        """Write a promoted model to the database, as the jobs worker does."""
        path, sha256 = self.adapter(f"objects/models/{id}", fill)
        name = f"{account}/models/{id}"
        with self.state.sessions.begin() as session:
            ensure_account(session, account)
            row = Model(name=name, account=account, base_model=self.base, adapter_path=str(path), sha256=sha256)
            session.add(row)
        return name


def make_keys(settings: Settings, state: GatewayState) -> dict[str, str]:
    """One key of each kind."""
    keys = load_keys(settings)
    job = "accounts/local/reinforcementFineTuningJobs/job1"
    scopes: dict[str, dict[str, Any]] = {
        "account": {"kind": "account"},
        "run": {"kind": "run", "job": job},
        "rollout": {"kind": "rollout", "job": job},
        "other_run": {"kind": "run", "job": job.replace("job1", "job2")},
        "other_account": {"kind": "account"},
    }
    made = {"internal": keys.internal}
    with state.sessions.begin() as session:
        for account in ("accounts/local", "accounts/other"):
            ensure_account(session, account)
        for name, scope in scopes.items():
            account = "accounts/other" if name == "other_account" else "accounts/local"
            made[name] = new_key(session, account, scope, name, None, keys.pepper)[1]
    return made


async def serve(state: GatewayState, port: int = 0) -> tuple[uvicorn.Server, asyncio.Task[None], str]:
    """Run the routes in uvicorn, in this event loop."""
    return await serve_app(Starlette(routes=gateway_routes(state), lifespan=state.lifespan), port)


async def serve_app(app: Starlette, port: int = 0) -> tuple[uvicorn.Server, asyncio.Task[None], str]:
    """Run an app in uvicorn, in this event loop; returns once it answers, with its address."""
    server = uvicorn.Server(uvicorn.Config(app, "127.0.0.1", port, log_level="warning", timeout_graceful_shutdown=2))
    task = asyncio.create_task(server.serve())
    while not server.started:
        assert not task.done(), "uvicorn ended"
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    return server, task, f"http://127.0.0.1:{port}"


@pytest.fixture
def settings(data_dir: Path) -> Settings:
    """The gateway's settings; a test module overrides this where it needs others."""
    return Settings(data_dir=data_dir)


@pytest.fixture
def context_length() -> int:
    """The model's, in tokens; a test module overrides this where its conversations are longer."""
    return 512


@pytest.fixture
def base_folder(data_dir: Path, context_length: int) -> Path:
    """The base model's; a test module overrides this where it needs another family."""
    return make_model_folder(data_dir / "base", context_length)


@pytest.fixture
async def gateway(data_dir: Path, settings: Settings, base_folder: Path, context_length: int) -> AsyncIterator[Gateway]:
    """A gateway in front of a fake engine for a model folder of its own."""
    folder = base_folder
    state = GatewayState(settings)
    engine = FakeEngine(folder, str(folder), load_keys(settings).engine, context_length)
    supervisor = FakeSupervisor(data_dir / "supervisor.sock", {str(folder): engine})
    await engine.start()
    await supervisor.start()
    server, task, url = await serve(state)
    async with aiohttp.ClientSession() as session:
        yield Gateway(state, engine, supervisor, str(folder), url, make_keys(settings, state), session)
    server.should_exit = True
    await task
    await supervisor.stop()
    await engine.stop()
