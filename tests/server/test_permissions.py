"""Every route is a named call, and a key makes only those that its role and preset allow: tried on all of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.routing import APIRoute
from tunesmith.server import permissions
from tunesmith.server.permissions import PRESETS, ROLES, RPCS, is_public, rpc_of

from tests.server.conftest import Platform

PILOT = PRESETS["pilot"]


def control_routes(platform: Platform) -> list[tuple[str, str]]:
    """(method, path) of every route of the control plane, as the running app declares it."""

    def walk(found: list[Any]) -> Iterator[APIRoute]:
        for route in found:
            inner = getattr(route, "original_router", None)
            if inner is not None:
                yield from walk(inner.routes)
            elif isinstance(route, APIRoute):
                yield route

    from tunesmith.server import app

    routes = [route for router in app._ROUTERS for route in walk([*router.routes])]
    assert len(routes) > 40
    return [(method, route.path) for route in routes for method in (route.methods or set()) - {"HEAD"}]


def _filled(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "nothing", path.replace("{account_id}", "local"))


def _user_key(platform: Platform, identity: str, **fields: Any) -> str:
    platform.ok("POST", f"/users?userId={identity}", json={"role": "user", **fields})
    return platform.ok("POST", f"/users/{identity}/apiKeys", json={"apiKey": {}})["key"]


def _statuses(platform: Platform, key: str) -> dict[str, int]:
    """What each call that asks for a key answers to `key`, by its name."""
    headers = {"Authorization": f"Bearer {key}"}
    answers: dict[str, int] = {}
    for method, path in control_routes(platform):
        if not is_public(method, path):
            url = platform.url + _filled(path)
            body = {} if method in ("POST", "PATCH", "PUT") else None
            with platform.http.stream(method, url, headers=headers, json=body) as response:
                answers[rpc_of(method, path) or f"{method} {path}"] = response.status_code
    return answers


def test_every_route_has_a_name_or_is_public(platform: Platform) -> None:
    unnamed = [f"{m} {p}" for m, p in control_routes(platform) if rpc_of(m, p) is None and not is_public(m, p)]
    assert unnamed == []


def test_what_is_public_is_so_by_a_signature_or_says_nothing(platform: Platform) -> None:
    without_key = {"Authorization": ""}
    for method, path in control_routes(platform):
        if is_public(method, path) and "{" in path and rpc_of(method, path) != "ViewDashboard":
            answer = platform.http.request(method, platform.url + _filled(path), headers=without_key)
            assert answer.status_code in (401, 403, 404), path


def test_the_pilot_can_do_what_its_manifest_lists_and_nothing_else(platform: Platform) -> None:
    key = _user_key(platform, "agent", role="admin", serviceAccount=True, permissionPreset="pilot")
    answers = _statuses(platform, key)
    refused = {name for name, status in answers.items() if status == 403}
    assert refused == answers.keys() - PILOT
    assert {
        "DeleteDataset",
        "CancelReinforcementFineTuningJob",
        "CreateApiKey",
        "UpdateDataset",
        "GetSecret",
    } <= refused
    assert "ListModels" in answers.keys() - refused


def test_the_key_of_a_session_is_a_pilots(platform: Platform) -> None:
    scope = {"kind": "account", "preset": "pilot", "session": "accounts/local/sessions/s"}
    answers = _statuses(platform, platform.make_key(scope=scope))
    assert {name for name, status in answers.items() if status == 403} == answers.keys() - PILOT


def test_a_preset_gives_nothing_that_the_role_does_not(platform: Platform) -> None:
    key = _user_key(platform, "small", role="inference-user", serviceAccount=True, permissionPreset="pilot")
    allowed = {name for name, status in _statuses(platform, key).items() if status != 403}
    assert allowed == {"VerifyApiKey", "ListAccounts", "GetAccount"}


@pytest.mark.parametrize("role", ["user", "contributor", "inference-user"])
def test_each_role(platform: Platform, role: str) -> None:
    answers = _statuses(platform, _user_key(platform, "somebody", role=role))
    allowed = {name for name, status in answers.items() if status != 403}
    assert allowed == answers.keys() & ROLES[permissions.Role(role)]
    assert "CreateApiKey" not in allowed


def test_an_admins_key_is_refused_nowhere(platform: Platform) -> None:
    key = _user_key(platform, "boss", role="admin")
    assert 403 not in _statuses(platform, key).values()
    assert 403 not in _statuses(platform, platform.key).values()


def test_a_refusal_names_the_call_and_why(platform: Platform) -> None:
    name = platform.dataset("mine")
    key = _user_key(platform, "agent", serviceAccount=True, permissionPreset="pilot")
    headers = {"Authorization": f"Bearer {key}"}
    message = platform.fails(403, "DELETE", "/datasets/mine", headers=headers)
    assert "DeleteDataset" in message
    assert "pilot" in message
    assert platform.ok("GET", "/datasets/mine")["name"] == name
    other = _user_key(platform, "reader", role="contributor")
    assert "contributor" in platform.fails(
        403, "DELETE", "/datasets/mine", headers={"Authorization": f"Bearer {other}"}
    )


def test_roles_follow_their_user_at_once(platform: Platform) -> None:
    key = _user_key(platform, "ada", role="user")
    headers = {"Authorization": f"Bearer {key}"}
    platform.dataset("one")
    platform.ok("PATCH", "/users/ada", json={"role": "contributor"})
    platform.fails(403, "DELETE", "/datasets/one", headers=headers)
    platform.ok("PATCH", "/users/ada", json={"role": "user"})
    platform.ok("DELETE", "/datasets/one", headers=headers)


def test_the_table_names_no_call_twice_but_pages_and_reports() -> None:
    names = [rpc for rpc in RPCS.values() if rpc not in ("ViewDashboard", "GetSessionReport")]
    assert len(names) == len(set(names))
    assert not [rpc for rpc in PILOT if rpc.startswith(("Delete", "Cancel", "Update", "Scale", "Resume"))]
    assert set(RPCS.values()) >= PILOT


def test_a_session_gives_nobody_who_may_start_one_more_than_they_have() -> None:
    assert [role for role, may in ROLES.items() if "CreateSession" in may and not may >= PILOT] == []


def test_a_pilot_may_talk_to_a_session_and_not_end_it(platform: Platform) -> None:
    created = platform.ok("POST", "/sessions?sessionId=talk", json={"instruction": "Run SFT on the dataset chats."})
    key = _user_key(platform, "agent", serviceAccount=True, permissionPreset="pilot")
    headers = {"Authorization": f"Bearer {key}"}
    platform.ok("POST", "/sessions/talk:send", json={"message": "Use 2 epochs."}, headers=headers)
    assert "CancelSession" in platform.fails(
        403, "POST", "/sessions/talk:send", json={"message": "stop here"}, headers=headers
    )
    assert platform.ok("GET", "/sessions/talk")["state"] == created["state"] == "running"
    assert platform.ok("POST", "/sessions/talk:send", json={"message": "stop here"})["state"] == "cancelled"
