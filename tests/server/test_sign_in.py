"""Signing a browser in: what the cookie opens and what it does not, one-time links, and looking from this machine."""

from __future__ import annotations

import base64
import json
import os
import stat
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from tunesmith.db.api_keys import find_key
from tunesmith.db.session import reading
from tunesmith.server import cookies, signing
from tunesmith.storage.encryption import encrypt

from tests.server.conftest import ACCOUNT, Platform

OURS = {"x-tunesmith": "1"}
SESSION = "/dashboard/session"
SECRET = {"name": "s", "keyName": "S", "value": "v"}


@pytest.fixture
def browser(platform: Platform) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=platform.url, timeout=20) as client:
        yield client


def sign_in(browser: httpx2.Client, body: dict[str, Any], status: int = 200, **headers: str) -> Any:
    response = browser.post(SESSION, json=body, headers=headers)
    assert response.status_code == status, response.text
    return response.json()


def test_the_cookie_is_the_key(platform: Platform, browser: httpx2.Client) -> None:
    assert browser.get(SESSION).status_code == 401
    assert browser.get(SESSION, params={"optional": True}).json() == {"account": None, "mayLook": True}
    assert browser.get(f"{ACCOUNT}/secrets").status_code == 401
    response = browser.post(SESSION, json={"apiKey": f" {platform.key}\n"})
    who = response.json()
    assert (who["account"], who["role"], who["user"]) == ("local", "admin", None)
    header = response.headers["set-cookie"].lower()
    for part in ("httponly", "samesite=strict", "path=/", "max-age=2592000"):
        assert part in header
    assert "secure" not in header
    assert platform.key not in response.headers["set-cookie"]
    assert browser.get(SESSION).json() == browser.get(SESSION, params={"optional": True}).json() == who
    assert browser.get(f"{ACCOUNT}/secrets").status_code == 200
    assert browser.post(f"{ACCOUNT}/secrets", json=SECRET, headers=OURS).status_code == 200
    assert browser.get("/verifyApiKey").headers["x-fireworks-account-id"] == "local"
    assert browser.get("/v1/models").status_code == 200  # the gateway's
    assert browser.delete(SESSION, headers=OURS).json() == {}
    assert browser.get(SESSION).status_code == 401


def test_the_cookie_is_marked_secure_behind_a_proxy_with_tls(platform: Platform, browser: httpx2.Client) -> None:
    headers = {"x-forwarded-proto": "https"}
    response = browser.post(SESSION, json={"apiKey": platform.key}, headers=headers)
    assert "secure" in response.headers["set-cookie"].lower()


FORGED = (
    {},
    {"x-tunesmith": "2"},
    {**OURS, "origin": "http://evil.example"},
    {**OURS, "origin": "null"},
    {**OURS, "origin": "http://127.0.0.1:1"},
    {**OURS, "sec-fetch-site": "cross-site"},
    {**OURS, "sec-fetch-site": "same-site"},
    {**OURS, "sec-fetch-site": "none"},
)


def test_a_forged_request_changes_nothing(platform: Platform, browser: httpx2.Client) -> None:
    sign_in(browser, {"apiKey": platform.key})
    chat = {"model": "none", "messages": []}
    for headers in FORGED:
        response = browser.post(f"{ACCOUNT}/secrets", json=SECRET, headers=headers)
        assert response.status_code == 403, headers
        assert "not from the dashboard" in response.json()["message"]
        # The gateway's short way asks, too.
        assert browser.post("/v1/chat/completions", json=chat, headers=headers).status_code == 403, headers
    assert platform.ok("GET", "/secrets")["secrets"] == []
    assert browser.get(f"{ACCOUNT}/secrets", headers={"sec-fetch-site": "cross-site"}).status_code == 200
    for headers in (OURS, {**OURS, "sec-fetch-site": "same-origin"}):
        assert browser.post(f"{ACCOUNT}/secrets", json=SECRET, headers=headers).status_code in (200, 409)
        assert browser.post("/v1/chat/completions", json=chat, headers=headers).status_code != 403
    assert len(platform.ok("GET", "/secrets")["secrets"]) == 1


def test_the_own_origin_may_be_named(platform: Platform, browser: httpx2.Client) -> None:
    sign_in(browser, {"apiKey": platform.key}, origin=platform.url)
    answer = browser.post(f"{ACCOUNT}/secrets", json=SECRET, headers={**OURS, "origin": platform.url})
    assert answer.status_code == 200
    sign_in(browser, {"apiKey": platform.key}, 403, origin="http://evil.example")
    sign_in(browser, {}, 403, **{"sec-fetch-site": "cross-site"})


def test_an_api_key_needs_no_such_header_and_wins_over_the_cookie(platform: Platform, browser: httpx2.Client) -> None:
    sign_in(browser, {"apiKey": platform.key})
    bearer = {"Authorization": f"Bearer {platform.key}"}
    assert browser.post(f"{ACCOUNT}/secrets", json=SECRET, headers=bearer).status_code == 200
    assert browser.get(f"{ACCOUNT}/secrets", headers={"Authorization": "Bearer wrong"}).status_code == 401


def test_the_end_of_a_key_ends_its_cookies(platform: Platform, browser: httpx2.Client) -> None:
    platform.ok("POST", "/users?userId=ada", json={"role": "contributor"})
    key = platform.ok("POST", "/users/ada/apiKeys", json={"apiKey": {}})
    who = sign_in(browser, {"apiKey": key["key"]})
    assert (who["role"], who["user"]) == ("contributor", "accounts/local/users/ada")
    assert browser.post(f"{ACCOUNT}/secrets", json=SECRET, headers=OURS).status_code == 403
    platform.ok("PATCH", "/users/ada", json={"role": "user"})
    assert browser.post(f"{ACCOUNT}/secrets", json=SECRET, headers=OURS).status_code == 200
    platform.ok("POST", "/users/ada/apiKeys:delete", json={"keyId": key["keyId"]})
    assert browser.get(f"{ACCOUNT}/secrets").status_code == 401
    assert browser.get(SESSION).status_code == 401


def test_a_cookie_ends_with_its_key_if_that_is_sooner(platform: Platform, browser: httpx2.Client) -> None:
    soon = time.time() + 3600
    response = browser.post(SESSION, json={"apiKey": platform.make_key(expires=soon)})
    age = int(response.headers["set-cookie"].lower().split("max-age=")[1].split(";")[0])
    assert 3500 < age <= 3600


def test_only_keys_of_people_sign_in(platform: Platform, browser: httpx2.Client) -> None:
    assert "not known" in sign_in(browser, {"apiKey": "ts_000000000000_" + "0" * 48}, 401)["message"]
    sign_in(browser, {"apiKey": platform.make_key(scope={"kind": "run", "job": "accounts/local/x/j"})}, 403)
    sign_in(browser, {"apiKey": "x", "link": "y"}, 400)
    sign_in(browser, {"password": "x"}, 400)
    platform.ok("POST", "/users?userId=caller", json={"role": "inference-user"})
    key = platform.ok("POST", "/users/caller/apiKeys", json={"apiKey": {}})["key"]
    assert "inference-user" in sign_in(browser, {"apiKey": key}, 403)["message"]
    assert browser.get(SESSION).status_code == 401


def test_a_cookie_cannot_be_made_changed_or_moved(platform: Platform, browser: httpx2.Client) -> None:
    keys = platform.control.keys
    good = cookies.seal(keys.master, cookies.Signed(platform.key, time.time() + 60))
    late = cookies.seal(keys.master, cookies.Signed(platform.key, time.time() - 1))
    foreign = cookies.seal(b"x" * 32, cookies.Signed(platform.key, time.time() + 60))
    text = json.dumps({"key": platform.key, "expires": time.time() + 60})
    moved = base64.urlsafe_b64encode(encrypt(keys.master, text, "another use")).decode()
    turned = good[:-8] + ("A" if good[-8] != "A" else "B") + good[-7:]
    for value in (late, foreign, moved, turned, good[:20], "", "é", "%%%", "a" * 5000, good + "A"):
        headers = [(b"cookie", f"{cookies.COOKIE}={value}".encode())]
        assert httpx2.get(platform.url + SESSION, headers=headers).status_code == 401, value
    other = [(b"cookie", f"other=1; {cookies.COOKIE}={good}; more=2".encode())]
    assert httpx2.get(platform.url + SESSION, headers=other).status_code == 200


def test_a_link_signs_in_once(platform: Platform, browser: httpx2.Client) -> None:
    assert browser.post("/dashboard/links").status_code == 401
    link = platform.http.post("/dashboard/links").json()
    address, _, token = link["url"].partition("#link=")
    assert address == f"{platform.url}/dashboard/sign-in"
    assert sign_in(browser, {"link": token})["role"] == "admin"
    assert browser.get(SESSION).status_code == 200
    assert "used already" in sign_in(browser, {"link": token}, 401)["message"]
    sign_in(browser, {"link": "nothing"}, 401)


def test_a_link_ends_by_itself(platform: Platform, browser: httpx2.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signing, "LINK_SECONDS", -1.0)
    token = platform.http.post("/dashboard/links").json()["url"].partition("#link=")[2]
    sign_in(browser, {"link": token}, 401)


def test_on_this_machine_one_may_look_without_a_key(platform: Platform, browser: httpx2.Client) -> None:
    platform.dataset("d")
    assert sign_in(browser, {})["role"] == "viewer"
    assert browser.get(f"{ACCOUNT}/datasets/d").status_code == 200
    for path in ("/secrets", "/users", "/users/x/apiKeys"):
        response = browser.get(ACCOUNT + path)
        assert response.status_code == 403, path
        assert "Sign in with a key" in response.json()["message"]
    for method, path in (("POST", "/secrets"), ("DELETE", "/datasets/d"), ("POST", "/datasets/d:renderPreview")):
        answer = browser.request(method, ACCOUNT + path, json=SECRET, headers=OURS)
        assert answer.status_code == 403, path
    assert browser.post("/dashboard/links", headers=OURS).status_code == 403
    chat = browser.post("/v1/chat/completions", json={"model": "none", "messages": []}, headers=OURS)
    assert chat.status_code == 403
    assert "only look" in chat.text
    assert platform.ok("GET", "/users")["users"] == []


def test_the_viewers_key_is_made_once_and_kept_private(platform: Platform, browser: httpx2.Client) -> None:
    path = platform.control.settings.path("keys", "viewer.key")
    sign_in(browser, {})
    key = path.read_text().strip()
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    sign_in(browser, {})
    assert path.read_text().strip() == key
    with platform.control.sessions.begin() as session:
        session.delete(find_key(session, key, platform.control.keys.pepper))
    sign_in(browser, {})
    again = path.read_text().strip()
    assert again != key
    with reading(platform.control.sessions) as session:
        assert find_key(session, again, platform.control.keys.pepper) is not None


def test_nobody_else_looks_without_a_key(browser: httpx2.Client) -> None:
    strangers = {"Host": "evil.example:80", "X-Forwarded-For": "1.2.3.4", "Via": "1.1 proxy", "X-Real-IP": "::1"}
    for name, value in strangers.items():
        assert "own machine" in sign_in(browser, {}, 401, **{name: value})["message"]
        nobody = browser.get(SESSION, params={"optional": True}, headers={name: value})
        assert nobody.json() == {"account": None, "mayLook": False}


def test_the_role_of_a_viewer_is_nobodys(platform: Platform) -> None:
    assert "viewer" in platform.fails(400, "POST", "/users?userId=v", json={"role": "viewer"})
    platform.ok("POST", "/users?userId=v", json={"role": "user"})
    platform.fails(400, "PATCH", "/users/v", json={"role": "viewer"})
