"""The description of the API tells what is really sent: answers of a running platform, held against their schemas."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import httpx2
import pytest
from tunesmith.db.jobs import enqueue
from tunesmith.server.answers import ANSWERS
from tunesmith.server.permissions import RPCS

from tests.server.conftest import ACCOUNT, Platform
from tests.server.test_rft_monitoring import NAME, spec

A = "/v1/accounts/{account_id}"


def problems(value: Any, schema: dict[str, Any], document: dict[str, Any], where: str = "$") -> list[str]:
    """Where a value does not fit its schema: missing or unknown fields, other types."""
    if "$ref" in schema:
        found = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        return problems(value, found, document, where)
    if "anyOf" in schema:
        found = [problems(value, each, document, where) for each in schema["anyOf"]]
        return min(found, key=len)
    kinds = {
        "object": dict,
        "array": list,
        "string": str,
        "integer": int,
        "number": int | float,
        "boolean": bool,
        "null": type(None),
    }
    kind = schema.get("type")
    if kind and not isinstance(value, kinds[kind]):
        return [f"{where} is {value!r}, not {kind}"]
    if kind == "array":
        items = schema.get("items", {})
        return [p for i, item in enumerate(value) for p in problems(item, items, document, f"{where}[{i}]")]
    if kind != "object" or "properties" not in schema:
        return []
    fields = schema["properties"]
    found = [f"{where}.{name} is missing" for name in schema.get("required", []) if name not in value]
    found += [f"{where}.{name} is not described" for name in value if name not in fields]
    return found + [
        p
        for name, item in value.items()
        if name in fields and item is not None
        for p in problems(item, fields[name], document, f"{where}.{name}")
    ]


@pytest.fixture
def filled(platform: Platform) -> Platform:
    platform.dataset("d")
    platform.evaluator("e")
    platform.ok("POST", "/secrets", json={"name": "s", "keyName": "S", "value": "v"})
    platform.ok("POST", "/users?userId=u", json={"role": "user"})
    platform.ok("POST", "/users/u/apiKeys", json={"apiKey": {}})
    platform.ok("POST", "/sessions?sessionId=talk", json={"instruction": "Run SFT on the dataset chats."})
    with platform.control.sessions.begin() as session:
        enqueue(session, NAME, "accounts/local", "rft", spec())
    return platform


LOOKED_AT = {
    "": "",
    "/users": "/users",
    "/users/{user_id}": "/users/u",
    "/users/{user_id}/apiKeys": "/users/u/apiKeys",
    "/secrets": "/secrets",
    "/datasets": "/datasets",
    "/datasets/{dataset_id}": "/datasets/d",
    "/datasets/{dataset_id}:getDownloadEndpoint": "/datasets/d:getDownloadEndpoint",
    "/evaluators": "/evaluators",
    "/evaluators/{evaluator_id}": "/evaluators/e",
    "/reinforcementFineTuningJobs": "/reinforcementFineTuningJobs",
    "/reinforcementFineTuningJobs/{job_id}": "/reinforcementFineTuningJobs/j",
    "/sessions": "/sessions",
    "/sessions/{session_id}": "/sessions/talk",
}
"""Path as it is described -> as it is asked for."""


def test_what_is_sent_is_what_is_described(filled: Platform) -> None:
    document = httpx2.get(f"{filled.url}/openapi.json").json()
    for described, asked in LOOKED_AT.items():
        answers = document["paths"][f"{A}{described}"]["get"]["responses"]["200"]["content"]
        schema = answers["application/json"]["schema"]
        assert "$ref" in json.dumps(schema), described
        assert problems(filled.ok("GET", f"{ACCOUNT}{asked}"), schema, document) == [], described


def test_a_session_and_that_there_is_none_are_described(filled: Platform) -> None:
    document = httpx2.get(f"{filled.url}/openapi.json").json()
    answers = document["paths"]["/dashboard/session"]["get"]["responses"]["200"]["content"]
    schema = answers["application/json"]["schema"]
    headers = {"Authorization": f"Bearer {filled.key}"}
    for sent, account in (({}, None), (headers, "local")):
        found = httpx2.get(f"{filled.url}/dashboard/session", params={"optional": True}, headers=sent).json()
        assert found["account"] == account
        assert problems(found, schema, document) == []
    assert problems({"account": "local", "mayLook": True}, schema, document)


def test_the_table_names_calls_that_there_are() -> None:
    verbs = ("Create", "Get", "Update", "Resume", "Scale")
    strangers = {rpc for rpc in ANSWERS if rpc not in RPCS.values()}
    assert not [rpc for rpc in strangers if not rpc.startswith(verbs)]


def test_the_document_is_printed_without_a_data_folder(platform: Platform) -> None:
    command = [sys.executable, "-m", "tunesmith.server.openapi"]
    printed = subprocess.run(command, check=True, capture_output=True, env={"PATH": "/usr/bin"}).stdout
    assert json.loads(printed) == httpx2.get(f"{platform.url}/openapi.json").json()
