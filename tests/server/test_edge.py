"""Keys, errors and limits at the edge of the control plane."""

from __future__ import annotations

import logging
import time

import httpx2
import pytest
from sqlalchemy import text
from tunesmith.db.api_keys import find_key
from tunesmith.server.routes import accounts, health
from tunesmith.settings import Settings

from tests.server.conftest import ACCOUNT, Platform


@pytest.mark.parametrize("header", [None, "", "Bearer", "Basic abc", "Bearer ts_000000000000_" + "0" * 48, "Bearer é"])
def test_a_wrong_key_opens_nothing(platform: Platform, header: str | None):
    del platform.http.headers["Authorization"]
    headers = [] if header is None else [(b"Authorization", header.encode())]
    for method, path in [
        ("GET", "/verifyApiKey"),
        ("GET", "/v1/accounts"),
        ("GET", f"{ACCOUNT}/secrets"),
        ("POST", f"{ACCOUNT}/datasets/d:upload"),
        ("DELETE", f"{ACCOUNT}/models/m"),
        ("GET", f"{ACCOUNT}/reinforcementFineTuningJobs/j/events"),
    ]:
        response = platform.http.request(method, path, headers=headers)
        assert (response.status_code, response.json()["code"]) == (401, 16), path
        assert "key" in response.json()["message"]


def test_keys_expire_are_revoked_and_bound(platform: Platform):
    def verify(key: str) -> int:
        return httpx2.get(f"{platform.url}/verifyApiKey", headers={"Authorization": f"Bearer {key}"}).status_code

    assert verify(platform.make_key(expires=time.time() + 60)) == 200
    assert verify(platform.make_key(expires=time.time() - 1)) == 401
    for kind in ("run", "rollout"):
        assert verify(platform.make_key(scope={"kind": kind, "job": "accounts/local/x/j"})) == 403
    with platform.control.sessions.begin() as session:
        row = find_key(session, platform.key, platform.control.keys.pepper)
        assert row is not None
        session.delete(row)
    assert verify(platform.key) == 401


def test_accounts_do_not_see_each_other(platform: Platform):
    platform.dataset("d")
    other = httpx2.Client(base_url=platform.url, headers={"Authorization": f"Bearer {platform.make_key('accounts/b')}"})
    assert other.get("/verifyApiKey").headers["x-fireworks-account-id"] == "b"
    assert other.get("/v1/accounts/b/datasets").json()["datasets"] == []
    for path in ("/datasets", "/datasets/d", "/models", "", "/secrets"):
        assert other.get(ACCOUNT + path).status_code == 403
    job = {"dataset": "accounts/local/datasets/d", "evaluator": "e", "trainingConfig": {"baseModel": "x"}}
    assert other.post("/v1/accounts/b/reinforcementFineTuningJobs", json=job).status_code in (403, 404)
    assert [account["name"] for account in other.get("/v1/accounts").json()["accounts"]] == ["accounts/b"]
    assert other.get("/v1/accounts/b").json()["state"] == "READY"
    other.close()


def test_errors_have_one_shape(platform: Platform):
    assert "'none' not found in account local" in platform.fails(404, "GET", "/evaluators/none")
    assert "nothing at" in platform.fails(404, "GET", "/nothing")
    assert "not possible" in platform.fails(405, "POST", "/datasets/d:unknownVerb", json={})
    platform.fails(405, "PUT", "/datasets")
    assert "not valid JSON" in platform.fails(
        400, "POST", "/datasets", content=b"{", headers={"Content-Type": "application/json"}
    )
    message = platform.fails(400, "POST", "/secrets", json={"name": "a", "keyName": "1 BAD", "value": "topsecret"})
    assert "keyName" in message
    assert "topsecret" not in message
    deep = b"[" * 100_000
    platform.fails(400, "POST", "/datasets", content=deep, headers={"Content-Type": "application/json"})
    assert platform.http.get("/health").json()["status"] == "healthy"


def test_health_means_that_the_database_answers_too(platform: Platform, monkeypatch: pytest.MonkeyPatch):
    assert platform.http.get("/health").status_code == 200
    monkeypatch.setattr(health, "text", lambda _: text("SELECT * FROM nothing_of_that_name"))
    assert platform.http.get("/health").status_code == 500
    assert platform.http.get("/litellm-gateway/health").status_code == 200


def test_json_bodies_have_a_limit(platform: Platform):
    body = b'{"x": "' + b"y" * (4 * 1024 * 1024) + b'"}'
    headers = {"Content-Type": "application/json"}
    assert "limit" in platform.fails(413, "POST", "/datasets", content=body, headers=headers)
    pieces = (body[i : i + 65536] for i in range(0, len(body), 65536))
    assert "limit" in platform.fails(413, "POST", "/datasets", content=pieces, headers=headers)


def test_an_unexpected_error_has_a_number_and_no_trace(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def broken(*_args: object) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(accounts, "get_account", broken)
    with caplog.at_level(logging.ERROR):
        message = platform.fails(500, "GET", ACCOUNT)
    assert "secret detail" not in message
    number = message.rsplit(" ", 1)[1].rstrip(".")
    assert any(number in record.getMessage() and record.exc_info for record in caplog.records)


def test_a_request_that_fails_leaves_nothing_behind(platform: Platform, monkeypatch: pytest.MonkeyPatch):
    from tunesmith.server.routes import secrets

    def broken(_row: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(secrets, "_wire", broken)
        platform.fails(500, "POST", "/secrets", json={"name": "a", "keyName": "A", "value": "x"})
    assert platform.ok("GET", "/secrets")["secrets"] == []


def test_openapi_describes_the_routes(platform: Platform, settings: Settings):
    paths = httpx2.get(f"{platform.url}/openapi.json").json()["paths"]
    for path in ("/verifyApiKey", "/health", "/v1/accounts/{account_id}/datasets/{dataset_id}:upload"):
        assert path in paths
    assert "/dashboard/session" in paths
    assert not any(path.startswith(("/dashboard/{", "/assets", "/objects")) for path in paths)
