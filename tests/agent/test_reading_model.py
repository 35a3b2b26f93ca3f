"""The optional model: what it is asked, and what counts of its answer. The model is a local OpenAI-compatible server."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from tunesmith.agent.conversation import begin
from tunesmith.agent.plan import Plan
from tunesmith.agent.reading import BaseModelName, Names
from tunesmith.server.agent_model import read_by_model
from tunesmith.settings import Settings

NAMES = Names("acme", [BaseModelName("accounts/fireworks/models/qwen3-8b", "Qwen/Qwen3-8B", "Qwen3-8B")])
WORDS = "Run SFT on orders-7 with qwen3-8b, and go over everything thrice."


class FakeModel:
    """Answers every request with `content`, and keeps the requests."""

    def __init__(self) -> None:
        self.content: Any = {"plan": {}, "quotes": {}}
        self.status = 200
        self.seen: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        model = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                model.seen.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                model.keys.append(self.headers["authorization"])
                text = model.content if isinstance(model.content, str) else json.dumps(model.content)
                body = json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode()
                self.send_response(model.status if self.path == "/v1/chat/completions" else 404)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"


@pytest.fixture
def model() -> Iterator[FakeModel]:
    fake = FakeModel()
    thread = threading.Thread(target=fake.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield fake
    fake.server.shutdown()
    thread.join()
    fake.server.server_close()


@pytest.fixture
def settings(model: FakeModel, tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, agent_model_url=model.url, agent_model="reader", agent_model_key="k")


def plan_after(settings: Settings, words: str = WORDS) -> tuple[Plan, list[str], list[str]]:
    hints = read_by_model(settings, words, NAMES, None, Plan(), starts=True)
    document = begin(words, None, NAMES, hints).document
    return document.plan, document.understood, [question.text for question in document.unclear]


def test_a_field_with_the_persons_words_is_read_and_marked(settings: Settings, model: FakeModel) -> None:
    model.content = {"plan": {"epochs": 3}, "quotes": {"epochs": "go over everything thrice"}}
    plan, understood, unclear = plan_after(settings)
    assert (plan.epochs, plan.dataset) == (3, "orders-7")
    assert "Read by the model" in understood[-1]
    assert unclear == []
    sent = model.seen[0]
    assert (sent["model"], sent["temperature"], model.keys) == ("reader", 0, ["Bearer k"])
    assert "epochs" in sent["response_format"]["json_schema"]["schema"]["properties"]["plan"]["properties"]
    assert "approvals" not in sent["response_format"]["json_schema"]["schema"]["properties"]["plan"]["properties"]


@pytest.mark.parametrize(
    "content",
    [
        {"plan": {"epochs": 3}, "quotes": {}},
        {"plan": {"epochs": 3}, "quotes": {"epochs": "three epochs"}},
        {"plan": {"epochs": 3}, "quotes": {"epochs": "go over everything thrice, that is three epochs"}},
        {"plan": {"epochs": 3}, "quotes": {"epochs": "rice"}},
        {"plan": {"dataset": "other"}, "quotes": {"dataset": "thrice"}},
        {"plan": {"approvals": {"plan": False}}, "quotes": {"approvals": "thrice"}},
        {"plan": {"epochs": -1}, "quotes": {"epochs": "thrice"}},
        {"plan": {"wish": 1}, "quotes": {"wish": "thrice"}},
        {"plan": {"epochs": 3}},
        "I would suggest three epochs.",
        [],
    ],
)
def test_what_is_not_the_persons_own_is_dropped_and_asked(settings: Settings, model: FakeModel, content: Any) -> None:
    model.content = content
    plan, _, unclear = plan_after(settings)
    assert (plan.epochs, plan.dataset, plan.approvals.plan) == (None, "orders-7", True)
    assert any("thrice" in text for text in unclear)


def test_a_model_that_fails_is_as_none(settings: Settings, model: FakeModel) -> None:
    model.status = 500
    assert any("thrice" in text for text in plan_after(settings)[2])
    away = settings.model_copy(update={"agent_model_url": "http://127.0.0.1:9"})
    assert any("thrice" in text for text in plan_after(away)[2])


def test_words_that_the_rules_understand_are_not_sent(settings: Settings, model: FakeModel) -> None:
    plan, _, unclear = plan_after(settings, "Run SFT on orders-7 with qwen3-8b for 3 epochs.")
    assert (plan.epochs, unclear, model.seen) == (3, [], [])
    without = settings.model_copy(update={"agent_model": ""})
    assert read_by_model(without, WORDS, NAMES, None, Plan(), starts=True) is None
