"""Log lines on their way to the gateway: what is sent, what is dropped, where it goes, and with which key."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from eval_protocol.errors import NotBuiltYet
from eval_protocol.models import Status
from eval_protocol.models.remote import InitRequest, create_langfuse_config_tags
from eval_protocol.tracing import (
    ContextRolloutIdFilter,
    FireworksTracingHttpHandler,
    RolloutIdFilter,
    init_external_logging_from_env,
    rollout_logging_context,
)
from eval_protocol.tracing.lines import body
from eval_protocol.tracing.posting import LogPoster
from eval_protocol.tracing.route import HOSTED_GATEWAY, TracingGateway, gateway_of, log_gateway, rollout_gateway

from tests.sdk.gateway_double import GatewayDouble


@pytest.fixture
def gateway() -> Iterator[GatewayDouble]:
    made = GatewayDouble()
    yield made
    made.close()


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    made = logging.getLogger("tests.tracing")
    made.setLevel(logging.DEBUG)
    made.propagate = False
    yield made
    made.handlers.clear()
    made.filters.clear()
    made.propagate = True


def chatter(text: str, rollout_id: str = "r") -> dict[str, Any]:
    return body(text, [rollout_id])


def test_a_line_to_the_letter(gateway: GatewayDouble, logger: logging.Logger):
    handler = FireworksTracingHttpHandler(gateway.url, api_key="k")
    handler.addFilter(RolloutIdFilter("r1"))
    logger.addHandler(handler)
    logger.info(
        "Rollout %s done",
        "r1",
        extra={"status": Status.rollout_finished(), "cost": 3, "odd": {1, 2}, "nan": float("nan")},
    )
    logger.info("plain", extra={"status": {"code": 13, "message": "broken"}})
    logger.info("no status", extra={"status": "finished"})
    handler.flush()
    first, second, third = sorted(gateway.lines, key=lambda line: line["extras"]["timestamp"])
    assert first == {
        "program": "eval_protocol",
        "status": {"code": 100, "message": "Rollout finished", "details": []},
        "message": "Rollout r1 done",
        "tags": ["rollout_id:r1"],
        "extras": {
            "cost": 3,
            "odd": "{1, 2}",
            "nan": "nan",
            "logger_name": "tests.tracing",
            "level": "INFO",
            "timestamp": first["extras"]["timestamp"],
        },
    }
    assert second["status"] == {"code": 13, "message": "broken", "details": []}
    assert third["status"] is None
    assert {bearer for *_, bearer in gateway.requests} == {"k"}


def test_whose_line_it_is(gateway: GatewayDouble, logger: logging.Logger, monkeypatch: pytest.MonkeyPatch):
    handler = FireworksTracingHttpHandler(gateway.url, api_key="k")
    logger.addHandler(handler)
    logger.info("nobody's")
    monkeypatch.setenv("EP_ROLLOUT_ID", "of-the-process")
    logger.info("the process's")
    handler.addFilter(ContextRolloutIdFilter())
    logger.info("outside")
    with rollout_logging_context("a", experiment_id="e", run_id="n", rollout_ids=["a", "b"]):
        logger.info("inside")
    handler.flush()
    assert [(line["message"], line["tags"]) for line in gateway.lines] == [
        ("the process's", ["rollout_id:of-the-process"]),
        ("inside", ["rollout_id:a", "rollout_id:b", "experiment_id:e", "run_id:n"]),
    ]


def test_logs_elsewhere_and_over_one_connection(gateway: GatewayDouble):
    gateway.missing.add("/logs")
    poster = LogPoster(TracingGateway(gateway.url))
    for i in range(3):
        poster.put(chatter(str(i)))
    assert poster.flush(10)
    paths = [path.removeprefix(gateway.prefix) for _, path, _ in gateway.requests]
    assert paths == ["/logs", "/v1/logs", "/v1/logs", "/v1/logs"]
    assert [line["message"] for line in gateway.lines] == ["0", "1", "2"]


def test_a_proxy_in_front_of_a_gateway_that_is_away_settles_no_path(gateway: GatewayDouble):
    gateway.override["logs"] = (502, {})
    poster = LogPoster(TracingGateway(gateway.url))
    poster.put(body("end", ["r"], status=Status.rollout_finished()))
    assert not poster.flush(0.3)
    gateway.missing.add("/logs")
    del gateway.override["logs"]
    assert poster.flush(20)
    assert [line["message"] for line in gateway.lines] == ["end"]
    assert poster.dropped == 0


def test_a_gateway_that_is_away_costs_chatter_only(gateway: GatewayDouble, caplog: pytest.LogCaptureFixture):
    gateway.stop()
    poster = LogPoster(TracingGateway(gateway.url), most_chatter=5)
    for i in range(50):
        poster.put(chatter(f"chatter {i}"))
    for i in range(20):
        poster.put(body(f"end {i}", [f"r{i}"], status=Status.rollout_finished()))
    assert not poster.flush(0.3)
    gateway.start()
    assert poster.flush(20)
    said = [line["message"] for line in gateway.lines]
    assert sorted(said, key=lambda text: (text.split()[0], int(text.split()[1])))[-20:] == [
        f"end {i}" for i in range(20)
    ]
    kept = [text for text in said if text.startswith("chatter")]
    assert 5 <= len(kept) <= 6
    assert said.index("end 19") < said.index(kept[-1])
    assert poster.dropped == 50 - len(kept)
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == 2
    assert "takes no log lines" in warnings[0]
    assert f"{poster.dropped} were dropped" in warnings[1]


def test_a_refused_line_is_dropped_and_said(gateway: GatewayDouble, caplog: pytest.LogCaptureFixture):
    gateway.override["logs"] = (413, {"detail": "too large"})
    poster = LogPoster(TracingGateway(gateway.url))
    poster.put(chatter("x"))
    assert poster.flush(10)
    assert poster.dropped == 1
    assert "413" in caplog.text
    assert "too large" in caplog.text


def test_putting_never_waits(gateway: GatewayDouble):
    """Not even while the gateway holds a request: every line is queued before the first one is answered."""
    release = threading.Event()

    async def hold(line: dict[str, Any]) -> Any:
        import asyncio

        from aiohttp import web

        await asyncio.to_thread(release.wait, 20)
        gateway.lines.append(line)
        return web.json_response({})

    gateway._log = hold  # type: ignore[method-assign]
    poster = LogPoster(TracingGateway(gateway.url))
    for i in range(500):
        poster.put(chatter(str(i)))
    assert gateway.lines == []
    assert poster.waiting == 500
    release.set()
    assert poster.flush(20)
    assert len(gateway.lines) == 500


def run_program(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env={**os.environ, **env}, check=False
    )


PROGRAM = """
import logging, os
from eval_protocol import FireworksTracingHttpHandler, Status
logging.getLogger().addHandler(FireworksTracingHttpHandler())
logging.getLogger("a").warning("last words", extra={"status": Status.rollout_finished()})
"""


def test_the_end_of_the_program_waits_for_what_is_queued(gateway: GatewayDouble):
    env = {"FW_TRACING_GATEWAY_BASE_URL": gateway.url, "FIREWORKS_API_KEY": "k", "EP_ROLLOUT_ID": "r1"}
    done = run_program(PROGRAM, **env)
    assert done.returncode == 0, done.stderr
    assert [(line["message"], line["tags"]) for line in gateway.lines] == [("last words", ["rollout_id:r1"])]
    assert gateway.requests[0][2] == "k"
    child = PROGRAM + (
        "if os.fork() == 0:\n"
        "    logging.getLogger('a').warning('from the child')\n"
        "    logging.shutdown(); os._exit(0)\n"
        "os.wait()\n"
    )
    assert run_program(child, **env).returncode == 0
    assert [line["message"] for line in gateway.lines].count("from the child") == 1


def test_the_end_of_the_program_is_not_held_up_by_a_gateway_that_is_away(gateway: GatewayDouble):
    gateway.stop()
    done = run_program(PROGRAM, FW_TRACING_GATEWAY_BASE_URL=gateway.url, FIREWORKS_API_KEY="k", EP_ROLLOUT_ID="r1")
    assert done.returncode == 0, done.stderr
    assert "takes no log lines" in done.stderr
    assert "1 log lines had not reached" in done.stderr
    gateway.start()


def test_without_a_gateway_it_says_so_once(logger: logging.Logger, caplog: pytest.LogCaptureFixture):
    handler = FireworksTracingHttpHandler()
    handler.addFilter(RolloutIdFilter("r"))
    logger.addHandler(handler)
    logger.info("one")
    logger.info("two")
    assert caplog.text.count("no tracing gateway is known") == 1


def test_which_gateway_and_which_key(clean: Path):
    def profile(base: str, key: str) -> None:
        (clean / ".tunesmith").mkdir(exist_ok=True)
        (clean / ".tunesmith" / "profile.json").write_text(json.dumps({"api_base": base, "api_key": key}))

    ours, hosted = "http://127.0.0.1:7777", "https://api.fireworks.ai"
    assert rollout_gateway(environ={}) is None
    assert log_gateway(environ={}) is None
    assert rollout_gateway(environ={"FIREWORKS_API_KEY": "fw"}) == TracingGateway(HOSTED_GATEWAY, "fw")
    assert rollout_gateway("http://other/x/", environ={"FIREWORKS_API_KEY": "fw"}) == TracingGateway("http://other/x")
    assert rollout_gateway("http://a", environ={"EP_MODEL_BASE_URL": "http://b/", "EP_REMOTE_API_KEY": "k"}) == (
        TracingGateway("http://b", "k")
    )
    pair = {"FIREWORKS_API_BASE": ours, "FIREWORKS_API_KEY": "k1"}
    assert rollout_gateway(environ=pair) == TracingGateway(f"{ours}/litellm-gateway", "k1")
    assert rollout_gateway(HOSTED_GATEWAY, environ=pair) == TracingGateway(HOSTED_GATEWAY)
    assert rollout_gateway(HOSTED_GATEWAY, environ={**pair, "FIREWORKS_API_BASE": hosted}).key == "k1"  # type: ignore[union-attr]
    named = {"FW_TRACING_GATEWAY_BASE_URL": "http://logs/x"}
    assert log_gateway(environ={**named, "FIREWORKS_API_KEY": "k"}) == TracingGateway("http://logs/x", "k")
    assert log_gateway(environ={**named, **pair}) == TracingGateway("http://logs/x")
    assert log_gateway(environ={"GATEWAY_URL": "http://g"}) == TracingGateway("http://g")
    profile(ours, "kp")
    assert rollout_gateway(environ={}) == TracingGateway(f"{ours}/litellm-gateway", "kp")
    assert log_gateway("http://localhost:7777/v1", environ={}) == TracingGateway("http://localhost:7777/v1", "kp")
    assert "kp" not in repr(rollout_gateway(environ={}))
    assert gateway_of(f"{ours}/litellm-gateway/v1/rollout_id/r/x/y", "k").root == f"{ours}/litellm-gateway"


def test_external_logging_from_the_environment(gateway: GatewayDouble, monkeypatch: pytest.MonkeyPatch):
    root = logging.getLogger()
    before = list(root.handlers)
    try:
        init_external_logging_from_env()
        assert root.handlers == before
        monkeypatch.setenv("FW_TRACING_GATEWAY_BASE_URL", gateway.url)
        monkeypatch.setenv("FIREWORKS_API_KEY", "k")
        init_external_logging_from_env()
        init_external_logging_from_env()
        [handler] = [one for one in root.handlers if one not in before]
        logging.getLogger("some.module").warning("outside of any rollout")
        with rollout_logging_context("r1"):
            logging.getLogger("some.module").warning("inside")
        handler.flush()
        assert [line["message"] for line in gateway.lines] == ["inside"]
        monkeypatch.setenv("EP_ELASTICSEARCH_URL", "http://es")
        with pytest.raises(NotBuiltYet, match="EP_ELASTICSEARCH_URL"):
            init_external_logging_from_env()
    finally:
        root.handlers[:] = before


def test_tags_of_a_request():
    ids = {"invocation_id": "i", "experiment_id": "e", "rollout_id": "r", "run_id": "n", "row_id": "w"}
    request = InitRequest.model_validate({"metadata": {**ids, "more": 1}, "unknown": 2})
    assert create_langfuse_config_tags(request) == [f"{name}:{value}" for name, value in ids.items()]
    assert request.metadata.model_dump()["more"] == 1
