"""The pages behind the printed links: right, escaped, and not for strangers."""

from __future__ import annotations

import re

import httpx2
import pytest
from tunesmith.db.jobs import enqueue, finish, set_progress
from tunesmith.db.rollouts import add_events, add_rollouts
from tunesmith.db.tables import Evaluator, Model

from tests.server.conftest import BASE_MODEL, Platform
from tests.server.test_rft_monitoring import NAME, rollout, spec

EVIL = "<script>alert(1)</script>"
PAGE = "/dashboard/fine-tuning/reinforcement/j"


@pytest.fixture
def filled(platform: Platform) -> Platform:
    platform.dataset("d", b'{"messages": [{"role": "user", "content": "' + EVIL.encode() + b'"}]}\n')
    platform.evaluator("e")
    with platform.control.sessions.begin() as session:
        session.get_one(Evaluator, "accounts/local/evaluators/e").build_log = EVIL
        enqueue(session, NAME, "accounts/local", "rft", spec(), state="JOB_STATE_RUNNING")
        chunks = [{"kind": "chunk", "mean_score": score} for score in (0.1, None, 0.6)]
        held_out = {"kind": "evaluation", "step": 2, "score": 0.5, "low": 0.4, "high": 0.6}
        add_events(session, NAME, "events.jsonl", list(enumerate([*chunks, held_out], start=1)))
        rollouts = [rollout(0, 1.0, EVIL), {**rollout(1, None), "reason": EVIL}]
        add_rollouts(session, NAME, "rollouts.jsonl", list(enumerate(rollouts)))
        session.add(
            Model(
                name="accounts/local/models/j",
                account="accounts/local",
                base_model=BASE_MODEL,
                job=NAME,
                adapter_path="/x",
                sha256="ab",
            )
        )
    return platform


def _page(platform: Platform, path: str, status: int = 200, **headers: str) -> str:
    response = httpx2.get(platform.url + path, headers=headers, follow_redirects=True)
    assert response.status_code == status, response.text
    assert response.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert EVIL not in response.text
    return response.text


def test_the_job_page_tells_the_story(filled: Platform):
    page = _page(filled, PAGE)
    assert "JOB_STATE_RUNNING" in page
    assert 'http-equiv="refresh"' in page
    assert page.count('<circle class="train"') == 2
    assert page.count('<circle class="held"') == 1
    assert "invalid" in page
    assert "&lt;script&gt;" in page
    assert "accounts/local/models/j" in page
    assert f"{filled.url}/v1/chat/completions" in page
    with filled.control.sessions.begin() as session:
        finish(session, NAME, "JOB_STATE_FAILED", {"code": "INTERNAL", "message": EVIL})
    page = _page(filled, PAGE)
    assert "JOB_STATE_FAILED" in page
    assert 'http-equiv="refresh"' not in page


def test_numbers_are_round(filled: Platform):
    with filled.control.sessions.begin() as session:
        add_rollouts(session, NAME, "rollouts.jsonl", [(7, rollout(7, 2 / 3))])
        set_progress(session, NAME, {"percent": 9, "epoch": 1, "run": {"step": 3, "mean_score": 0.7909722222222216}})
    page = _page(filled, PAGE)
    assert "<td>0.791</td>" in page
    assert "<td>0.667</td>" in page
    assert "<td>0.001</td>" in page  # the learning rate
    assert not re.findall(r"\d\.\d{5,}", page)


def test_the_other_pages(filled: Platform):
    index = _page(filled, "/")
    for path in (PAGE, "/dashboard/evaluators/e", "/dashboard/datasets/d", "/dashboard/models/j"):
        assert f'href="{path}"' in index
        assert "on the machine that serves them" in _page(filled, path)
    assert "There is no" in _page(filled, "/dashboard/models/none", 404)


def test_a_job_that_has_just_begun_has_a_page(filled: Platform):
    with filled.control.sessions.begin() as session:
        enqueue(session, NAME + "2", "accounts/local", "rft", spec())
    assert "No chunk has been scored yet" in _page(filled, PAGE + "2")


def test_only_this_machine_looks_without_a_key(filled: Platform):
    assert "key" in _page(filled, PAGE, 401, Host="evil.example:80")
    for header in ("1.2.3.4", "evil.example"):
        _page(filled, PAGE, 401, **{"X-Forwarded-For": header, "Host": "tunesmith.example"})
    _page(filled, PAGE, 401, Authorization="Bearer wrong")
    _page(filled, PAGE, 200, Authorization=f"Bearer {filled.key}", Host="tunesmith.example")
    other = filled.make_key("accounts/b")
    _page(filled, PAGE, 404, Authorization=f"Bearer {other}")
