"""A short RFT job through the public command line with the bundled model served by vLLM: every publish proven, every token compared."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.loop import projects
from tests.loop.platform import Platform

pytestmark = pytest.mark.vllm

STEPS = 4
LIMIT = 1e-3
"""Of the KL divergence (k3) between the engine's and the learner's distributions over the trained tokens of a step."""


@pytest.fixture(scope="module")
def platform(vllm_python: Path) -> Iterator[Platform]:
    with (
        tempfile.TemporaryDirectory(prefix="ts") as home,
        Platform(Path(home) / "h", engine="vllm", vllm_python=vllm_python, torch_threads=1) as running,
    ):
        assert re.search(r"engine +vllm \(vLLM [\d.]+", (running.home / "up.log").read_text())
        yield running


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_a_job_trains_what_vllm_sampled(platform: Platform, tmp_path: Path, temperature: float) -> None:
    project = projects.write(tmp_path / "dense", dataset=projects.rows(10 * STEPS))
    command = ["ep", "create", "rft", "--yes", "--skip-validation", "--base-model", projects.BASE]
    command += ["--max-output-tokens", "32", "--temperature", temperature]
    created = platform.run(*command, cwd=project)
    found = re.search(r"accounts/local/reinforcementFineTuningJobs/[\w-]+", created.stdout)
    assert found, created.stdout
    job = platform.wait(found[0], timeout=900)
    assert job["state"] == "JOB_STATE_COMPLETED", job
    metrics = platform.get(f"/v1/{found[0]}/metrics")
    versions = [event for event in metrics["events"] if event["kind"] == "version"]
    steps = metrics["metrics"]
    print(
        f"\ntemperature {temperature}: {len(steps)} steps, {sum(step['trained_tokens'] for step in steps)} trained tokens"
    )
    for step, version in zip(steps, versions, strict=False):
        print(
            f"  step {step['step']}: k3 KL {step['kl']:.2e}, mismatch max {step['mismatch_max']:.2e} mean {step['mismatch_mean']:.2e}; "
            f"canary of version {version['version']}: {version['canary']:.2e}"
        )
    assert len(steps) == STEPS
    assert [version["version"] for version in versions] == list(range(STEPS + 1))
    assert max(version["canary"] for version in versions) < 1e-4
    assert max(step["kl"] for step in steps) < LIMIT
    assert max(step["mismatch_max"] for step in steps) < 1e-3
    assert max(step["grad_norm"] for step in steps) > 0
