"""`ep create rft` against a platform that records what it is asked: order, bodies, printed lines, and every way to fail."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.sdk_cli.fake_platform import ACCOUNT, KEY, FakePlatform, Recorded

A = f"/v1/accounts/{ACCOUNT}"
EVALUATOR = "evaluation-digits-match"
JOB_ID = "firstjob"
FAST = ("create", "rft", "--base-model", "m", "--yes", "--skip-validation", "--job-id", JOB_ID)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Poll without pauses; nothing below measures time."""
    monkeypatch.setattr("eval_protocol.cli.evaluators.FIRST_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr("eval_protocol.client.transport.FIRST_WAIT_SECONDS", 0.0)
    monkeypatch.setattr("eval_protocol.client.watch.POLL_SECONDS", 0.0)
    monkeypatch.setattr("eval_protocol.client.watch.SHORTEST_PAUSE_SECONDS", 0.0)


def tree(root: Path) -> dict[str, bytes]:
    """Every file below a folder with its content."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def only_dataset(platform: FakePlatform) -> str:
    (name,) = platform.datasets
    return name


@pytest.mark.usefixtures("profile")
def test_the_five_steps_in_order(ep, platform: FakePlatform, project: Path) -> None:
    (project / ".env").write_text(
        "# judge\nexport OPENAI_API_KEY='sk-0123456789abcdef'\nEMPTY=\nFIREWORKS_API_KEY=other\n"
    )
    result = ep(*FAST, "--epochs", "2")
    assert result.status == 0, result.err
    dataset = only_dataset(platform)
    assert re.fullmatch(rf"{EVALUATOR}-dataset-\d{{14}}", dataset)
    assert platform.writes == [
        f"POST {A}/secrets",
        f"POST {A}/evaluatorsV2",
        f"POST {A}/evaluators/{EVALUATOR}:getUploadEndpoint",
        "PUT /signed/my-project.tar.gz",
        f"POST {A}/evaluators/{EVALUATOR}:validateUpload",
        f"POST {A}/datasets",
        f"POST {A}/datasets/{dataset}:upload",
        f"POST {A}/reinforcementFineTuningJobs",
    ]
    assert platform.lines[0] == "GET /verifyApiKey"
    assert platform.of(f"POST {A}/reinforcementFineTuningJobs")[0].json == {
        "dataset": f"accounts/{ACCOUNT}/datasets/{dataset}",
        "evaluator": f"accounts/{ACCOUNT}/evaluators/{EVALUATOR}/versions/1",
        "trainingConfig": {"baseModel": "m", "epochs": 2},
    }
    assert platform.of(f"POST {A}/reinforcementFineTuningJobs")[0].query == {"reinforcementFineTuningJobId": [JOB_ID]}


@pytest.mark.usefixtures("profile")
def test_the_story_is_told_as_the_quickstart_tells_it(ep, platform: FakePlatform, project: Path) -> None:
    result = ep(*FAST)
    dataset = only_dataset(platform)
    line = (project / "evaluation.py").read_text().split("\n").index("@evaluation_test(") + 1
    expected = [
        "Scanning for evaluation tests...",
        f"Found 1 test: digits_match - evaluation.py:{line}",
        "✓ Using JSONL from input_dataset: rows.jsonl",
        f"Uploading evaluator '{EVALUATOR}' for digits_match...",
        f"✅ Successfully uploaded evaluator: {EVALUATOR}",
        f"   {platform.base}/dashboard/evaluators/{EVALUATOR}",
        f"✓ Uploaded/ensured evaluator: {EVALUATOR}",
        f"Waiting for evaluator '{EVALUATOR}' to become ACTIVE...",
        "⏳ Evaluator is still building... (0.0m elapsed)",
        "✅ Evaluator is ACTIVE and ready!",
        f"✓ Created and uploaded dataset: {dataset}",
        f"Prepared RFT job for evaluator '{EVALUATOR}' using dataset '{dataset}'",
        "✅ Created Reinforcement Fine-tuning Job",
        f"   name: accounts/{ACCOUNT}/reinforcementFineTuningJobs/{JOB_ID}",
        "📊 Dashboard Links:",
        f"   Evaluator: {platform.base}/dashboard/evaluators/{EVALUATOR}",
        f"   Dataset:   {platform.base}/dashboard/datasets/{dataset}",
        f"   RFT Job:   {platform.base}/dashboard/fine-tuning/reinforcement/{JOB_ID}",
    ]
    printed = result.out.split("\n")
    assert [line for line in expected if line not in printed] == []
    places = [printed.index(line) for line in expected if printed.count(line) == 1]
    assert places == sorted(places)


@pytest.mark.usefixtures("profile")
def test_what_is_uploaded(ep, platform: FakePlatform, project: Path) -> None:
    (project / ".env").write_text("SECRET=do-not-pack-me\n")
    ep(*FAST)
    created = platform.of(f"POST {A}/evaluatorsV2")[0].json
    assert created["evaluatorId"] == EVALUATOR
    assert re.fullmatch(r"src-[0-9a-f]{32}", created["evaluator"].pop("commitHash"))
    assert created["evaluator"] == {
        "displayName": EVALUATOR,
        "description": "Evaluator for evaluation.digits_match",
        "entryPoint": "evaluation.py::digits_match",
    }
    with tarfile.open(fileobj=io.BytesIO(platform.archives["my-project.tar.gz"])) as archive:
        assert archive.getnames() == [
            f"my-project/{name}" for name in ("evaluation.py", "requirements.txt", "rows.jsonl")
        ]
    dataset = platform.datasets[only_dataset(platform)]
    assert (dataset["exampleCount"], dataset["evalProtocol"], dataset["format"]) == ("3", {}, "FORMAT_UNSPECIFIED")
    rows = [json.loads(line) for line in dataset["rows"].splitlines()]
    assert rows[0]["messages"] == [{"role": "user", "content": "What is 1 + 1?"}]
    assert [row["ground_truth"] for row in rows] == ["2", "4", "6"]
    assert set(rows[0]) == {"messages", "ground_truth", "input_metadata"}


@pytest.mark.usefixtures("profile")
def test_secrets_are_masked_and_the_platform_key_never_leaves(ep, platform: FakePlatform, project: Path) -> None:
    (project / "my.env").write_text(
        f'OPENAI_API_KEY="sk-0123456789abcdef"  # judge\nSHORT=abc\nCOPY={KEY}\nFIREWORKS_API_KEY=x\n'
    )
    result = ep(*FAST, "--env-file", "my.env")
    assert {name: secret["value"] for name, secret in platform.secrets.items()} == {
        "openai-api-key": "sk-0123456789abcdef",
        "short": "abc",
    }
    assert "   OPENAI_API_KEY (my.env: sk-0***cdef)" in result.out
    assert "   SHORT (my.env: ***)" in result.out
    assert "   COPY stays here: the platform gives each job its own." in result.out
    assert "   FIREWORKS_API_KEY stays here: the platform gives each job its own." in result.out
    assert "✓ OPENAI_API_KEY secret created on the platform." in result.out
    assert "sk-0123456789abcdef" not in result.out + result.err
    assert KEY not in result.out + result.err


@pytest.mark.usefixtures("profile")
def test_a_broken_secrets_file_names_its_line_and_not_its_content(ep, platform: FakePlatform, project: Path) -> None:
    (project / ".env").write_text("GOOD=1\nthis is my password\n")
    result = ep(*FAST)
    assert result.status == 1
    assert re.search(r"Line 2 of .*\.env is not KEY=VALUE", result.err)
    assert "password" not in result.err
    assert platform.writes == []


@pytest.mark.usefixtures("profile")
def test_an_unchanged_evaluator_is_not_sent_again_and_a_changed_one_is(
    ep, platform: FakePlatform, project: Path
) -> None:
    ep(*FAST)
    platform.requests.clear()
    second = ep(*FAST[:-1], "second")
    assert "✓ Evaluator exists (state: ACTIVE). Skipping upload (use --force to overwrite)." in second.out
    assert not platform.of(f"POST {A}/evaluatorsV2")
    assert list(platform.jobs) == [JOB_ID, "second"]

    (project / "evaluation.py").write_text((project / "evaluation.py").read_text() + "\n# changed\n")
    platform.requests.clear()
    third = ep(*FAST[:-1], "third")
    assert "because its source changed" in third.out
    evaluator = f"{A}/evaluators/{EVALUATOR}"
    assert [line for line in platform.writes if evaluator in line][:1] == [f"PATCH {evaluator}"]
    assert not any(line.startswith("DELETE") for line in platform.writes), "earlier versions stay"

    platform.requests.clear()
    fourth = ep(*FAST[:-1], "fourth", "--force")
    assert "because --force" in fourth.out
    assert platform.uploads[EVALUATOR] == 3
    assert platform.evaluators[EVALUATOR]["commitHash"].startswith("src-")


@pytest.mark.usefixtures("profile")
def test_a_job_names_the_version_that_was_uploaded_or_found(ep, platform: FakePlatform, project: Path) -> None:
    def named() -> str:
        return platform.of(f"POST {A}/reinforcementFineTuningJobs")[-1].json["evaluator"]

    name = f"accounts/{ACCOUNT}/evaluators/{EVALUATOR}"
    assert ep(*FAST, "--force").status == 0
    assert ep(*FAST[:-1], "second").status == 0
    assert named() == f"{name}/versions/1"
    assert ep(*FAST[:-1], "third", "--force").status == 0
    assert named() == f"{name}/versions/2"
    (project / "evaluation.py").unlink()
    assert ep(*FAST[:-1], "fourth", "--evaluator", EVALUATOR, "--dataset", "there").status == 0
    assert named() == f"{name}/versions/2"
    assert [platform.jobs[job]["evaluatorVersion"] for job in (JOB_ID, "second", "third", "fourth")] == [1, 1, 2, 2]


@pytest.mark.usefixtures("profile", "project")
def test_anothers_upload_in_between_does_not_slip_into_the_job(
    ep, platform: FakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = platform.answer

    def overtaken(request: Recorded) -> Any:
        if request.line == f"POST {A}/datasets":
            platform.evaluators[EVALUATOR]["version"] = 2
        return answer(request)

    monkeypatch.setattr(platform, "answer", overtaken)
    result = ep(*FAST)
    assert result.status == 1
    assert "was uploaded anew since (version 2 now)" in result.err
    assert platform.jobs == {}


@pytest.mark.usefixtures("profile", "project")
def test_a_platform_without_versions_gets_the_plain_name(ep, platform: FakePlatform) -> None:
    platform.has_versions = False
    assert ep(*FAST).status == 0
    [created] = platform.of(f"POST {A}/reinforcementFineTuningJobs")
    assert created.json["evaluator"] == f"accounts/{ACCOUNT}/evaluators/{EVALUATOR}"


@pytest.mark.usefixtures("profile", "project")
def test_a_failed_build_is_explained_and_sent_anew_the_next_time(ep, platform: FakePlatform) -> None:
    platform.builds = ["BUILDING", "BUILD_FAILED"]
    platform.build_status = {"code": "FAILED_PRECONDITION", "message": "No module named 'numpyy'"}
    platform.build_log = "".join(f"line {number}\n" for number in range(100))
    result = ep(*FAST)
    assert result.status == 1
    assert "❌ Evaluator build failed. Status: FAILED_PRECONDITION No module named 'numpyy'" in result.out
    assert "End of the build log (30 of 100 lines):" in result.out
    assert "│ line 99" in result.out
    assert "│ line 69" not in result.out
    assert platform.jobs == {}
    assert platform.datasets == {}
    platform.builds, platform.build_status = ["ACTIVE"], {}
    result = ep(*FAST)
    assert result.status == 0
    assert "because its last build failed" in result.out


@pytest.mark.usefixtures("profile", "project")
def test_a_build_that_never_ends_times_out_with_the_documented_words(
    ep, platform: FakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform.builds = ["BUILDING"]
    monkeypatch.setattr("eval_protocol.cli.evaluators.BUILD_TIMEOUT_SECONDS", 0.0)
    result = ep(*FAST)
    assert result.status == 1
    assert (
        "⏰ Timeout after 0.0m - evaluator is not yet ACTIVE\n"
        "\n"
        "❌ Evaluator is not ready within the timeout period.\n"
        f"📊 Please check the evaluator status at: {platform.base}/dashboard/evaluators/{EVALUATOR}\n"
        "   Wait for it to become ACTIVE, then run 'ep create rft' again.\n"
    ) in result.out
    assert platform.jobs == {}


@pytest.mark.usefixtures("profile", "project")
def test_code_that_does_not_arrive_leaves_no_evaluator_behind(ep, platform: FakePlatform) -> None:
    platform.failures["PUT /signed/my-project.tar.gz"] = [(403, {"message": "the signature expired"})]
    result = ep(*FAST)
    assert result.status == 1
    assert "Uploading my-project.tar.gz failed" in result.err
    assert "the signature expired" in result.err
    assert platform.evaluators == {}


@pytest.mark.usefixtures("profile")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"question": "a", "answer": "1"}\n\n{"question": \n', r"invalid JSON on line 3 of .*rows\.jsonl"),
        ("[1, 2]\n", r"line 1 of .*rows\.jsonl is not a JSON object"),
        ("\n \n", r"rows\.jsonl has no rows"),
        ('{"question": "a", "answer": "1"}\n{"answer": "1"}\n', r"dataset_adapter raised KeyError: 'question' on line 2 of .*Missing required field"),
    ],
)  # fmt: skip
def test_a_broken_dataset_names_the_line_and_nothing_is_sent(
    ep, platform: FakePlatform, project: Path, content: str, message: str
) -> None:
    (project / "rows.jsonl").write_text(content)
    result = ep(*FAST)
    assert result.status == 1
    assert re.search(message, result.err), result.err
    assert "Traceback" not in result.err
    assert platform.writes == []


@pytest.mark.usefixtures("profile")
def test_rows_without_messages_name_the_line(ep, platform: FakePlatform, project: Path) -> None:
    source = (project / "evaluation.py").read_text().replace("    dataset_adapter=adapt,\n", "")
    (project / "evaluation.py").write_text(source)
    good = json.dumps({"messages": [{"role": "user", "content": "hi"}]})
    for bad, message in (
        ({"prompt": "hi"}, r"Missing required field 'messages' on line 2"),
        ({"messages": []}, r"line 2 of .* has no messages to answer"),
        ({"messages": [{"role": "assistant", "content": "gold"}]}, r"line 2 of .* has no messages to answer"),
        (
            {"messages": [{"role": "usr", "content": "hi"}]},
            r"'usr' is no role of a message, on line 2 of .*Roles are system, user,",
        ),
        ({"messages": [{"content": "no role"}]}, r"messages\.0\.role: Field required, on line 2"),
    ):
        (project / "rows.jsonl").write_text(good + "\n" + json.dumps(bad) + "\n")
        result = ep(*FAST)
        assert result.status == 1
        assert re.search(message, result.err), result.err
    assert platform.writes == []


@pytest.mark.usefixtures("profile")
def test_a_project_without_requirements_says_so_before_anything_is_sent(
    ep, platform: FakePlatform, project: Path
) -> None:
    (project / "requirements.txt").unlink()
    result = ep(*FAST)
    assert result.status == 1
    assert "Upload requires requirements.txt in the project root" in result.err
    assert platform.writes == []


@pytest.mark.usefixtures("project")
def test_a_wrong_key_ends_it_at_once(ep, platform: FakePlatform, profile: Path) -> None:
    profile.write_text(json.dumps({"api_base": platform.base, "api_key": "wrong", "account_id": "local"}))
    result = ep(*FAST)
    assert result.status == 1
    assert "Checking the API key failed" in result.err
    assert "answered 401" in result.err
    assert "Scanning" not in result.out
    assert platform.lines == ["GET /verifyApiKey"]


@pytest.mark.usefixtures("home", "project")
def test_without_a_platform_it_says_how_to_get_one(ep) -> None:
    result = ep(*FAST)
    assert result.status == 1
    assert "No platform is configured. Start one with `tunesmith up`" in result.err


@pytest.mark.usefixtures("home", "project")
def test_the_environment_pair_works_without_a_profile(
    ep, platform: FakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIREWORKS_API_BASE", platform.base + "/")
    monkeypatch.setenv("FIREWORKS_API_KEY", KEY)
    assert ep(*FAST).status == 0
    assert JOB_ID in platform.jobs


@pytest.mark.usefixtures("project", "profile")
def test_a_key_never_goes_to_a_server_that_it_does_not_belong_to(
    ep, platform: FakePlatform, monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int
) -> None:
    result = ep("--server", f"http://127.0.0.1:{unused_tcp_port}", *FAST)
    assert result.status == 1
    assert f"No key for http://127.0.0.1:{unused_tcp_port} is known here" in result.err
    monkeypatch.setenv("FIREWORKS_API_BASE", f"http://127.0.0.1:{unused_tcp_port}")
    monkeypatch.setenv("FIREWORKS_API_KEY", "the other platform's key")
    assert ep("--server", platform.base, *FAST).status == 0
    assert platform.requests[0].headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.usefixtures("profile", "project")
def test_a_taken_job_id_is_told_before_anything_is_uploaded(ep, platform: FakePlatform) -> None:
    platform.jobs[JOB_ID] = {}
    result = ep(*FAST)
    assert result.status == 1
    assert JOB_ID in result.err
    assert platform.writes == []
    assert ep(*FAST, "--dry-run").status == 1
    # Nor is the evaluator run here for a job that cannot be.
    tried = ep(*(flag for flag in FAST if flag != "--skip-validation"))
    assert (tried.status, "Validating the evaluator" in tried.out) == (1, False)


@pytest.mark.usefixtures("profile", "project")
def test_the_same_command_again_is_told_of_its_job_and_uploads_nothing(ep, platform: FakePlatform) -> None:
    assert ep(*FAST).status == 0
    before = platform.writes
    for again in (FAST, (*FAST, "--dry-run"), [flag for flag in FAST if flag != "--skip-validation"]):
        result = ep(*again)
        assert (result.status, "Validating the evaluator" in result.out) == (1, False)
        assert f"'{JOB_ID}' exists already" in result.err
        assert f"tunesmith rftj logs {JOB_ID} -f" in result.err
    assert platform.writes == before


@pytest.mark.usefixtures("profile")
def test_a_dry_run_changes_nothing_anywhere(ep, platform: FakePlatform, project: Path, tmp_path: Path) -> None:
    (project / ".env").write_text("OPENAI_API_KEY=sk-0123456789abcdef\n")
    before = tree(tmp_path)
    result = ep("create", "rft", "--base-model", "m", "--dry-run", "--epochs", "2")
    assert result.status == 0, result.err
    assert platform.writes == []
    assert tree(tmp_path) == before
    assert "--dry-run: nothing was uploaded" in result.out
    [checked] = platform.of(f"POST {A}/reinforcementFineTuningJobs:validate")
    assert checked.json["trainingConfig"] == {"baseModel": "m", "epochs": 2}
    assert "The platform accepts the options." in result.out
    assert "1. Secrets: OPENAI_API_KEY (sk-0***cdef)" in result.out
    assert f"2. Evaluator '{EVALUATOR}': uploaded: it is not on the platform yet" in result.out
    assert "evaluation.py, requirements.txt, rows.jsonl" in result.out
    assert '"epochs": 2' in result.out
    assert "sk-0123456789abcdef" not in result.out


@pytest.mark.usefixtures("project")
def test_a_dry_run_works_while_the_platform_is_away(ep, profile: Path, unused_tcp_port: int) -> None:
    profile.write_text(
        json.dumps({"api_base": f"http://127.0.0.1:{unused_tcp_port}", "api_key": KEY, "account_id": "local"})
    )
    result = ep("create", "rft", "--base-model", "m", "--dry-run", "--json")
    assert result.status == 0
    assert "--dry-run goes on without the platform" in result.err
    assert "The options were not checked" in result.err
    shown = json.loads(result.out)
    assert shown["rows"] == 3
    assert shown["job"]["evaluator"] == f"accounts/{ACCOUNT}/evaluators/{EVALUATOR}"
    assert shown["files"] == ["evaluation.py", "requirements.txt", "rows.jsonl"]


@pytest.mark.usefixtures("profile", "project")
@pytest.mark.parametrize(("status", "ends"), [(400, 1), (503, 0)])
def test_a_dry_run_reports_what_the_platform_refuses(ep, platform: FakePlatform, status: int, ends: int) -> None:
    platform.failures[f"POST {A}/reinforcementFineTuningJobs:validate"] = [
        (status, {"message": "epochs 11 is too many"})
    ] * 20
    result = ep("create", "rft", "--base-model", "m", "--dry-run", "--epochs", "11")
    assert result.status == ends
    assert "epochs 11 is too many" in result.out + result.err
    assert ("5. RFT job:" in result.out) == (ends == 0)


@pytest.mark.usefixtures("profile")
def test_the_dataset_can_be_an_id_or_a_file(ep, platform: FakePlatform, project: Path) -> None:
    assert ep(*FAST, "--dataset", "there-already").status == 0
    assert platform.datasets == {}
    assert platform.jobs[JOB_ID]["dataset"] == f"accounts/{ACCOUNT}/datasets/there-already"
    (project / "other.jsonl").write_text('{"question": "x", "answer": "1"}\n')
    assert ep(*FAST[:-1], "second", "--dataset", "other.jsonl", "--evaluation-dataset", "./rows.jsonl").status == 0
    job = platform.jobs["second"]
    training, held_out = (job[name].rsplit("/", 1)[-1] for name in ("dataset", "evaluationDataset"))
    assert platform.datasets[training]["exampleCount"] == "1"
    assert platform.datasets[held_out]["exampleCount"] == "3"
    result = ep(*FAST, "--dataset", "missing.jsonl")
    assert result.status == 1
    assert "The dataset missing.jsonl does not exist" in result.err


@pytest.mark.usefixtures("profile", "project")
def test_two_jobs_in_one_second_do_not_share_a_dataset(
    ep, platform: FakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eval_protocol.cli.plan.dataset_id", lambda *_, **__: "same-name")
    assert ep(*FAST).status == 0
    assert ep(*FAST[:-1], "second").status == 0
    assert set(platform.datasets) == {"same-name", "same-name-2"}
    assert platform.jobs["second"]["dataset"].endswith("/same-name-2")


@pytest.mark.usefixtures("profile")
def test_an_evaluator_of_another_project_is_used_as_it_is(ep, platform: FakePlatform, project: Path) -> None:
    (project / "evaluation.py").unlink()
    result = ep(*FAST, "--evaluator", "theirs", "--dataset", "rows-of-theirs")
    assert result.status == 1
    assert f"Evaluator 'theirs' not found in account {ACCOUNT}" in result.err
    platform.evaluators["theirs"] = {
        "state": "ACTIVE",
        "builds": ["ACTIVE"],
        "entryPoint": "x.py::y",
        "commitHash": "z",
    }
    assert ep(*FAST, "--evaluator", "theirs", "--dataset", "rows-of-theirs").status == 0
    assert platform.jobs[JOB_ID]["evaluator"] == f"accounts/{ACCOUNT}/evaluators/theirs"
    assert ep(*FAST, "--evaluator", "theirs").status == 1


@pytest.mark.usefixtures("profile", "project")
def test_somebody_elses_evaluator_is_not_overwritten_by_the_only_test_here(ep, platform: FakePlatform) -> None:
    platform.evaluators["theirs"] = {
        "state": "ACTIVE",
        "builds": ["ACTIVE"],
        "entryPoint": "x.py::y",
        "commitHash": "z",
    }
    result = ep(*FAST, "--evaluator", "theirs")
    assert result.status == 0
    assert "it was built from x.py::y, which is not evaluation.py::digits_match" in result.out
    assert platform.evaluators["theirs"]["commitHash"] == "z"


@pytest.mark.usefixtures("profile")
@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_an_id_that_exists_nowhere_uploads_nothing(
    ep, platform: FakePlatform, project: Path, dry: tuple[str, ...]
) -> None:
    result = ep(*FAST, *dry, "--evaluator", "no-such")
    assert result.status == 1
    assert f"Evaluator 'no-such' not found in account {ACCOUNT}" in result.err
    assert f"\n   {EVALUATOR}\n" in result.err
    assert "ep upload" in result.err
    (project / "second.py").write_text((project / "evaluation.py").read_text())
    assert "\n   second-digits-match\n" in ep(*FAST, *dry, "--evaluator", "no-such").err
    assert platform.writes == []


@pytest.mark.usefixtures("profile", "project")
def test_an_evaluator_uploaded_under_another_id_is_that_of_the_only_test(ep, platform: FakePlatform) -> None:
    assert ep("upload", "--yes", "--id", "mine").status == 0
    assert ep(*FAST, "--evaluator", "mine").status == 0
    assert platform.jobs[JOB_ID]["evaluator"] == f"accounts/{ACCOUNT}/evaluators/mine"


@pytest.mark.usefixtures("profile")
def test_several_evaluators_need_a_name(ep, platform: FakePlatform, project: Path) -> None:
    (project / "second.py").write_text((project / "evaluation.py").read_text())
    result = ep(*FAST)
    assert result.status == 1
    assert "Multiple evaluation tests found" in result.err
    assert "evaluation.py::digits_match" in result.err
    assert "second.py::digits_match" in result.err
    assert "second-digits-match" in result.err
    assert ep(*FAST, "--evaluator", "second-digits-match").status == 0
    assert list(platform.evaluators) == ["second-digits-match"]


@pytest.mark.usefixtures("profile")
def test_an_evaluator_that_does_not_import_says_why(ep, platform: FakePlatform, project: Path) -> None:
    (project / "evaluation.py").write_text("import numpyy  # evaluation_test\n")
    result = ep(*FAST)
    assert result.status == 1
    assert "No module named 'numpyy'" in result.err
    (project / "evaluation.py").unlink()
    assert "No evaluation tests found" in ep(*FAST).err
    assert platform.writes == []


@pytest.mark.usefixtures("profile")
def test_two_parametrizations_are_refused_before_anything_is_sent(ep, platform: FakePlatform, project: Path) -> None:
    source = (project / "evaluation.py").read_text()
    two = '[{"model": "one"}, {"model": "two"}]'
    (project / "evaluation.py").write_text(source.replace('[{"model": "accounts/tunesmith/models/tiny-math-v1"}]', two))
    result = ep(*FAST)
    assert result.status == 1
    assert "has 2 parametrizations (one, two)" in result.err
    assert platform.writes == []


@pytest.mark.usefixtures("profile")
def test_the_evaluator_is_tried_here_first(ep, platform: FakePlatform, project: Path) -> None:
    without = tuple(flag for flag in FAST if flag != "--skip-validation")
    (project / ".env").write_text("JUDGE_KEY=from-the-file\n")
    source = (project / "evaluation.py").read_text()
    checked = source.replace(
        "    row.evaluation_result",
        "    import os\n    assert os.environ['JUDGE_KEY'] == 'from-the-file'\n    row.evaluation_result",
    )
    (project / "evaluation.py").write_text(checked)
    result = ep(*without)
    assert result.status == 0, result.out + result.err
    assert "✓ The evaluator runs here." in result.out
    assert "--ep-max-rows 3 evaluation.py::digits_match -qqs" in result.out
    assert "rollouts scored" in result.out + result.err
    assert "test session starts" not in result.out
    assert "test session starts" in ep("--verbose", *without[:-1], "another").out
    platform.requests.clear()
    platform.jobs.clear()
    (project / "evaluation.py").write_text(
        source.replace(
            "    row.evaluation_result", "    raise RuntimeError('judge is down')\n    row.evaluation_result"
        )
    )
    result = ep(*without)
    assert result.status == 1
    assert "❌ The evaluator failed here" in result.err
    assert "judge is down" in result.out
    assert platform.writes == []


@pytest.mark.usefixtures("profile", "project")
def test_a_base_model_that_scores_zero_is_fine_because_it_is_to_learn(
    ep, platform: FakePlatform, project: Path
) -> None:
    source = (project / "evaluation.py").read_text().replace("score=1.0 if row.ground_truth else 0.0", "score=0.0")
    (project / "evaluation.py").write_text(source)
    assert ep(*(flag for flag in FAST if flag != "--skip-validation")).status == 0
    assert JOB_ID in platform.jobs


CHUNKS = [
    {"kind": "chunk", "chunk": chunk, "step": chunk, "epoch": 0, "version": chunk, "sealed": 1, "mean_score": (chunk + 1) / 4,
     "rollouts": 80, "invalid": 1 - chunk % 2, "kept_groups": 8, "constant_groups": 1, "dropped_groups": 2, "seconds": 2.0}
    for chunk in range(3)
]  # fmt: skip
EVALUATIONS = [
    {"kind": "evaluation", "step": 0, "version": 0, "score": 0.1, "low": 0.05, "high": 0.2, "n": 100},
    {"kind": "evaluation", "step": 3, "version": 3, "score": 0.7, "low": 0.6, "high": 0.8, "n": 100},
]


def running(step: int, state: str = "RUNNING", **more: Any) -> dict[str, Any]:
    run = {"step": step, "total_steps": 3, "mean_score": step / 4, "optimizer_steps": step, "version": step}
    return {"state": f"JOB_STATE_{state}", "run": run, **more}


@pytest.mark.usefixtures("profile", "project")
def test_wait_follows_the_job_and_shows_how_to_call_the_model(ep, platform: FakePlatform, profile: Path) -> None:
    platform.job_views = [running(0), running(1), running(2), running(3, "COMPLETED")]
    platform.metrics = [EVALUATIONS[0], *CHUNKS, EVALUATIONS[1]]
    result = ep(*FAST, "--wait", "--output-model", "better")
    assert result.status == 0, result.err
    for line in (
        "   epoch 0  step 1/3  mean reward 0.250  8 of 10 groups used, 1 invalid",
        "   epoch 0  step 2/3  mean reward 0.500  8 of 10 groups used",
        "   after 3 steps  held-out 0.700 [0.600, 0.800] (v3)",
        "Mean reward by step (3 steps):",
        "✅ Job COMPLETED",
        "   First: held-out 0.100 [0.050, 0.200] (v0)",
        "   Best:  held-out 0.700 [0.600, 0.800] (v3)",
        f"   Output model: accounts/{ACCOUNT}/models/better",
        f"  curl -s {platform.base}/inference/v1/chat/completions \\",
        f'  client = OpenAI(base_url="{platform.base}/inference/v1", api_key=os.environ["FIREWORKS_API_KEY"])',
    ):
        assert line in result.out.split("\n"), line
    export = next(line for line in result.out.split("\n") if "export FIREWORKS_API_KEY" in line)
    key = subprocess.run(
        ["bash", "-c", f"{export}; echo $FIREWORKS_API_KEY"], capture_output=True, text=True, check=True
    ).stdout
    assert key.strip() == KEY
    body = re.search(r"-d '(.*)'", result.out)
    assert body is not None
    assert json.loads(body[1]) == {
        "model": f"accounts/{ACCOUNT}/models/better",
        "messages": [{"role": "user", "content": "What is 1 + 1?"}],
        "temperature": 0,
    }


@pytest.mark.usefixtures("profile", "project")
def test_json_prints_one_object_and_keeps_the_story_on_stderr(ep, platform: FakePlatform) -> None:
    platform.job_views = [running(1), running(3, "EARLY_STOPPED", status={"code": "OK", "message": "no variance"})]
    platform.metrics = [*CHUNKS, EVALUATIONS[1]]
    result = ep(*FAST, "--wait", "--json")
    assert result.status == 0
    shown = json.loads(result.out)
    assert shown["job"] == f"accounts/{ACCOUNT}/reinforcementFineTuningJobs/{JOB_ID}"
    assert (shown["state"], shown["message"]) == ("EARLY_STOPPED", "no variance")
    assert shown["rewards"] == [0.25, 0.5, 0.75]
    assert shown["evaluations"] == [EVALUATIONS[1]]
    assert shown["output_model"] == f"accounts/{ACCOUNT}/models/{JOB_ID}"
    assert shown["run"]["optimizer_steps"] == 3
    assert shown["links"]["job"].endswith(f"/dashboard/fine-tuning/reinforcement/{JOB_ID}")
    assert "✅ Job EARLY_STOPPED: no variance" in result.err


@pytest.mark.usefixtures("profile", "project")
@pytest.mark.parametrize("state", ["FAILED", "CANCELLED", "EXPIRED"])
def test_a_job_that_does_not_end_well_fails_the_command(ep, platform: FakePlatform, state: str) -> None:
    platform.job_views = [running(1, state, status={"code": "INTERNAL", "message": "the engine is gone"})]
    result = ep(*FAST, "--wait", "--json")
    assert result.status == 1
    assert f"❌ Job {state}: the engine is gone" in result.err
    assert json.loads(result.out)["output_model"] is None


@pytest.mark.usefixtures("profile", "project")
@pytest.mark.parametrize("gone", [False, True])
def test_a_job_that_is_deleted_meanwhile_is_said_to_be(ep, platform: FakePlatform, gone: bool) -> None:
    platform.job_views = [running(1), running(1, "DELETING")]
    if gone:
        platform.failures[f"GET {A}/reinforcementFineTuningJobs/{JOB_ID}"] = [(404, {"message": "no such job"})]
    result = ep(*FAST, "--wait")
    assert result.status == 1
    assert f"❌ Job {JOB_ID} was deleted while it ran." in result.out
    assert "DELETING" not in result.out.split("was deleted")[1]


@pytest.mark.usefixtures("profile", "project")
def test_json_carries_errors_too(ep, platform: FakePlatform) -> None:
    platform.failures[f"POST {A}/reinforcementFineTuningJobs"] = [
        (400, {"message": "loraRank 7 is not a power of two"})
    ]
    result = ep(*FAST, "--json")
    assert result.status == 1
    assert "loraRank 7 is not a power of two" in json.loads(result.out)["error"]


@pytest.mark.usefixtures("project", "profile")
def test_options_are_refused_before_anything_is_uploaded(ep, platform: FakePlatform) -> None:
    platform.failures[f"POST {A}/reinforcementFineTuningJobs:validate"] = [
        (400, {"message": "Learning rate 5 outside"})
    ]
    result = ep(*FAST, "--learning-rate", "5")
    assert result.status == 1
    assert "Learning rate 5 outside" in result.err
    assert platform.writes == []


@pytest.mark.usefixtures("project", "profile")
def test_ctrl_c_leaves_the_job_running_and_says_so(platform: FakePlatform, project: Path) -> None:
    platform.job_views = [running(1)]
    platform.metrics = CHUNKS[:1]
    # A test run in the background inherits an ignored SIGINT; a terminal's foreground program never does.
    program = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from eval_protocol.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, *FAST, "--wait"],
        cwd=project, env={**os.environ, "PYTHONUNBUFFERED": "1"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not platform.of(f"GET {A}/reinforcementFineTuningJobs/{JOB_ID}/metrics") and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    try:
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 130, err
    assert f"Stopped watching. The job goes on: accounts/{ACCOUNT}/reinforcementFineTuningJobs/{JOB_ID}" in out
    assert "Traceback" not in err
    assert not [line for line in platform.writes if line.endswith(":cancel")]


@pytest.mark.usefixtures("profile")
def test_an_export_in_the_project_is_not_uploaded_and_told(ep, platform: FakePlatform, project: Path) -> None:
    (project / "m-peft").mkdir()
    (project / "m-peft" / "adapter_model.safetensors").write_bytes(b"weights")
    (project / "m-peft" / ".tunesmith-export").write_text("Written by `tunesmith model export`.")
    result = ep("upload", "--yes")
    assert result.status == 0
    assert "Not sent: m-peft/ (an export; remove m-peft/.tunesmith-export to have it sent)" in result.out
    content = next(request.body for request in platform.requests if request.path.startswith("/signed/"))
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        assert not any("m-peft" in name for name in archive.getnames())


@pytest.mark.usefixtures("profile")
def test_upload_sends_secrets_and_evaluator_and_starts_no_job(
    ep: Callable[..., Any], platform: FakePlatform, project: Path, profile: Path
) -> None:
    (project / ".env").write_text("JUDGE_KEY=abc\n")
    result = ep("upload", "--yes", "--id", "mine", "--wait")
    assert result.status == 0, result.err
    assert list(platform.evaluators) == ["mine"]
    assert list(platform.secrets) == ["judge-key"]
    assert platform.jobs == {}
    assert "✅ Evaluator is ACTIVE and ready!" in result.out
