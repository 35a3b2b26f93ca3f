"""The published eval-protocol 0.3.33, unmodified, in its own environment: from `create rft` to a served model."""

from __future__ import annotations

import re
import shutil

import pytest

from tests.clients.servers import PUBLISHED as BIN
from tests.loop import projects
from tests.loop.platform import REPO

pytestmark = pytest.mark.clients
JOB = re.compile(r"accounts/local/reinforcementFineTuningJobs/[\w-]+")


def test_the_client_is_the_published_one(platform, environment):
    version = platform.run(
        BIN / "python",
        "-c",
        "import importlib.metadata as m; print(m.version('eval-protocol'))",
        cwd=REPO,
        env=environment,
    )
    assert version.stdout.strip() == "0.3.33"
    assert environment["LITELLM_LOCAL_MODEL_COST_MAP"] == "True"


def test_create_rft_to_a_trained_and_served_model(platform, environment, tmp_path):
    project = tmp_path / "quickstart-gsm8k"
    project.mkdir()
    for name in ("evaluation.py", "requirements.txt"):
        shutil.copy(REPO / "examples" / "gsm8k" / name, project)
    lines = (REPO / "examples/gsm8k/gsm8k_sample.jsonl").read_text().splitlines()[:40]
    (project / "gsm8k_sample.jsonl").write_text("\n".join(lines) + "\n")

    ended = platform.run(
        BIN / "eval-protocol", "create", "rft", "--base-model", projects.BASE, "--skip-validation", "--yes",
        "--output-model", "from-the-published-client", cwd=project, env=environment, timeout=500,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout
    found = JOB.search(ended.stdout)
    assert found, ended.stdout
    assert "Created Reinforcement Fine-tuning Job" in ended.stdout
    assert f"{platform.url}/dashboard/fine-tuning/reinforcement/" in ended.stdout

    job = platform.wait(found.group())
    assert job["state"] == "JOB_STATE_COMPLETED", job
    assert job["run"]["optimizer_steps"] > 0
    answer = platform.chat(
        "accounts/local/models/from-the-published-client", "Tom has 3 apples and buys 4 more. How many?", max_tokens=40
    )
    assert answer["choices"][0]["message"]["content"]


def test_the_published_sdk_evaluates_the_served_model(platform, environment, tmp_path):
    project = projects.write(tmp_path / "local", dataset=projects.rows(4))
    ended = platform.run(
        BIN / "python", "-m", "pytest", "evaluation.py", "-q", "--ep-no-upload", cwd=project, env=environment
    )
    assert ended.returncode == 0, ended.stdout


def test_the_published_fireworks_client_reads_the_job(platform, environment):
    script = f"""
from fireworks import Fireworks

client = Fireworks()
print([(job.name, job.state) for job in client.reinforcement_fine_tuning_jobs.list()])
messages = [{{"role": "user", "content": "hi"}}]
print(client.chat.completions.create(model="{projects.BASE}", messages=messages, max_tokens=4).choices[0].finish_reason)
"""
    ended = platform.run(BIN / "python", "-c", script, cwd=REPO, env=environment)
    assert ended.returncode == 0, ended.stdout
    assert "JOB_STATE_COMPLETED" in ended.stdout
