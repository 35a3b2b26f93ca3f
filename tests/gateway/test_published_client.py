"""The published client's remote rollouts, log handler and trace reader, unmodified, against our gateway with a fake engine."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

import pytest

from tests.gateway.conftest import Gateway
from tests.loop.platform import REPO

pytestmark = pytest.mark.clients
PYTHON = REPO / ".venv-clients" / "bin" / "python"


async def rollouts(gateway: Gateway, *scenarios: str) -> dict[str, Any]:
    """Run them in the client's environment (which takes long to import): per scenario its row, and how often its agent was asked."""
    model = await gateway.publish()
    home = gateway.state.settings.data_dir
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "FIREWORKS_API_KEY": gateway.keys["rollout"],
        "FW_TRACING_GATEWAY_BASE_URL": f"{gateway.url}/litellm-gateway",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    script, results = REPO / "tests" / "clients" / "published_rollout.py", home / "results.json"
    process = await asyncio.create_subprocess_exec(
        PYTHON, script, f"{gateway.url}/litellm-gateway", model, results, *scenarios,
        env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return json.loads(results.read_text())


async def test_its_rollouts_come_back_from_our_gateway(gateway: Gateway) -> None:
    done = await rollouts(gateway, "plain", "payloads", "fails-once")
    for rollout, found in done.items():
        row = found["row"]
        assert row["rollout_status"]["code"] == 100, rollout
        said = [(message["role"], message["content"]) for message in row["messages"]]
        assert said == [("user", "say first"), ("assistant", "first"), ("user", "say second"), ("assistant", "second")]
        ids = row["execution_metadata"]
        assert (ids["rollout_id"], ids["invocation_id"], ids["run_id"]) == (rollout, "inv", "run")
        assert row["input_metadata"]["row_id"] == "row"
    assert (done["plain"]["asked"], done["payloads"]["asked"]) == (1, 1)
    assert done["fails-once"]["asked"] >= 2, "it tries again under the same id, and its own past does not fail it"

    turns = done["payloads"]["row"]["execution_metadata"]["extra"]["assistant_turn_payloads"]
    recorded = (await gateway.call("GET", "/internal/rollouts/payloads/completions", "run")).body["completions"]
    assert len(recorded) == len(turns) == 2
    for turn, completion in zip(turns, recorded, strict=True):
        assert turn["prompt_token_ids"] == completion["prompt_ids"]
        assert turn["completion_token_ids"] == completion["sampled_ids"]
        assert turn["completion_logprobs"] == completion["logprobs"]
