"""Names of deployments, and full models of an account with engines of their own."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tunesmith.db.tables import Deployment, Model
from tunesmith.gateway import models as models_module
from tunesmith.storage.keys import load_keys

from tests.fakes.engine import FakeEngine
from tests.fakes.model_folder import make_model_folder
from tests.gateway.conftest import FIVE, Gateway

NAME = "accounts/local/deployments/prod"


def deploy(gateway: Gateway, model: str, id: str = "prod", account: str = "accounts/local", **fields: Any) -> str:
    """A deployment as its job leaves it."""
    name = f"{account}/deployments/{id}"
    values = {"state": "READY", "replicas": 1, "spec": {}, "status": {}, **fields}
    with gateway.state.sessions.begin() as session:
        session.merge(Deployment(name=name, account=account, base_model=model, **values))
    gateway.state.models.forget(name)
    return name


async def served(gateway: Gateway, model: str, key: str = "account") -> tuple[str, str]:
    """Model of the answer, and the model that was recorded."""
    rollout = uuid.uuid4().hex
    answer = await gateway.chat(path="/" + FIVE.format(r=rollout), key=key, model=model)
    assert answer.status == 200, answer.body
    (record,) = await gateway.completions(rollout)
    return answer.body["model"], record["model"]


async def test_a_deployment_is_a_name_for_its_model(gateway: Gateway) -> None:
    tuned = gateway.promote("tuned")
    for model in (gateway.base, tuned):
        deploy(gateway, model)
        for name in (NAME, f"{model}#prod", f"{model}#{NAME}", f"fireworks_ai/{NAME}"):
            if not name.startswith("/"):
                assert (await served(gateway, name))[1] == model
    listed = await gateway.call("GET", "/v1/models")
    assert NAME in [model["id"] for model in listed.body["data"]]


async def test_ids_do_where_names_do(gateway: Gateway) -> None:
    tuned = gateway.promote("tuned")
    deploy(gateway, tuned)
    assert (await served(gateway, "tuned#prod"))[1] == tuned
    answer = await gateway.chat(model="other#prod")
    assert (answer.status, tuned in answer.body["error"]["message"]) == (400, True)


async def test_an_adapter_of_the_deployed_base_is_served_beside_it(gateway: Gateway) -> None:
    tuned = gateway.promote("tuned")
    deploy(gateway, gateway.base)
    assert (await served(gateway, f"{tuned}#prod"))[1] == tuned
    deploy(gateway, gateway.promote("other"))
    answer = await gateway.chat(model=f"{tuned}#prod")
    assert answer.status == 400
    assert "accounts/local/models/other" in answer.body["error"]["message"]


async def test_a_deployment_that_cannot_answer_says_what_to_do(gateway: Gateway) -> None:
    deploy(gateway, gateway.base, replicas=0)
    answer = await gateway.chat(model=NAME)
    assert answer.status == 503
    assert "tunesmith deployment scale prod 1" in answer.body["error"]["message"]
    deploy(gateway, gateway.base, state="FAILED", status={"code": "NOT_FOUND", "message": "no weights"})
    answer = await gateway.chat(model=NAME)
    assert (answer.status, "no weights" in answer.body["error"]["message"]) == (503, True)
    assert NAME not in [model["id"] for model in (await gateway.call("GET", "/v1/models")).body["data"]]
    for name in ("accounts/local/deployments/none", "x#none", "#none"):
        answer = await gateway.chat(model=name)
        assert (answer.status, answer.body["error"]["code"]) == (404, "model_not_found"), answer.body


async def test_another_accounts_deployment_is_not_there(gateway: Gateway) -> None:
    deploy(gateway, gateway.base, account="accounts/local")
    assert (await gateway.chat(model=NAME, key="other_account")).status == 404
    assert (await gateway.chat(model=f"{gateway.base}#{NAME}", key="other_account")).status == 404


@asynccontextmanager
async def full_model(gateway: Gateway, id: str = "full") -> AsyncIterator[tuple[str, FakeEngine]]:
    """A full model as a job leaves it, and an engine for it at the supervisor."""
    name = f"accounts/local/models/{id}"
    folder = make_model_folder(gateway.state.settings.data_dir / "objects/models/local" / id)
    (folder / "tunesmith.json").write_text(json.dumps({"base_model": "accounts/tunesmith/models/tiny-math-v1"}))
    engine = FakeEngine(folder, name, load_keys(gateway.state.settings).engine, 512)
    await engine.start()
    gateway.supervisor.engines[name] = engine
    try:
        yield name, engine
    finally:
        await engine.stop()


def register(gateway: Gateway, name: str, sha256: str = "a" * 64) -> None:
    """Its row, as promotion writes it."""
    with gateway.state.sessions.begin() as session:
        row = Model(
            name=name,
            account="accounts/local",
            kind="HF_BASE_MODEL",
            base_model=gateway.base,
            adapter_path="",
            sha256=sha256,
        )
        session.merge(row)
    gateway.state.models.forget(name)


async def test_a_full_model_has_an_engine_of_its_own_and_defaults_of_its_base(gateway: Gateway) -> None:
    async with full_model(gateway) as (name, _):
        register(gateway, name)
        assert await served(gateway, name) == (name, name)
        assert gateway.supervisor.asked == [name]
        base = await gateway.state.models.base(name)
        assert base.entry.inference_max_tokens == 256
        assert (await gateway.chat(model=name, key="other_account")).status == 404
        deploy(gateway, name)
        assert await served(gateway, NAME) == (name, name)


async def test_a_folder_without_its_row_is_nobodys_model(gateway: Gateway) -> None:
    async with full_model(gateway) as (name, _):
        for key in ("account", "other_account", "internal"):
            assert (await gateway.chat(model=name, key=key)).status == 404
        assert gateway.supervisor.asked == []
        register(gateway, name)
        await served(gateway, name)


async def test_an_adapter_may_sit_on_a_full_model(gateway: Gateway) -> None:
    async with full_model(gateway) as (name, engine):
        register(gateway, name)
        tuned = gateway.promote("tuned")
        with gateway.state.sessions.begin() as session:
            row = session.get(Model, tuned)
            assert row is not None
            row.base_model = name
        assert (await served(gateway, tuned))[1] == tuned
        assert gateway.supervisor.asked == [name]
        assert [held for held in engine.adapters if held.startswith(tuned)]


async def test_a_full_model_made_anew_is_asked_for_anew(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models_module, "_CACHE_SECONDS", 0.0)
    async with full_model(gateway) as (name, _):
        register(gateway, name)
        await served(gateway, name)
        await served(gateway, name)
        assert gateway.supervisor.asked == [name]
        register(gateway, name, sha256="b" * 64)
        await served(gateway, name)
        assert gateway.supervisor.asked == [name, name]
        with gateway.state.sessions.begin() as session:
            session.delete(session.get(Model, name))
        assert (await gateway.chat(model=name)).status == 404
