"""Bad input through the public command line and API: each a clear error, and nothing lost."""

from __future__ import annotations

import json
import socket
import subprocess
import urllib.error
import urllib.request

import pytest

from tests.loop import projects
from tests.loop.platform import BIN
from tests.loop.test_story import create_rft


def refuse(platform, project, *flags, **kwargs) -> str:
    """`ep create rft` that must fail; returns what it said. No stack trace reaches the user."""
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
    assert ended.returncode in (1, 2), ended.stdout
    assert "Traceback" not in ended.stdout
    return ended.stdout


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"messages": [{"role": "user", "content": "a"}]}\n{"messages": [\n', "line 2"),
        ("", "no rows"),
        ('{"prompt": "a"}\n', "messages"),
    ],
    ids=["broken line", "empty", "no messages"],
)
def test_a_dataset_that_is_not_one(platform, short_tmp, content, expected):
    said = refuse(platform, projects.write(short_tmp / "bad-rows", dataset=content))
    assert expected in said


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"messages": [{"role": "user", "content": "a"}]}\n{"mess', "invalid JSON on line 2"),
        (b"", "empty"),
        (b'{"a":1}\n', "Missing required field 'messages'"),
    ],
    ids=["broken line", "empty", "no messages"],
)
def test_the_api_refuses_the_same_uploads(platform, content, expected):
    name = f"api-{abs(hash(content)) % 10**8}"
    platform.request("POST", "/v1/accounts/local/datasets", {"datasetId": name, "dataset": {"exampleCount": "2"}})
    boundary = "xyz"
    body = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="d.jsonl"\r\n\r\n'.encode()
        + content
        + f"\r\n--{boundary}--\r\n".encode()
    )
    request = urllib.request.Request(
        f"{platform.url}/v1/accounts/local/datasets/{name}:upload",
        body,
        {"Authorization": f"Bearer {platform.key}", "Content-Type": f"multipart/form-data; boundary={boundary}"},
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    with refused.value as answer:
        assert answer.code == 400
        assert expected in answer.read().decode()
    assert platform.get(f"/v1/accounts/local/datasets/{name}")["state"] != "READY"


def test_an_evaluator_that_does_not_import_fails_its_build_with_the_reason(platform, short_tmp):
    source = "import torch  # installed here, not in requirements.txt\n" + projects.HEADER + projects.BODIES["dense"]
    project = projects.write(short_tmp / "no-import", source=source + projects.FOOTER)
    said = refuse(platform, project)
    assert "No module named 'torch'" in said
    evaluator = platform.get("/v1/accounts/local/evaluators/evaluation-scored")
    assert evaluator["state"] == "BUILD_FAILED"


def test_a_project_without_requirements_txt(platform, short_tmp):
    said = refuse(platform, projects.write(short_tmp / "no-requirements", requirements=None))
    assert "requirements.txt" in said


@pytest.mark.parametrize("body", ["raises", "nan", "too_big", "crashes"])
def test_some_rows_cannot_be_scored_and_the_job_goes_on(platform, short_tmp, body):
    project = projects.write(short_tmp / body, body, dataset=projects.rows(10))
    name, _ = create_rft(
        platform, project, "--max-output-tokens", "16", "--response-candidates-count", "4", "--chunk-size", "10"
    )
    job = platform.wait(name)
    assert job["state"] == "JOB_STATE_COMPLETED", job
    rollouts = platform.get(f"/v1/{name}/rollouts?pageSize=100")["rollouts"]
    invalid = [rollout for rollout in rollouts if not rollout["isScoreValid"]]
    assert 0 < len(invalid) < len(rollouts)
    assert all(rollout["score"] is None and rollout["reason"] for rollout in invalid), "never a zero, always a reason"


def test_a_hanging_row_costs_one_row_not_the_job(platform, short_tmp):
    project = projects.write(short_tmp / "hangs", "hangs", dataset=projects.rows(5))
    name, _ = create_rft(
        platform,
        project,
        "--max-output-tokens",
        "16",
        "--response-candidates-count",
        "4",
    )
    job = platform.wait(name)
    assert job["state"] in ("JOB_STATE_COMPLETED", "JOB_STATE_EARLY_STOPPED"), job
    invalid = [r for r in platform.get(f"/v1/{name}/rollouts?pageSize=100")["rollouts"] if not r["isScoreValid"]]
    assert invalid
    assert all("3 s" in rollout["reason"] for rollout in invalid), invalid


def test_more_than_half_without_a_score_fails_with_the_reason(platform, short_tmp):
    project = projects.write(short_tmp / "mostly", "raises_mostly", dataset=projects.rows(10))
    name, _ = create_rft(platform, project, "--max-output-tokens", "16", "--response-candidates-count", "4")
    job = platform.wait(name)
    assert job["state"] == "JOB_STATE_FAILED"
    assert "no such answer" in job["status"]["message"]


def test_an_unknown_base_model_says_where_it_was_looked_for(platform, short_tmp):
    project = projects.write(short_tmp / "unknown")
    ended = platform.run(
        "ep",
        "create",
        "rft",
        "--yes",
        "--skip-validation",
        "--base-model",
        "accounts/fireworks/models/no-such",
        cwd=project,
    )
    assert ended.returncode == 1
    assert "no-such" in ended.stdout
    assert "looked" in ended.stdout.lower() or "catalog" in ended.stdout.lower()


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--learning-rate", "5"], "earning"),
        (["--response-candidates-count", "1"], "andidates"),
        (["--temperature", "9"], "emperature"),
        (["--top-p", "0.9"], "top"),
        (["--epochs", "0"], "poch"),
        (["--loss-config-method", "DAPO", "--kl-beta", "0.1"], "GRPO only"),
    ],
)
def test_a_value_out_of_range_is_named(platform, short_tmp, flags, expected):
    before = platform.get("/v1/accounts/local/datasets?pageSize=200").get("datasets", [])
    said = refuse(platform, projects.write(short_tmp / "range", dataset=projects.rows(4)), *flags)
    assert expected in said
    after = platform.get("/v1/accounts/local/datasets?pageSize=200").get("datasets", [])
    assert len(after) == len(before), "refused before anything was uploaded"


def test_a_prompt_longer_than_the_context_names_the_row_and_both_lengths(platform, short_tmp):
    dataset = projects.rows(4)
    dataset[2]["messages"][0]["content"] = "apples " * 6000
    project = projects.write(short_tmp / "long", dataset=dataset)
    name, _ = create_rft(platform, project, "--max-output-tokens", "16")
    job = platform.wait(name)
    assert job["state"] == "JOB_STATE_FAILED"
    assert "row 3" in job["status"]["message"]
    assert "4096" in job["status"]["message"]
    with pytest.raises(urllib.error.HTTPError) as refused:
        platform.chat(projects.BASE, "apples " * 6000)
    with refused.value as answer:
        assert answer.code == 400
        assert "4096" in json.loads(answer.read())["error"]["message"]


def test_a_wrong_key_is_refused_everywhere(platform, short_tmp):
    for path in ("/verifyApiKey", "/v1/accounts/local/datasets"):
        request = urllib.request.Request(platform.url + path, headers={"Authorization": "Bearer wrong"})
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request)
        with refused.value as answer:
            assert answer.code == 401
    project = projects.write(short_tmp / "wrong-key")
    said = refuse(platform, project, env={"FIREWORKS_API_KEY": "wrong", "FIREWORKS_API_BASE": platform.url})
    assert "key" in said.lower()


def test_a_taken_port_and_a_second_up_are_told_plainly(platform, short_tmp):
    def up(*arguments: str) -> subprocess.CompletedProcess[str]:
        argv = [BIN / "tunesmith", "up", *arguments]
        return subprocess.run(argv, env=platform.env, capture_output=True, text=True, timeout=60)

    second = up("--data-dir", str(platform.data_dir), "--port", "0")
    assert second.returncode == 1
    assert str(platform.process.pid) in second.stdout + second.stderr
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused = up("--data-dir", str(short_tmp / "d"), "--port", str(port))
        assert refused.returncode == 1
        assert str(port) in refused.stdout + refused.stderr
        assert "Traceback" not in refused.stdout + refused.stderr
