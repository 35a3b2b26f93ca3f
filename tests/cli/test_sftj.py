"""Fine-tuning from the terminal, against a real platform: rows up, a job followed to its end, a model that answers and downloads."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Up, tunesmith

BASE = "accounts/tunesmith/models/tiny-math-v1"
PAIR = {
    "input": {"messages": [{"role": "user", "content": "What is 2 + 2?"}]},
    "preferred_output": [{"role": "assistant", "content": "It is 4."}],
    "non_preferred_output": [{"role": "assistant", "content": "It is 5."}],
}


def chat(n: int) -> dict[str, Any]:
    return {
        "messages": [
            {"role": "user", "content": f"What is {n} + 1?"},
            {"role": "assistant", "content": "7"},
        ]
    }


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def run(up: Up, *arguments: str, status: int = 0) -> str:
    done = tunesmith(up.home, *arguments)
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout if status == 0 else done.stdout + done.stderr


def says(up: Up, model: str) -> str:
    body = {"model": model, "messages": [{"role": "user", "content": "What is 3 + 1?"}], "temperature": 0}
    request = urllib.request.Request(
        f"{up.url}/v1/chat/completions",
        data=json.dumps({**body, "max_tokens": 40}).encode(),
        headers={"Authorization": f"Bearer {up.profile['api_key']}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)["choices"][0]["message"]["content"]


def test_from_rows_to_a_model_that_answers(up: Up, tmp_path: Path) -> None:
    rows = write(tmp_path / "rows.jsonl", [chat(n) for n in range(24)])
    assert "has 24 rows" in run(up, "dataset", "create", "chats", rows)
    assert "⟦7" in run(up, "dataset", "render-preview", "chats", "--base-model", BASE, "--page-size", "1")
    flags = ("--base-model", BASE, "--dataset", "chats", "--eval-auto-carveout", "--epochs", "4", "--job-id", "seven")
    flags += ("--batch-size-samples", "4", "--learning-rate-scheduler", "cosine", "--learning-rate-min-lr-ratio", "0.1")
    assert "valid" in run(up, "sftj", "create", *flags, "--dry-run")
    followed = tunesmith(up.home, "sftj", "create", *flags, "--wait")
    assert followed.returncode == 0, followed.stdout + followed.stderr
    assert "Created SFT job accounts/local/supervisedFineTuningJobs/seven" in followed.stdout
    assert "COMPLETED: accounts/local/models/seven is the model after step" in followed.stdout
    assert "100 %" in followed.stderr
    assert "eval loss" in followed.stderr

    assert says(up, "accounts/local/models/seven") == "7"
    assert says(up, BASE) != "7"

    job = json.loads(run(up, "sftj", "get", "seven", "--json"))
    assert job["lrScheduler"] == {"cosine": {"minLrRatio": 0.1, "decayRatio": 0}}
    assert "0" in job["evaluationRowsSignedUrls"]
    assert "eval loss" in run(up, "sftj", "get", "seven")
    metrics = [json.loads(line) for line in run(up, "sftj", "metrics", "seven").splitlines()]
    assert {"loss", "eval_loss"} <= {name for line in metrics for name in line}
    sample = json.loads(run(up, "sftj", "render-samples", "seven").splitlines()[0])
    assert len(sample["token_ids"]) == len(sample["decoded_tokens"]) == len(sample["token_weights"])
    saved = tmp_path / "metrics.jsonl"
    run(up, "sftj", "metrics", "seven", "--output", str(saved))
    assert len(saved.read_text().splitlines()) == len(metrics)
    assert "seven" in run(up, "sftj", "list")

    assert "adapter" in run(up, "model", "list")
    folder = tmp_path / "model"
    run(up, "model", "download", "seven", "--output-dir", str(folder))
    kept = {file.name for file in folder.iterdir()} - {".tunesmith-export"}
    assert kept == {"adapter_config.json", "adapter_model.safetensors"}
    assert "has ended already (COMPLETED)" in run(up, "sftj", "cancel", "seven")
    assert "has completed" in run(up, "sftj", "resume", "seven", status=1)
    assert "Deleted seven." in run(up, "sftj", "delete", "seven")
    assert "LoRA rank" in run(up, "model", "get", "seven")
    assert "Deleted seven." in run(up, "model", "delete", "seven")


def test_what_is_wrong_is_told_plainly(up: Up, tmp_path: Path) -> None:
    broken = write(tmp_path / "broken.jsonl", [chat(1), {"prompt": "x"}])
    told = run(up, "dataset", "create", "fixed", broken, status=1)
    assert "Missing required field 'messages' on line 2" in told
    run(up, "dataset", "create", "fixed", write(tmp_path / "broken.jsonl", [chat(n) for n in range(3)]))
    assert "empty.jsonl is empty." in run(up, "dataset", "create", "e", write(tmp_path / "empty.jsonl", []), status=1)
    base = ("sftj", "create", "--base-model", BASE)
    assert "Give --dataset" in run(up, *base, status=2)
    assert "Learning rate 1 outside valid range [0, 0.01]" in run(
        up, *base, "--dataset", "fixed", "--learning-rate", "1", status=1
    )
    assert "no dataset accounts/local/datasets/none" in run(up, *base, "--dataset", "none", status=1)
    decay = run(up, *base, "--dataset", "fixed", "--learning-rate-decay-ratio", "0.5", status=2)
    assert "go with --learning-rate-scheduler linear or cosine" in decay
    assert "are conversations" in run(up, "dpoj", "create", "--base-model", BASE, "--dataset", "fixed", status=1)
    assert "There is no SFT job" in run(up, "sftj", "get", "none", status=1)


def test_datasets_come_back_as_they_were(up: Up, tmp_path: Path) -> None:
    rows = write(tmp_path / "pairs.jsonl", [PAIR] * 3)
    made = json.loads(run(up, "dataset", "create", "pairs", rows, "--display-name", "Pairs", "--json"))
    assert (made["rowKind"], made["exampleCount"], made["displayName"]) == ("PREFERENCES", "3", "Pairs")
    assert "preferences" in run(up, "dataset", "get", "pairs")
    assert "pairs" in run(up, "dataset", "list")
    run(up, "dataset", "download", "pairs", "--output-dir", str(tmp_path / "back"))
    assert (tmp_path / "back" / "pairs.jsonl").read_bytes() == Path(rows).read_bytes()
    assert "Deleted pairs." in run(up, "dataset", "delete", "pairs")
    assert "There is no dataset" in run(up, "dataset", "get", "pairs", status=1)


@pytest.mark.parametrize("alias", ["dpoj", "dpo-job"])
def test_preference_jobs_have_their_loss(up: Up, alias: str) -> None:
    flags = ("--base-model", BASE, "--dry-run", "--json")
    orpo = json.loads(run(up, alias, "create", "--loss-method", "orpo", "--orpo-lambda", "0.2", *flags))
    assert orpo["lossConfig"] == {"method": "ORPO", "orpoLambda": 0.2}
    assert orpo["trainingConfig"] == {"baseModel": BASE}
    assert "beta 0.7 outside valid range (0, 0.5)" in run(up, alias, "create", "--beta", "0.7", *flags, status=1)
