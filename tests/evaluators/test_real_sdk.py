"""The wheels that ship: our SDK and its stand-in for the published distribution, in an environment, behind a host, in the sandbox."""

from __future__ import annotations

import importlib.util
import json
import socket
import subprocess
import zipfile
from pathlib import Path

import pytest
from tunesmith.evaluators.build import build
from tunesmith.evaluators.hosts import environment, start_host

ROOT = Path(__file__).resolve().parents[2]
EVALUATION = """
from eval_protocol.models import EvaluateResult, EvaluationRow
from eval_protocol.pytest import SingleTurnRolloutProcessor, evaluation_test

@evaluation_test(
    input_dataset=["rows.jsonl"],
    completion_params=[{"model": "m"}],
    rollout_processor=SingleTurnRolloutProcessor(),
    mode="pointwise",
)
def test_it(row: EvaluationRow) -> EvaluationRow:
    row.evaluation_result = EvaluateResult(score=1.0, reason="fine")
    return row
"""
ROW = {"messages": [{"role": "user", "content": "1+1?"}], "ground_truth": "2"}


@pytest.fixture(scope="module")
def built_wheels(tmp_path_factory) -> Path:
    spec = importlib.util.spec_from_file_location("build_sdk_wheels", ROOT / "scripts" / "build_sdk_wheels.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    folder = tmp_path_factory.mktemp("real") / "wheels"
    made = script.main(folder)
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in made)
    return folder


def test_the_stand_in_holds_metadata_only_and_maps_the_published_extras(built_wheels):
    wheel = next(built_wheels.glob("eval_protocol-0.3.33+tunesmith-*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        assert all(".dist-info/" in name for name in archive.namelist())
        metadata = archive.read("eval_protocol-0.3.33+tunesmith.dist-info/METADATA").decode()
    assert "Requires-Dist: tunesmith-eval\n" in metadata
    for extra in ("svgbench", "langgraph-tools", "dev"):
        assert f"Provides-Extra: {extra}\n" in metadata


async def test_an_evaluator_of_the_real_sdk_is_built_hosted_and_asked(request_for, settings, tmp_path, built_wheels):
    files = {
        "requirements.txt": "eval-protocol[svgbench]==0.3.20\n",
        "evaluation.py": EVALUATION,
        "rows.jsonl": json.dumps(ROW),
    }
    request = request_for(files, wheels=built_wheels)
    manifest = await build(request, settings)
    assert (manifest.described["name"], manifest.described["mode"]) == ("test_it", "pointwise")
    python = request.target / "venv" / "bin" / "python"
    versions = "from importlib.metadata import version; print(version('eval-protocol'), version('tunesmith-eval'))"
    found = subprocess.run([python, "-I", "-c", versions], capture_output=True, text=True, check=True)
    assert found.stdout.split()[0] == "0.3.33+tunesmith"
    url = "http://127.0.0.1:1"
    env = environment(request.target, platform_url=url, gateway_url=f"{url}/litellm-gateway", api_key="k", secrets={})
    host = await start_host(
        build_dir=request.target,
        entry_point=request.entry_point,
        socket=tmp_path / "s" / "h.sock",
        env=env,
        settings=settings,
        log_path=settings.path("logs", "host.log"),
    )
    try:
        with socket.socket(socket.AF_UNIX) as client, client.makefile("rwb") as stream:
            client.connect(str(host.socket))
            stream.write(json.dumps({"type": "adapt", "rows": [ROW]}).encode() + b"\n")
            stream.flush()
            answer = json.loads(stream.readline())
        assert answer["type"] == "adapted"
        assert answer["rows"][0]["messages"][0]["content"] == "1+1?"
        assert host.process.peak_rss() > 20 << 20  # of the Python inside, not of bubblewrap
    finally:
        await host.stop()
