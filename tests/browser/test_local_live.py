"""A real evaluation, run by pytest beside an open `ep logs`: its rollouts come, run and end before one's eyes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.browser import expected, observe, picture, settle
from tests.browser.local import ep_logs

pytestmark = pytest.mark.browser

EVALUATION = """
import logging

from eval_protocol.models import EvaluateResult, EvaluationRow, Message
from eval_protocol.pytest import SingleTurnRolloutProcessor, evaluation_test

CITIES = ("Oslo", "Quito", "Lagos", "Kyoto")


@evaluation_test(
    input_rows=[[EvaluationRow(messages=[Message(role="user", content=f"Where is {city}?")]) for city in CITIES]],
    completion_params=[{"model": "little-model", "api_base": "URL", "api_key": "sk-secret", "temperature": 0}],
    rollout_processor=SingleTurnRolloutProcessor(),
)
async def geography(row: EvaluationRow) -> EvaluationRow:
    answer = row.messages[-1].text
    logging.getLogger("geography").warning("scoring %s", answer)
    row.evaluation_result = EvaluateResult(score=1.0 if "Oslo" in answer else 0.25, reason=f"It said: {answer}")
    return row
"""


@contextmanager
def model(may_answer: threading.Event) -> Iterator[str]:
    """An OpenAI-compatible server that repeats the question once it may."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert may_answer.wait(60)
            text = f"You asked: {asked['messages'][-1]['content']}"
            choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            usage = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
            body = json.dumps({"choices": [choice], "usage": usage}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing on the terminal."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        may_answer.set()
        server.shutdown()
        thread.join(10)
        server.server_close()


def test_an_evaluation_shows_while_it_runs(browser: Browser, tmp_path: Path) -> None:
    may_answer = threading.Event()
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "pytest.ini").write_text("[pytest]\n")
    with ep_logs(tmp_path / "home") as ui, model(may_answer) as url:
        (folder / "evaluation.py").write_text(EVALUATION.replace("URL", url))
        page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
        seen = observe(page, ui.url)
        page.goto(ui.url)
        settle(page)
        expect(page.get_by_text("No rollouts yet")).to_be_visible()
        picture(page, "local-table-empty-wide-light")
        expect(page.get_by_text("Connected")).to_be_visible()

        command = [sys.executable, "-m", "pytest", "-s", "-p", "no:cacheprovider", "-p", "no:asyncio", "evaluation.py"]
        run = subprocess.Popen(
            command, cwd=folder, env=ui.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        table = page.get_by_role("table", name="Rollouts")
        expect(page.get_by_text("Showing 1-4 of 4 rows")).to_be_visible()
        expect(table.get_by_text("running").first).to_be_visible()
        assert table.get_by_text("finished").count() == 0
        # Someone reads a row while it ends: what it says comes by itself.
        table.locator("tbody tr").filter(has_text="Where is Oslo?").get_by_role("button", name="Open row").click()
        talk = page.get_by_role("log", name="Conversation")
        expect(talk).to_contain_text("Where is Oslo?")
        may_answer.set()
        expect(talk).to_contain_text("You asked: Where is Oslo?")
        expect(page.get_by_label(re.compile("^Scores and status of"))).to_contain_text("1.000")
        page.get_by_role("tab", name="Logs").click()
        expect(page.get_by_role("log", name=re.compile("^Lines of Log of rollout"))).to_contain_text(
            "scoring You asked"
        )
        said, _ = run.communicate(timeout=60)
        assert run.returncode == 0, said
        expect(table.get_by_text("running")).to_have_count(0)
        assert "sk-secret" not in page.content() + said + ui.read("/api/export", format="jsonl")

        # The links that the run printed lead to its own rollouts.
        links = {name: link for link, name in re.findall(r"(http://localhost:\d+/(table|pivot)\?\S+)", said)}
        for name in ("table", "pivot"):
            link = links[name]
            assert link.startswith(ui.url)
            page.goto(link)
            settle(page)
            invocation = ui.get("/api/invocations")["invocations"][0]["invocationId"]
            expect(page.get_by_label("Value", exact=True).first).to_have_value(invocation)
            assert urlsplit(page.url).path == f"/{name}"
        # The pivot's defaults: evaluations by models, the experiment's aggregate.
        mean = page.get_by_role("button", name=re.compile("^geography, little-model: "))
        expect(mean).to_have_text(re.compile(r"0\.437|0\.438"))
        assert not expected(seen)
        page.context.close()
