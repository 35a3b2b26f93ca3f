"""Before a job and after it, on a real platform: the preflight, the doctor, and a second evaluator."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tunesmith.cli.rft import lines_of

from tests.loop import projects
from tests.loop.platform import Platform
from tests.loop.test_story import create_rft

BRIEF = ("--max-output-tokens", "16", "--chunk-size", "2", "--response-candidates-count", "4")
# Candidates differ, so steps are taken; the mean cannot rise by what the doctor calls a rise, whatever is sampled.
HARDLY = projects.HEADER + "    score = 0.5 + sum(map(ord, text)) % 101 / 10100\n" + projects.FOOTER
CONSTANT = projects.HEADER.replace("def scored", "def second") + projects.BODIES["constant"] + projects.FOOTER


@pytest.fixture(scope="module")
def constant(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluator that gives everything the full score: the second opinion of one job, and what another is trained on."""
    return projects.write(tmp_path_factory.mktemp("constant") / "project", source=CONSTANT, dataset=projects.rows(4))


def tell(platform: Platform, cwd: Path, *argv: object):
    ended = platform.run("tunesmith", *argv, "--json", cwd=cwd)
    assert ended.returncode == 0, ended.stdout
    return json.loads(ended.stdout[ended.stdout.index("{") :])


def test_a_job_that_hardly_moves_has_a_second_opinion_and_a_doctor(
    platform: Platform, short_tmp: Path, constant: Path
) -> None:
    uploaded = platform.run("ep", "upload", "--yes", "--wait", cwd=constant)
    assert uploaded.returncode == 0, uploaded.stdout
    project = projects.write(short_tmp / "first", source=HARDLY, dataset=projects.rows(6))
    flags = ("--audit-evaluator", "evaluation-second", "--preflight-rows", "2", "--learning-rate", "1e-5")
    flags += ("--job-id", "hardly-moves")  # noise is drawn by it: the same rollouts in every run
    name, _ = create_rft(platform, project, *BRIEF, *flags)
    job = platform.wait(name)
    assert job["state"] == "JOB_STATE_COMPLETED", job["status"]
    assert (job["auditEvaluator"], job["auditEvaluatorVersion"]) == ("accounts/local/evaluators/evaluation-second", 1)
    assert (job["preflight"]["rows"], job["preflight"]["rollouts"]) == (2, 8)

    audit = tell(platform, short_tmp, "rftj", "audit", name)
    second = audit["auditEvaluator"]
    assert (second["rollouts"], second["invalid"], second["failed"]) == (6, 0, ""), "the first candidate of each row"
    assert [step["rollouts"] for step in second["bySteps"]] == [2] * 3
    found = tell(platform, short_tmp, "doctor", name)
    assert "learning_rate_small" in [finding["code"] for finding in found["findings"]]


def test_a_constant_score_is_seen_before_and_explained_after(
    platform: Platform, short_tmp: Path, constant: Path
) -> None:
    name, _ = create_rft(platform, constant, *BRIEF)
    job = platform.wait(name)
    assert job["state"] == "JOB_STATE_EARLY_STOPPED"
    found = tell(platform, short_tmp, "doctor", name)
    assert found["findings"][0]["code"] == "saturated"

    asked = ("--base-model", projects.BASE, "--evaluator", job["evaluator"], "--dataset", job["dataset"])
    argv = ("rft", "preflight", *asked, "--rows", "2", "--n", "2", "--set", "maxOutputTokens=16")
    said = tell(platform, short_tmp, *argv)
    assert (said["rows"], said["varying_groups"], said["pass_at_1"], said["mean_score"]) == (2, 0, 1.0, 1.0)
    assert [each["temperature"] for each in said["baselines"]] == [0.0, 0.3, 0.7, 1.0]
    assert [each["rollouts"] for each in said["baselines"]] == [2, 4, 4, 4]
    assert "nothing is left to learn" in said["verdict"]
    preflight = platform.job(said["job"])
    assert preflight["state"] == "JOB_STATE_COMPLETED"
    assert "Preflight only, no model." in preflight["status"]["message"]
    assert {note["option"] for note in preflight["notes"]} == {"preflight"}
    assert said["estimate"]["rollouts"] == said["estimate"]["rows"] * said["estimate"]["n"] * said["estimate"]["epochs"]
    told = "\n".join(lines_of(said))
    assert "what a tuned model has to beat" in told
    assert "2 times each, 1 epoch: " in told
    identity = said["job"].rsplit("/", 1)[-1]
    assert f"{platform.url}/dashboard/fine-tuning/reinforcement/{identity}" in told
    assert told.endswith(f"tunesmith rftj clone {identity} --set preflight=null")


def test_the_doctor_of_the_machine(platform: Platform, short_tmp: Path) -> None:
    platform.chat(projects.BASE, "2 + 2?", max_tokens=2)  # an engine runs
    ended = platform.run("tunesmith", "doctor", "--data-dir", platform.data_dir, "--json", cwd=short_tmp)
    checks = {check["name"]: check for check in json.loads(ended.stdout)["checks"]}
    assert {"disk", "memory", "open files", "port", "torch", "node", "sandbox", "engines", "platform", "clock"} <= set(
        checks
    )
    assert checks["platform"]["state"] == checks["clock"]["state"] == checks["torch"]["state"] == "ok"
    said = checks["engines"]["found"]
    assert "(answers, " in said or "gave no answer within" in said, "each engine was asked, however busy it is"
    assert ended.returncode == int(any(check["state"] == "error" for check in checks.values()))
    assert all(check["remedy"] for check in checks.values() if check["state"] != "ok")
