"""Users, service accounts and their keys, in the shapes that the published client sends."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
from tunesmith.db.api_keys import find_key
from tunesmith.db.session import reading
from tunesmith.db.tables import ApiKey

from tests.server.conftest import Platform


def _key(platform: Platform, user: str, **fields: str) -> dict[str, str]:
    return platform.ok("POST", f"/users/{user}/apiKeys", json={"apiKey": fields})


def _as(key: str) -> dict[str, dict[str, str]]:
    return {"headers": {"Authorization": f"Bearer {key}"}}


def test_a_user_is_made_found_changed_and_removed_with_its_keys(platform: Platform) -> None:
    made = platform.ok(
        "POST", "/users", json={"role": "user", "email": "Ada.Lovelace@example.org", "displayName": "Ada"}
    )
    assert {key: made[key] for key in ("name", "role", "displayName", "email", "serviceAccount", "state")} == {
        "name": "accounts/local/users/ada-lovelace",
        "role": "user",
        "displayName": "Ada",
        "email": "Ada.Lovelace@example.org",
        "serviceAccount": False,
        "state": "READY",
    }
    assert platform.ok("GET", "/users/ada-lovelace") == made
    assert platform.ok("GET", "/users?filter=role=user")["users"] == [made]
    changed = platform.ok("PATCH", "/users/ada-lovelace", json={"role": "contributor"})
    assert (changed["role"], changed["displayName"], changed["email"]) == ("contributor", "Ada", made["email"])
    key = _key(platform, "ada-lovelace")["key"]
    assert platform.call("GET", "/datasets", **_as(key)).status_code == 200
    platform.ok("DELETE", "/users/ada-lovelace")
    assert platform.call("GET", "/datasets", **_as(key)).status_code == 401
    platform.fails(404, "GET", "/users/ada-lovelace")


def test_creating_twice_is_fine_and_differently_is_not(platform: Platform) -> None:
    body = {"role": "user", "serviceAccount": True, "permissionPreset": "pilot"}
    first = platform.ok("POST", "/users?userId=agent", json=body)
    assert (first["email"], first["permissionPreset"]) == ("agent@local.sa.tunesmith.local", "pilot")
    assert platform.ok("POST", "/users?userId=agent", json=body) == first
    assert "agent" in platform.fails(409, "POST", "/users?userId=agent", json={**body, "role": "admin"})
    freed = platform.ok("PATCH", "/users/agent", json={"permissionPreset": None})
    assert "permissionPreset" not in freed


def test_a_user_that_cannot_be(platform: Platform) -> None:
    refused: list[tuple[str, dict[str, object], str]] = [
        ("/users?userId=x", {"role": "owner"}, "role"),
        ("/users", {"role": "user"}, "userId"),
        ("/users?userId=X%20Y", {"role": "user"}, "userId"),
        ("/users?userId=x", {"role": "user", "permissionPreset": "pilot"}, "service accounts"),
        ("/users?userId=x", {"role": "user", "serviceAccount": True, "permissionPreset": "root"}, "permissionPreset"),
        ("/users?userId=x", {"role": "user", "email": "nobody"}, "email"),
    ]
    for path, body, words in refused:
        assert words in platform.fails(400, "POST", path, json=body)
    assert platform.ok("GET", "/users")["users"] == []


def test_a_key_is_shown_once_and_ends_when_it_is_deleted(platform: Platform) -> None:
    platform.ok("POST", "/users?userId=bob", json={"role": "user"})
    made = _key(platform, "bob", displayName="laptop")
    assert made["displayName"] == "laptop"
    assert made["secure"] is True
    assert made["key"].startswith(made["prefix"])
    (listed,) = platform.ok("GET", "/users/bob/apiKeys")["apiKeys"]
    assert listed == {key: value for key, value in made.items() if key != "key"}
    assert platform.call("GET", "/datasets", **_as(made["key"])).status_code == 200
    platform.ok("POST", "/users?userId=eve", json={"role": "user"})
    platform.fails(404, "POST", "/users/eve/apiKeys:delete", json={"keyId": made["keyId"]})
    platform.ok("POST", "/users/bob/apiKeys:delete", json={"keyId": made["keyId"]})
    platform.fails(404, "POST", "/users/bob/apiKeys:delete", json={"keyId": made["keyId"]})
    assert platform.call("GET", "/datasets", **_as(made["key"])).status_code == 401
    assert platform.ok("GET", "/users/bob/apiKeys")["apiKeys"] == []


def test_a_key_ends_at_its_time(platform: Platform) -> None:
    platform.ok("POST", "/users?userId=bob", json={"role": "user"})
    soon = datetime.now(UTC) + timedelta(hours=1)
    made = _key(platform, "bob", expireTime=soon.replace(tzinfo=None).isoformat())  # without a zone: UTC
    assert datetime.fromisoformat(made["expireTime"]) == pytest.approx(soon, abs=timedelta(seconds=1))
    with platform.control.sessions.begin() as session:
        row = session.get(ApiKey, made["keyId"])
        assert row is not None
        row.expires = time.time() - 1
    with reading(platform.control.sessions) as session:
        assert find_key(session, made["key"], platform.control.keys.pepper) is None
    assert platform.call("GET", "/datasets", **_as(made["key"])).status_code == 401
    past = {"apiKey": {"expireTime": "2020-01-01T00:00:00Z"}}
    assert "passed" in platform.fails(400, "POST", "/users/bob/apiKeys", json=past)
