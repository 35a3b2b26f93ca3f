"""The app's files: the same page everywhere under /dashboard, bound by its policy, and what it loads."""

from __future__ import annotations

import re

import httpx2
import pytest
from tunesmith.server.dashboard import pages

from tests.server.conftest import Platform

LINKS = (
    "/dashboard",
    "/dashboard/evaluators/e",
    "/dashboard/evaluators/e/versions/3",
    "/dashboard/datasets/d",
    "/dashboard/fine-tuning/reinforcement/j",
    "/dashboard/sign-in?next=%2Fdashboard",
)


def test_every_link_that_clients_print_is_answered_with_the_app(platform: Platform) -> None:
    nonces = set()
    for path in LINKS:
        response = httpx2.get(platform.url + path)
        assert response.status_code == 200, path
        assert response.headers["content-type"].startswith("text/html")
        assert '<div id="root">' in response.text
        found = re.search(r'<meta name="csp-nonce" content="([^"]+)"', response.text)
        assert found, path
        policy = response.headers["content-security-policy"]
        assert f"style-src 'self' 'nonce-{found[1]}'" in policy
        assert "script-src 'self';" in policy
        assert "unsafe" not in policy
        for part in ("default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"):
            assert part in policy
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["referrer-policy"] == "no-referrer"
        nonces.add(found[1])
    assert len(nonces) == len(LINKS)
    assert httpx2.get(f"{platform.url}/").headers["location"] == "/dashboard"


def test_the_page_holds_nothing_of_the_account(platform: Platform) -> None:
    platform.dataset("hidden-name")
    assert "hidden-name" not in httpx2.get(f"{platform.url}/dashboard/datasets/hidden-name").text


def test_files_of_the_app(platform: Platform) -> None:
    plain = httpx2.get(f"{platform.url}/assets/app-1.js", headers={"accept-encoding": "identity"})
    packed = httpx2.get(f"{platform.url}/assets/app-1.js", headers={"accept-encoding": "gzip"})
    assert plain.text == packed.text == "console.log('app')"
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert "immutable" in plain.headers["cache-control"]
    assert plain.headers["content-type"].startswith("text/javascript")
    for path in ("/assets/none.js", "/assets/..%2Fdashboard.html", "/assets/%2e%2e%2fdashboard.html", "/assets/"):
        assert httpx2.get(platform.url + path).status_code == 404, path


def test_a_missing_bundle_says_what_to_run(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "BUNDLE", pages.BUNDLE / "nothing")
    response = httpx2.get(f"{platform.url}/dashboard")
    assert response.status_code == 503
    assert "make setup" in response.text
