"""The local UI's server over real HTTP: routes, live changes, lines of rollouts, and who may ask."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from eval_protocol.models import EvaluateResult, EvaluationRow, Message
from eval_protocol.results import ResultsStore, presence
from eval_protocol.results.logs import LogLine
from eval_protocol.tracing.route import TracingGateway
from eval_protocol.ui import live, pages
from eval_protocol.ui import logs as ui_logs
from eval_protocol.ui.app import make_app

from scripts.sample_results import HOSTILE, fill, rows
from tests.sdk.gateway_double import GatewayDouble


class Ui:
    """A running local UI and a client of it."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url, self.session = url, session

    async def get(self, path: str, status: int = 200, headers: dict[str, str] | None = None, **query: str) -> Any:
        """The answer's JSON (or text), which must have this status."""
        async with self.session.get(self.url + path, params=query, headers=headers) as response:
            assert response.status == status, await response.text()
            return await response.json() if response.content_type == "application/json" else await response.text()


@asynccontextmanager
async def serving(store: Path, gateway: TracingGateway | None = None) -> AsyncIterator[Ui]:
    runner = web.AppRunner(make_app(store, gateway), access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
            yield Ui(f"http://127.0.0.1:{runner.addresses[0][1]}", session)
    finally:
        await runner.cleanup()


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ui") / "results.db"
    fill(path, 1000)
    return path


def only(path: str, value: str, operator: str = "==") -> str:
    return json.dumps(
        [{"logic": "AND", "filters": [{"field": path, "operator": operator, "value": value, "type": "text"}]}]
    )


INVOCATION = "$.execution_metadata.invocation_id"


async def test_the_routes_answer_as_promised(filled: Path):
    async with serving(filled) as ui:
        assert await ui.get("/health") == {"status": "ok"}
        status = await ui.get("/api/status")
        assert (status["status"], status["active_connections"], status["store"]) == ("ok", 0, str(filled))
        page = await ui.get(
            "/api/rows", filterConfig=only(INVOCATION, "sample-0-0003"), pageSize="10", sortField="score"
        )
        assert (page["total"], page["matching"], page["page"], page["pageSize"]) == (1000, 200, 1, 10)
        scores = [row["score"] for row in page["rows"]]
        assert scores == sorted(scores, reverse=True)
        first = page["rows"][0]
        whole = await ui.get(f"/api/rows/{first['rolloutId']}")
        assert EvaluationRow.model_validate(whole).evaluation_result.score == first["score"]  # type: ignore[union-attr]
        assert whole["execution_metadata"]["invocation_id"] == "sample-0-0003"
        found = await ui.get("/api/fields")
        assert {field["type"] for field in found["fields"]} == {"text", "number", "boolean", "date"}
        pivot = await ui.get(
            "/api/pivot",
            rows='["$.eval_metadata.name"]',
            columns='["$.input_metadata.completion_params.model"]',
            value="$.evaluation_result.score",
            aggregator="pass@k",
            k="2",
            threshold="0.6",
        )
        assert len(pivot["rows"]) == 4
        assert len(pivot["columns"]) == len(pivot["columnTotals"]) == 3
        assert 0 < pivot["grandTotal"]["low"] < pivot["grandTotal"]["value"] < pivot["grandTotal"]["high"] < 1
        compared = await ui.get(
            "/api/compare", by="invocation", left="sample-0-0000", right="sample-0-0004", pageSize="5"
        )
        assert len(compared["pairs"]) == 5
        assert compared["total"] == compared["summary"]["n"] == 25
        invocations = (await ui.get("/api/invocations", limit="2"))["invocations"]
        assert [each["invocationId"] for each in invocations] == ["sample-0-0004", "sample-0-0003"]
        assert len((await ui.get("/api/models"))["models"]) == 3
        exported = await ui.get("/api/export", format="jsonl", filterConfig=only(INVOCATION, "sample-0-0001"))
        assert len(exported.splitlines()) == 200
        assert (await ui.get("/api/export", format="csv")).count("sample-0-") >= 1000


@pytest.mark.parametrize(
    ("path", "query", "status", "why"),
    [
        ("/api/rows", {"filterConfig": "x"}, 400, "not valid JSON"),
        ("/api/rows", {"page": "one"}, 400, "page must be a whole number"),
        ("/api/rows", {"sortDirection": "up"}, 400, "sortDirection must be desc or asc"),
        ("/api/rows", {"sortField": "a b"}, 400, "cannot be read as a field"),
        ("/api/rows/nobody", {}, 404, "no rollout nobody"),
        ("/api/pivot", {"rows": "{}"}, 400, "rows must be a JSON list"),
        ("/api/pivot", {"rows": "[1]"}, 400, "no field"),
        ("/api/pivot", {"rows": '["$[\\"\\ud800\\"]"]'}, 400, "half a character"),
        ("/api/pivot", {"aggregator": "mode"}, 400, "no aggregator"),
        ("/api/compare", {"left": "a"}, 400, "two different"),
        ("/api/export", {"format": "xml"}, 400, "format must be jsonl or csv"),
        ("/api/invocations", {"limit": "0"}, 400, "limit must be"),
        ("/api/logs/x", {"limit": "0"}, 400, "limit must be"),
        ("/api/nothing", {}, 404, "no route /api/nothing"),
    ],
)
async def test_what_cannot_be_answered_says_why(filled: Path, path: str, query: dict[str, str], status: int, why: str):
    async with serving(filled) as ui:
        answer = await ui.get(path, status, **query)
        assert why in answer["error"]["message"]


async def test_only_this_machine_may_ask_and_only_by_its_own_name(filled: Path):
    async with serving(filled) as ui:
        port = ui.url.rpartition(":")[2]
        for host in ("localhost", f"localhost:{port}", "127.0.0.1", f"[::1]:{port}"):
            await ui.get("/api/rows", headers={"Host": host})
        for host in ("evil.example", "localhost.evil.example", f"0.0.0.0:{port}", "10.0.0.1", ""):
            refused = await ui.get("/api/rows", 403, headers={"Host": host})
            assert "this machine only" in refused["error"]["message"]
        await ui.get("/api/rows", 403, headers={"Sec-Fetch-Site": "cross-site"})
        await ui.get("/api/rows", headers={"Sec-Fetch-Site": "same-origin"})
        async with ui.session.post(ui.url + "/api/rows") as response:
            assert response.status == 405
        async with ui.session.get(ui.url + "/api/rows") as response:
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert "default-src 'none'" in response.headers["Content-Security-Policy"]
            assert response.headers["Cache-Control"] == "no-store"
            assert "Access-Control-Allow-Origin" not in response.headers


async def test_the_page_has_a_nonce_of_its_own(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pages, "BUNDLE", tmp_path / "bundle")
    async with serving(filled) as ui:
        assert "make web" in await ui.get("/table", 503)
        assets = tmp_path / "bundle" / "assets"
        assets.mkdir(parents=True)
        (tmp_path / "bundle" / "local.html").write_text('<meta name="csp-nonce" content="" /><div id="root"></div>')
        (assets / "local-abc.js").write_text("export {}")
        (tmp_path / "secret.txt").write_text("secret")
        nonces = set()
        for path in ("/", "/table", "/pivot?filterConfig=%5B%5D", "/compare"):
            async with ui.session.get(ui.url + path) as response:
                [nonce] = re.findall(r'content="([^"]{16,})"', await response.text())
                policy = response.headers["Content-Security-Policy"]
                assert f"style-src 'self' 'nonce-{nonce}'" in policy
                assert "script-src 'self';" in policy
                assert response.headers["Cache-Control"] == "no-store"
                nonces.add(nonce)
        assert len(nonces) == 4
        async with ui.session.get(ui.url + "/assets/local-abc.js") as response:
            assert "immutable" in response.headers["Cache-Control"]
            assert response.content_type == "text/javascript"
        await ui.get("/assets/other.js", 404)
        from yarl import URL

        for escape in ("/assets/../../secret.txt", "/assets/%2e%2e/%2e%2e/secret.txt", "/assets/..%2f..%2fsecret.txt"):
            async with ui.session.get(URL(ui.url + escape, encoded=True)) as response:
                assert "secret" not in (await response.text()).partition("root")[0]


async def test_hostile_text_comes_back_as_it_is_and_as_json_only(tmp_path: Path):
    path = tmp_path / "results.db"
    with ResultsStore(path) as store:
        [row] = rows(1)
        row.messages[-1].content = "".join(HOSTILE)
        row.execution_metadata.rollout_id = "a/../<b>?#"
        store.log(row)
    async with serving(path) as ui:
        from yarl import URL

        [shown] = (await ui.get("/api/rows", filterConfig=only("$.messages[2].content", "<SCRIPT>", "contains")))[
            "rows"
        ]
        assert shown["rolloutId"] == "a/../<b>?#"
        encoded = URL(ui.url + "/api/rows/a%2F..%2F%3Cb%3E%3F%23", encoded=True)
        async with ui.session.get(encoded) as response:
            assert response.content_type == "application/json"
            assert (await response.json())["messages"][2]["content"] == "".join(HOSTILE)


class Events:
    """A page that listens."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._lines = response.content

    async def next(self, *names: str) -> dict[str, Any]:
        """The next event of one of these names: its data, with `id` and `event`."""
        event: dict[str, Any] = {}
        async with asyncio.timeout(20):
            while True:
                line = (await self._lines.readline()).decode().rstrip("\n")
                name, _, value = line.partition(": ")
                if line.startswith(":") and not names:
                    return {}
                if line == "" and event.get("event") in names:
                    return {**json.loads(event["data"]), "id": event["id"], "event": event["event"]}
                if line == "":
                    event = {}
                else:
                    event[name] = value


@asynccontextmanager
async def listening(ui: Ui, last: str | None = None) -> AsyncIterator[Events]:
    headers = {"Last-Event-ID": last} if last else {}
    async with ui.session.get(ui.url + "/api/watch", headers=headers) as response:
        assert response.content_type == "text/event-stream"
        events = Events(response)
        await events.next()  # ready: what is written from now on is told
        yield events


def running(rollout_id: str) -> EvaluationRow:
    row = EvaluationRow(messages=[Message(role="user", content="q")])
    row.execution_metadata.rollout_id = rollout_id
    return row


async def test_pages_hear_of_rows_and_lines_and_miss_none(tmp_path: Path):
    path = tmp_path / "results.db"
    async with serving(path) as ui:
        with ResultsStore(path) as store:
            async with listening(ui) as first, listening(ui) as second:
                assert (await ui.get("/api/status"))["active_connections"] == 2
                store.log(running("a"))
                told = await first.next("rows")
                assert (told["rolloutIds"], told["total"]) == (["a"], 1)
                assert (await second.next("rows"))["rolloutIds"] == ["a"]
                store.log_line(LogLine("a", 1.0, "INFO", 20, "me", "hello"))
                assert (await first.next("logs"))["rolloutIds"] == ["a"]
                for number in range(50):
                    store.log(running(f"many-{number}"))
                store.flush()
                heard: list[str] = []
                while len(heard) < 50:
                    told = await first.next("rows")
                    heard += told["rolloutIds"]
                assert heard == [f"many-{number}" for number in range(50)]
            store.log(running("while away"))  # nobody listens
            store.flush()
            async with listening(ui, told["id"]) as again:
                assert (await again.next("rows"))["rolloutIds"] == ["while away"]


async def test_rollouts_of_a_process_that_died_end_by_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(live, "LOOK_SECONDS", 0.2)
    path = tmp_path / "results.db"
    code = (
        f"import sys, time; sys.path.insert(0, {str(Path(__file__).parents[2])!r}); from pathlib import Path\n"
        "from tests.sdk.test_ui_server import running; from eval_protocol.results import ResultsStore\n"
        f"store = ResultsStore(Path({str(path)!r})); store.log(running('lost')); store.flush(); print('up', flush=True); time.sleep(60)"
    )
    async with serving(path) as ui, listening(ui) as events:
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert (await events.next("rows"))["rolloutIds"] == ["lost"]
        process.kill()
        process.communicate()
        assert (await events.next("rows"))["rolloutIds"] == ["lost"]
        [row] = (await ui.get("/api/rows"))["rows"]
        assert row["rolloutStatus"]["code"] == 10


async def test_a_store_that_was_replaced_is_taken_up(tmp_path: Path):
    path = tmp_path / "results.db"
    async with serving(path) as ui:
        with ResultsStore(path) as store:
            store.log(running("old"))
        assert (await ui.get("/api/rows"))["total"] == 1
        for file in tmp_path.glob("results.db*"):
            if file.is_file():
                file.unlink()
        with ResultsStore(path) as store:
            store.log(running("new 1"))
            store.log(running("new 2"))
        assert (await ui.get("/api/rows"))["total"] == 2


@pytest.fixture
def gateway() -> Iterator[GatewayDouble]:
    double = GatewayDouble()
    yield double
    double.close()


async def post(
    gateway: GatewayDouble, message: str, level: str, time: str, status: dict[str, Any] | None = None
) -> None:
    line = {
        "program": "eval_protocol", "status": status, "message": message, "tags": ["rollout_id:remote"],
        "extras": {"logger_name": "agent.py", "level": level, "timestamp": time},
    }  # fmt: skip
    async with aiohttp.ClientSession() as session, session.post(gateway.url + "/logs", json=line) as response:
        assert response.status < 300


async def test_lines_of_here_and_of_the_agent_are_one_story(
    tmp_path: Path, gateway: GatewayDouble, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ui_logs, "ASK_SECONDS", 0.05)
    path = tmp_path / "results.db"
    await post(gateway, "second", "WARNING", "2026-01-01T00:00:02Z")
    with ResultsStore(path) as store:
        store.log(running("remote"))
        store.log_line(LogLine("remote", 1767225601.0, "INFO", 20, "here", "first"))
        store.log_line(
            LogLine("remote", 1767225603.0, "ERROR", 40, "here", "third", {"code": 13, "message": "m", "details": []})
        )
        store.flush()
        async with serving(path, TracingGateway(gateway.url, "key")) as ui, listening(ui) as events:
            assert (await ui.get("/api/status"))["fireworks_enabled"] is True
            found = await ui.get("/api/logs/remote")
            assert [line["message"] for line in found["logs"]] == ["first", "second", "third"]
            assert (found["total"], found["rollout_id"]) == (3, "remote")
            assert found["logs"][1] == {
                "@timestamp": "2026-01-01T00:00:02Z", "level": "WARNING", "message": "second", "logger_name": "agent.py",
                "rollout_id": "remote",
            }  # fmt: skip
            assert found["logs"][2]["status_code"] == 13
            loud = await ui.get("/api/logs/remote", level="WARNING", limit="1")
            assert [line["message"] for line in loud["logs"]] == ["third"]
            assert loud["filtered_by_level"] == "WARNING"
            await post(gateway, "fourth", "INFO", "2026-01-01T00:00:04Z")  # the gateway wakes nobody, the server asks
            assert (await events.next("logs"))["rolloutIds"] == ["remote"]
            assert (await ui.get("/api/logs/remote"))["logs"][-1]["message"] == "fourth"
            gateway.stop()
            away = await ui.get("/api/logs/remote")
            assert [line["message"] for line in away["logs"]] == ["first", "third"]
            assert "could not be read" in away["notice"]


def start(store: Path, *flags: str) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-c",
        "from eval_protocol.cli import main; main()",
        "logs",
        "--store",
        str(store),
        "--no-open",
    ]
    return subprocess.Popen([*command, *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_the_command_serves_says_where_and_ends_with_ctrl_c(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from eval_protocol.evaluation import local_ui
    from eval_protocol.evaluation.report import results_box
    from eval_protocol.settings import RunSettings

    store = tmp_path / "results.db"
    process = start(store, "--port", "0", "--use-elasticsearch")
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        url = re.findall(r"http://localhost:\d+", line)[0]
        found = presence.find(store)
        assert found is not None
        assert (found.url, found.pid) == (url, process.pid)
        settings = RunSettings(results_db=store, local_ui_port=9)
        box = "\n".join(results_box(["inv-1"], settings))
        assert f"Aggregate scores: {url}/pivot?filterConfig=%5B" in box
        elsewhere = RunSettings(results_db=tmp_path / "other.db", local_ui_port=found.port)
        assert "http://" not in "\n".join(results_box(["inv-1"], elsewhere))
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            second = start(store, "--port", str(taken.getsockname()[1]))
            assert second.communicate(timeout=60)[1].startswith(f"Error: Port {taken.getsockname()[1]} is taken")
            assert second.returncode == 1

        opened: list[str] = []
        monkeypatch.setattr(local_ui.webbrowser, "open", lambda address: opened.append(address) or True)
        monkeypatch.setenv("BROWSER", "a-browser")
        spec = quiet = _spec(False)
        assert local_ui.open_once(spec, settings, "inv-2") == []
        assert local_ui.open_once(spec, settings, "inv-2") == []
        [address] = opened
        assert address.startswith(f"{url}/table?filterConfig=%5B")
        quiet = _spec(True)
        assert local_ui.open_once(quiet, settings, "inv-3") == []
        assert local_ui.open_once(spec, settings.model_copy(update={"disable_auto_browser": True}), "inv-4") == []
        assert len(opened) == 1
    finally:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    assert errors == "--use-elasticsearch has no effect: lines come from the results store and the tracing gateway.\n"
    assert presence.find(store) is None
    assert not presence.presence_file(store).exists()
    assert local_ui.open_once(spec, settings, "inv-5") == [local_ui.TIP]


def _spec(disable_browser_open: bool) -> Any:
    from eval_protocol.evaluation.decorator import spec_of
    from eval_protocol.pytest import NoOpRolloutProcessor, evaluation_test

    def body(row: EvaluationRow) -> EvaluateResult:
        return EvaluateResult(score=1.0)

    decorate = evaluation_test(
        input_messages=[[[Message(role="user", content="x")]]],
        rollout_processor=NoOpRolloutProcessor(),
        disable_browser_open=disable_browser_open,
    )
    return spec_of(decorate(body))


def test_a_fireworks_flag_without_a_gateway_is_an_error(tmp_path: Path):
    process = start(tmp_path / "results.db", "--port", "0", "--use-fireworks")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "needs a tracing gateway" in errors
