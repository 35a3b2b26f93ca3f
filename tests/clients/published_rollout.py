"""Run by the published eval-protocol in its own environment: its RemoteRolloutProcessor and, as the agent, its log handler.

    published_rollout.py GATEWAY_URL MODEL RESULTS_FILE SCENARIO...

Each scenario is a rollout of that id. The agent has two turns and says that it is finished; in `fails-once` it says at the first try that
it failed instead; `payloads` asks for token ids and log-probabilities. Writes {scenario: {"row", "asked"}}.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from eval_protocol import FireworksTracingHttpHandler, InitRequest, RolloutIdFilter, Status
from eval_protocol.models import EvaluationRow, Message
from eval_protocol.pytest import RemoteRolloutProcessor
from eval_protocol.pytest.evaluation_test_utils import rollout_processor_with_retry
from eval_protocol.pytest.types import RolloutProcessorConfig
from openai import OpenAI

asked: Counter[str] = Counter()
"""How often the agent was asked for a rollout."""
log = logging.getLogger("agent")
log.setLevel(logging.INFO)
log.addHandler(FireworksTracingHttpHandler())


class Agent(BaseHTTPRequestHandler):
    """`POST /init`, answered at once; the work is done in a thread."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        request = InitRequest.model_validate_json(body)
        rollout_id = request.metadata.rollout_id
        asked[rollout_id] += 1
        fails = rollout_id == "fails-once" and asked[rollout_id] == 1
        threading.Thread(target=work, args=(request, fails)).start()
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


def work(request: InitRequest, fails: bool) -> None:
    """Two turns, as an agent written with the OpenAI SDK makes them."""
    client = OpenAI(base_url=request.model_base_url, api_key=request.api_key)
    messages = [message.model_dump() for message in request.messages or []]
    params = dict(request.completion_params)
    for question in ("say second", None):
        done = client.chat.completions.create(
            model=params["model"], messages=messages, temperature=None, max_tokens=None
        )
        messages.append(done.choices[0].message.model_dump())
        if question:
            messages.append({"role": "user", "content": question})
    filter_ = RolloutIdFilter(rollout_id=request.metadata.rollout_id)
    record = log.makeRecord(log.name, logging.INFO, __file__, 1, "done", (), None)
    record.status = Status.rollout_unavailable_error("tired") if fails else Status.rollout_finished()
    filter_.filter(record)
    log.handle(record)


async def main(gateway: str, model: str, results: str, scenarios: list[str]) -> None:
    """Serve the agent and roll out."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Agent)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    agent = f"http://127.0.0.1:{server.server_port}"
    found = {scenario: await rollout(agent, gateway, model, scenario) for scenario in scenarios}
    Path(results).write_text(json.dumps(found))


async def rollout(agent: str, gateway: str, model: str, scenario: str) -> dict[str, object]:
    """One rollout, with the client's own retries."""
    processor = RemoteRolloutProcessor(
        remote_base_url=agent,
        model_base_url=gateway,
        poll_interval=0.1,
        timeout_seconds=30,
        include_payloads=scenario == "payloads",
    )
    row = EvaluationRow(messages=[Message(role="user", content="say first")])
    row.input_metadata.row_id = "row"
    ids = row.execution_metadata
    ids.rollout_id, ids.invocation_id, ids.experiment_id, ids.run_id = scenario, "inv", "exp", "run"
    config = RolloutProcessorConfig(
        completion_params={"model": model}, mcp_config_path="", semaphore=asyncio.Semaphore(1)
    )
    (done,) = [done async for done in rollout_processor_with_retry(processor, [row], config)]
    await processor.acleanup()
    return {"row": done.model_dump(mode="json"), "asked": asked[scenario]}


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]))
