"""Secrets: written, listed by name, used by evaluators, never shown."""

from __future__ import annotations

from tunesmith.db.secrets import secret_values
from tunesmith.db.session import reading

from tests.server.conftest import Platform


def _create(platform: Platform, name: str, key: str, value: str):
    return platform.ok("POST", "/secrets", json={"name": name, "keyName": key, "value": value})


def test_values_are_sealed_and_reach_only_those_who_open_them(platform: Platform):
    shown = _create(platform, "api-key", "API_KEY", "hunter2-hunter2")
    assert set(shown) == {"name", "keyName", "createTime", "updateTime"}
    _create(platform, "accounts/local/secrets/other", "OTHER", "x")
    platform.ok("PATCH", "/secrets/api-key", json={"keyName": "NEW_NAME"})
    with reading(platform.control.sessions) as session:
        values = secret_values(session, "accounts/local", platform.control.keys.master)
    assert values == {"NEW_NAME": "hunter2-hunter2", "OTHER": "x"}
    listed = platform.call("GET", "/secrets")
    assert [item["keyName"] for item in listed.json()["secrets"]] == ["NEW_NAME", "OTHER"]
    assert "hunter2" not in listed.text
    stored = b"".join(path.read_bytes() for path in platform.control.settings.data_dir.glob("tunesmith.db*"))
    assert b"hunter2" not in stored


def test_create_update_delete(platform: Platform):
    assert _create(platform, "a", "A", "1") == _create(platform, "a", "A", "1")  # a client that lost the answer
    response = platform.call("POST", "/secrets", json={"name": "a", "keyName": "A", "value": "2"})
    assert (response.status_code, response.headers["x-should-retry"]) == (409, "false")
    platform.ok("PATCH", "/secrets/a", json={"keyName": "A", "value": "3"})
    with reading(platform.control.sessions) as session:
        assert secret_values(session, "accounts/local", platform.control.keys.master) == {"A": "3"}
    assert platform.ok("DELETE", "/secrets/a", headers={"Content-Type": "application/json"}) == {}
    for method in ("GET", "DELETE"):
        platform.fails(404, method, "/secrets/a")
    platform.fails(404, "PATCH", "/secrets/a", json={"value": "x"})
    for body in (
        {"name": "Bad Name", "keyName": "A", "value": "x"},
        {"name": "b", "keyName": "A"},
        {"name": "b", "keyName": "A", "value": "x" * 70_000},
        {"name": "accounts/local/datasets/b", "keyName": "A", "value": "x"},
    ):
        platform.fails(400, "POST", "/secrets", json=body)
