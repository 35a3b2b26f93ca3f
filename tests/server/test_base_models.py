"""A base model that is to be had nowhere: one message with every place, the hub's answer among them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from tunesmith.errors import NotFound
from tunesmith.server.base_models import find_base_model
from tunesmith.settings import Settings

from tests.server.conftest import Platform


class _Hub(BaseHTTPRequestHandler):
    """Has nothing but org/there."""

    def do_GET(self) -> None:
        there = self.path == "/api/models/org/there"
        body = b'{"id": "org/there", "siblings": []}' if there else b'{"error": "Repository not found"}'
        self.send_response(200 if there else 404)
        if not there:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ThreadingHTTPServer]:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with ThreadingHTTPServer(("127.0.0.1", 0), _Hub) as server:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.usefixtures("hub")
def test_the_hubs_answer_is_one_of_the_places(tmp_path: Path) -> None:
    assert find_base_model("org/there", Settings(data_dir=tmp_path)).name == "org/there"
    with pytest.raises(NotFound) as caught:
        find_base_model("org/nothing", Settings(data_dir=tmp_path))
    message = caught.value.message
    assert f"; {constants.ENDPOINT}/org/nothing (does not have it, or not for you). Put its folder at" in message
    assert message.count("Looked in") == 1
    assert "not asked" not in message


def test_a_hub_that_is_away_is_said_to_be(
    hub: ThreadingHTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(NotFound, match=r"http://127\.0\.0\.1:9/org/there \(did not answer: \w+\)"):
        find_base_model("org/there", Settings(data_dir=tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(NotFound, match=r"\(not asked: HF_HUB_OFFLINE is set\)"):
        find_base_model("org/there", Settings(data_dir=tmp_path))


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"model_type": "gemma2", "final_logit_softcapping": 30.0}, "final_logit_softcapping = 30.0"),
        (
            {
                "model_type": "phi3",
                "original_max_position_embeddings": 4096,
                "rope_scaling": {"type": "longrope", "long_factor": [1.0], "short_factor": [1.0]},
            },
            "rotary embeddings of type longrope turn every token otherwise once a sequence is longer than 4096 tokens",
        ),
        ({"model_type": "llama", "rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, "type dynamic"),
    ],
)
def test_a_job_on_a_model_that_the_learner_does_not_compute_is_refused_by_name(
    platform: Platform, tmp_path: Path, config: dict[str, Any], reason: str
) -> None:
    """When it is created, for each kind of job, and nothing is left of it."""
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 8192, "vocab_size": 300, **config}))
    (folder / "model.safetensors").write_bytes(b"")
    (folder / "tokenizer.json").write_text("{}")
    platform.dataset("d")
    platform.evaluator("e")
    rft = {"dataset": "d", "evaluator": "e", "evalAutoCarveout": False, "trainingConfig": {"baseModel": str(folder)}}
    tuning = {"dataset": "d", "baseModel": str(folder)}
    for route, body in (
        ("/reinforcementFineTuningJobs", rft),
        ("/supervisedFineTuningJobs", tuning),
        ("/dpoJobs", {"dataset": "d", "trainingConfig": {"baseModel": str(folder)}}),
    ):
        message = platform.fails(400, "POST", route, json=body)
        assert f"{folder} cannot be trained" in message, route
        assert reason in message, route
        assert message.endswith("Choose another base model."), route
        assert not next(iter(platform.ok("GET", route).values()))
