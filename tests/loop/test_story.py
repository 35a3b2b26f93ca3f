"""The user's story through the public command line, with every process its own."""

from __future__ import annotations

import json
import re
import sqlite3
import urllib.request
from pathlib import Path

import psutil
import pytest

from tests.loop import projects
from tests.loop.platform import FINAL, REPO, Platform

JOB = re.compile(r"accounts/local/reinforcementFineTuningJobs/[\w-]+")


def create_rft(platform: Platform, project: Path, *flags: object, **kwargs) -> tuple[str, str]:
    """`ep create rft --yes`; returns (job name, what it printed)."""
    ended = platform.run(
        "ep",
        "create",
        "rft",
        "--yes",
        "--skip-validation",
        "--base-model",
        projects.BASE,
        *flags,
        cwd=project,
        **kwargs,
    )
    found = JOB.search(ended.stdout)
    assert ended.returncode == 0, ended.stdout
    assert found, ended.stdout
    return found.group(), ended.stdout


def names_of(pids: set[int]) -> dict[str, int]:
    """Which of our processes these pids are, by command line."""
    modules = {
        "web": "tunesmith.server",
        "worker": "tunesmith.jobs",
        "engine": "tunesmith.engines",
        "orchestrator": "tunesmith.orchestrator",
        "learner": "tunesmith.training",
        "evaluator host": "eval_protocol.host",
    }
    found = {}
    for pid in sorted(pids):  # a process is older than those that it forks with the same command line
        try:
            line = psutil.Process(pid).cmdline()
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
        for name, module in modules.items():
            if module in line:
                found.setdefault(name, pid)
    return found


def test_a_job_from_the_command_line_to_a_served_model(platform, short_tmp):
    project = projects.write(short_tmp / "dense", dataset=projects.rows(40))
    name, said = create_rft(
        platform, project, "--output-model", "dense-model", "--max-output-tokens", "32", "--epochs", "2"
    )
    for line in ("Scanning for evaluation tests...", "✅ Created Reinforcement Fine-tuning Job", "📊 Dashboard Links:"):
        assert line in said

    seen: dict[str, int] = {}
    while platform.job(name)["state"] not in FINAL:
        assert platform.process is not None
        children = psutil.Process(platform.process.pid).children(recursive=True)
        seen = {**names_of({child.pid for child in children}), **seen}
    print("processes:", {"up": platform.process.pid, **seen})
    assert set(seen) == {"web", "worker", "engine", "orchestrator", "learner", "evaluator host"}
    assert len(set(seen.values())) == len(seen), "each is a process of its own"

    job = platform.wait(name)
    assert job["state"] == "JOB_STATE_COMPLETED", job
    assert job["run"]["optimizer_steps"] == 8
    print("memory (MiB):", {p["name"]: p["peak_rss_mib"] for p in job["processes"]})
    metrics = platform.get(f"/v1/{name}/metrics")
    chunks = [event for event in metrics["events"] if event["kind"] == "chunk"]
    assert len(chunks) == 8
    assert len(metrics["metrics"]) == 8
    assert max(step["mismatch_max"] for step in metrics["metrics"]) < 1e-4, "engine and learner agree"

    answer = platform.chat(
        "accounts/local/models/dense-model", "Tom has 3 apples. How many?", max_tokens=8, temperature=0
    )
    assert answer["choices"][0]["message"]["content"] is not None
    for path in set(re.findall(rf"{platform.url}(/dashboard/\S+)", said)):
        with urllib.request.urlopen(platform.url + path) as page:
            assert page.status == 200


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # peft asks transformers
def test_the_adapter_downloads_and_plain_peft_loads_it(platform, short_tmp):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    project = projects.write(short_tmp / "peft", dataset=projects.rows(20))
    name, _ = create_rft(platform, project, "--output-model", "peft-model", "--max-output-tokens", "24")
    job = platform.wait(name)
    assert job["state"] == "JOB_STATE_COMPLETED", job
    urls = platform.get("/v1/accounts/local/models/peft-model:getDownloadEndpoint")["filenameToSignedUrls"]
    folder = short_tmp / "adapter"
    folder.mkdir()
    for file, url in urls.items():
        (folder / file).write_bytes(urllib.request.urlopen(url).read())
    bundled = REPO / "platform/src/tunesmith/catalog/models/tiny-math-v1"
    base = AutoModelForCausalLM.from_pretrained(bundled)
    served = platform.chat(
        "accounts/local/models/peft-model",
        "Tom has 3 apples.",
        max_tokens=12,
        temperature=0,
        logprobs=True,
        return_token_ids=True,
    )
    prompt, choice = served["prompt_token_ids"], served["choices"][0]
    ids = choice["token_ids"]
    with torch.no_grad():
        plain = base(torch.tensor([prompt + ids])).logits[0].log_softmax(-1)
        tuned = PeftModel.from_pretrained(base, folder)(torch.tensor([prompt + ids])).logits[0].log_softmax(-1)
    assert (plain - tuned).abs().max() > 1e-3, "the adapter does something"
    expected = [tuned[len(prompt) - 1 + i, token].item() for i, token in enumerate(ids)]
    recorded = [item["logprob"] for item in choice["logprobs"]["content"]]
    assert recorded == pytest.approx(expected[: len(recorded)], abs=3e-5)


def test_python_evaluation_py_scores_the_served_model_and_its_calls_survive_kill_9(short_tmp):
    with Platform(short_tmp / "h") as platform:
        project = projects.write(short_tmp / "local")
        ended = platform.run("python", "-m", "pytest", "evaluation.py", "-q", cwd=project)
        assert ended.returncode == 0, ended.stdout
        assert "LOCAL UI EVALUATION RESULTS" in ended.stdout
        web = names_of({c.pid for c in psutil.Process(platform.process.pid).children(recursive=True)})["web"]
        psutil.Process(web).kill()
        with sqlite3.connect(platform.data_dir / "completions.db") as database:
            (count,) = database.execute("select count(*) from completions where status = 'complete'").fetchone()
        assert count == 20
        results = platform.run("ep", "results", "--json", cwd=project)
        assert json.loads(results.stdout), results.stdout


def test_list_get_cancel_and_delete(platform, short_tmp):
    project = projects.write(short_tmp / "cancel", dataset=projects.rows(40))
    name, _ = create_rft(platform, project, "--epochs", "10", "--max-output-tokens", "48")
    while platform.job(name)["state"] != "JOB_STATE_RUNNING":
        assert platform.job(name)["state"] not in FINAL
    platform.request("POST", f"/v1/{name}:cancel", {})
    job = platform.wait(name, timeout=60)
    assert job["state"] == "JOB_STATE_CANCELLED"
    listed = platform.get("/v1/accounts/local/reinforcementFineTuningJobs")["reinforcementFineTuningJobs"]
    assert name in {item["name"] for item in listed}
    platform.request("DELETE", f"/v1/{name}")
    listed = platform.get("/v1/accounts/local/reinforcementFineTuningJobs").get("reinforcementFineTuningJobs", [])
    assert name not in {item["name"] for item in listed}


def test_a_constant_score_is_early_stopped_without_a_model(platform, short_tmp):
    project = projects.write(short_tmp / "constant", "constant")
    name, _ = create_rft(platform, project, "--max-output-tokens", "16", "--epochs", "2")
    job = platform.wait(name)
    assert job["state"] == "JOB_STATE_EARLY_STOPPED", job
    assert job["run"]["optimizer_steps"] == 0
    assert "no model" in job["status"]["message"]
