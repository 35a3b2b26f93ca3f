"""The verbs that show what RFT jobs have done, and those that start one again, against a real web process."""

from __future__ import annotations

import json
import shlex
import threading
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from tunesmith.cli import rft, rftj
from tunesmith.cli.rftj_again import NESTED, fields_of
from tunesmith.db.jobs import claim, finish
from tunesmith.db.rollouts import add_rollouts
from tunesmith.db.session import reading
from tunesmith.db.tables import Job
from tunesmith.errors import InvalidArgument
from tunesmith.schemas.reinforcement_fine_tuning_jobs import InferenceParameters, LossConfig, TrainingConfig
from tunesmith.schemas.wire import Wire

from tests.server.conftest import BASE_MODEL, Platform
from tests.server.test_rft_compare import make
from tests.server.test_rft_jobs import body
from tests.server.test_rft_rollouts import line


@pytest.fixture
def home(platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Platform:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".tunesmith").mkdir()
    profile = {"api_base": platform.url, "api_key": platform.key, "account_id": "local"}
    (tmp_path / ".tunesmith" / "profile.json").write_text(json.dumps(profile))
    return platform


def said(*arguments: str, code: int = 0, command: click.Command = rftj.command) -> str:
    done = CliRunner().invoke(command, arguments)
    assert done.exit_code == code, done.output
    assert "Traceback" not in done.output
    return done.output


def test_what_a_job_has_done(home: Platform, tmp_path: Path) -> None:
    make(home, "a", rollouts=4)
    make(home, "b", rollouts=2, learning_rate=2e-3)
    listed = said("rollouts", "a", "--limit", "2", "--order-by", "score desc")
    assert [line.split()[0] for line in listed.splitlines()] == ["ROLLOUT", "a-3", "a-2", "2"]
    assert listed.endswith("2 of 4 rollouts.\n")
    assert "0 of 0" in said("rollouts", "a", "--invalid")
    one = said("rollouts", "a", "a-2")
    assert "[user] What is 2 + 2?" in one
    assert "Score 0.200: fine" in one
    assert "no rollout none" in said("rollouts", "a", "none", code=1)
    audit = said("audit", "a")
    assert "Too few rollouts" in audit
    assert "No answer was given to more than one row." in audit
    compared = said("compare", "a", "b")
    assert "trainingConfig.learningRate: 0.001 | 0.002" in compared
    assert "1.25 USD" in compared
    assert "2 to 8" in said("compare", "a", code=1)
    assert len(said("export", "a").splitlines()) == 4
    said("export", "a", "--what", "metrics", "--format", "csv", "-o", str(tmp_path / "m.csv"))
    assert (tmp_path / "m.csv").read_text().startswith("sealed,")


def test_an_audit_names_the_answer_that_several_rows_were_given(home: Platform) -> None:
    name = make(home, "a", rollouts=0)
    same = {"messages": [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "All of them."}]}
    lines = [line(0, row, k) | ({"row": same} if row < 2 else {}) for row in range(4) for k in range(2)]
    with home.control.sessions.begin() as session:
        add_rollouts(session, name, "rollouts.jsonl", list(enumerate(lines)))
    audit = said("audit", "a")
    assert "50% of the rollouts gave an answer that another row was given, too." in audit
    assert "most often (4 times, mean score 0.10): All of them." in audit


def test_what_a_model_wrote_does_not_drive_the_terminal(home: Platform) -> None:
    name = make(home, "a", rollouts=0)
    answer = "a\x1b]0;title\x07b\x9b2Jc\x7fd\u202eté\n\tend"
    asked = [{"role": "user", "content": "What?"}, {"role": "assistant", "content": answer}]
    lines = [line(0, row, 0) | {"row": {"messages": asked}, "reason": answer} for row in range(4)]
    with home.control.sessions.begin() as session:
        add_rollouts(session, name, "rollouts.jsonl", list(enumerate(lines)))
    listed = said("rollouts", "a")
    identity = listed.splitlines()[1].split()[0]
    shown = said("rollouts", "a", identity)
    spelled = r"a\x1b]0;title\x07b\x9b2Jc\x7fd\u202eté"
    assert f"[assistant] {spelled}\n\tend\n" in shown, "what is no more than text, or its layout, is as it was"
    for printed in (listed, shown, said("audit", "a")):
        assert spelled in printed
        assert not set(printed) & set("\x1b\x07\x9b\x7f\u202e")
    assert r"no rollout \x1b[2J" in said("rollouts", "a", "\x1b[2J", code=1)


def test_logs_are_followed_to_the_end(home: Platform) -> None:
    home.dataset("d")
    home.evaluator("e")
    name = home.ok("POST", "/reinforcementFineTuningJobs?reinforcementFineTuningJobId=j", json=body())["name"]
    log = home.control.settings.path("logs", "j-orchestrator.log")
    log.write_text("2026-11-20 12:00:00,000 INFO first\n2026-11-20 12:00:00,000 WARNING second\n")
    assert "first" in said("logs", "j")
    assert [line.split()[-1] for line in said("logs", "j", "--level", "WARNING").splitlines()] == ["second"]
    assert json.loads(said("logs", "j", "--tail", "1", "--json"))["message"] == "The job was created."
    followed: list[str] = []
    thread = threading.Thread(target=lambda: followed.append(said("logs", "j", "-f")))
    thread.start()
    time.sleep(0.3)
    with log.open("a") as file:
        file.write("2026-11-20 12:00:01,000 ERROR third\n")
    with home.control.sessions.begin() as session:
        claim(session, "w", ["rft"], 60)
        finish(session, name, "JOB_STATE_FAILED", {"code": "INTERNAL", "message": "out of luck"})
    thread.join(20)
    messages = [line[43:] for line in followed[0].splitlines()]
    assert sorted(messages) == sorted(
        [
            "first",
            "second",
            "The job was created.",
            "third",
            "A worker took the job up.",
            "The job ended: FAILED. out of luck",
        ]
    )


def test_estimate_clone_and_resume(home: Platform) -> None:
    home.dataset("d")
    home.evaluator("e")
    shown = said("estimate", "--dataset", "d", "--evaluator", "e", "--base-model", BASE_MODEL, "--set", "epochs=2")
    assert "Rollouts        48\n" in shown
    assert "no prices are set" in shown
    home.ok("POST", "/reinforcementFineTuningJobs?reinforcementFineTuningJobId=j", json=body())
    assert "Started k;" in said("clone", "j", "--set", "learning-rate=2e-3", "--job-id", "k", "--display-name", "K")
    made = home.ok("GET", "/reinforcementFineTuningJobs/k")
    assert (made["trainingConfig"]["learningRate"], made["displayName"]) == (2e-3, "K")
    assert "outside valid range" in said("clone", "j", "--set", "learningRate=9", code=1)
    assert "FIELD=VALUE" in said("clone", "j", "--set", "learningRate", code=1)
    assert "has not ended" in said("resume", "j", code=1)
    with home.control.sessions.begin() as session:
        claim(session, "w", ["rft"], 60)
        name = "accounts/local/reinforcementFineTuningJobs/j"
        finish(session, name, "JOB_STATE_FAILED", {"code": "INTERNAL", "message": "x"})
    assert "Resumed j;" in said("resume", "j")


def test_a_preflight_takes_no_field_twice(home: Platform) -> None:
    asked = ("preflight", "--base-model", BASE_MODEL, "--evaluator", "e", "--dataset", "d", "--set")
    for change, told in (
        ('preflight={"rows":0}', "ep create rft --preflight-rows 0"),
        ("preflight.rows=0", "of --rows rows"),
        ("dataset=other", "--dataset says"),
        ("trainingConfig.baseModel=other", "--base-model says"),
        ("responseCandidatesCount=2", "--n says"),
        ('trainingConfig={"baseModel":"other"}', "--base-model says"),
        ("trainingConfig=5", "trainingConfig is an object. Give one of its fields, as in --set trainingConfig."),
        ("trainingConfig=null", "takes away what was given already: baseModel"),
        ("inferenceParameters=0.5", "inferenceParameters is an object"),
        ("inferenceParameters=null", "takes away what was given already: responseCandidatesCount"),
        ("lossConfig=null", "no dataset accounts/local/datasets/d"),  # the default
    ):
        assert told in said(*asked, change, code=1, command=rft.command), change
    assert home.ok("GET", "/reinforcementFineTuningJobs")["reinforcementFineTuningJobs"] == []


def test_a_clone_may_do_without_a_preflight(home: Platform) -> None:
    home.dataset("d")
    home.evaluator("e")
    home.ok("POST", "/reinforcementFineTuningJobs?reinforcementFineTuningJobId=j", json=body())
    said("clone", "j", "--set", 'preflight={"rows":0}', "--job-id", "k")
    with reading(home.control.sessions) as session:
        job = session.get_one(Job, "accounts/local/reinforcementFineTuningJobs/k")
    assert job.spec["preflight_rows"] == 0
    assert '{"rows": 0} switches the preflight off' in said("clone", "j", "--set", "preflight=off", code=1)


def test_the_command_that_a_preflight_names_starts_the_job_itself(home: Platform) -> None:
    home.dataset("d")
    home.evaluator("e")
    asked = {"only": True, "rows": 8, "temperatures": [0.0, 0.7]}
    create = "/reinforcementFineTuningJobs?reinforcementFineTuningJobId=look"
    made = home.ok("POST", create, json=body(preflight=asked, chunkSize=2))
    _, _, *words = shlex.split(rft.next_of("look"))
    said(*words, "--job-id", "real")
    job = home.ok("GET", "/reinforcementFineTuningJobs/real")
    assert (made["preflightOnly"], job["preflightOnly"], job["chunkSize"]) == (True, False, 2)


def test_fields_of_a_create_from_the_command_line() -> None:
    assert fields_of(["learning-rate=5e-4", "chunkSize=20", "trainingConfig.epochs=null", "method=GRPO"]) == {
        "trainingConfig": {"learningRate": 5e-4, "epochs": None},
        "chunkSize": 20,
        "lossConfig": {"method": "GRPO"},
    }
    assert fields_of(["baseModel=b", 'trainingConfig={"epochs":2}', "lossConfig=null"]) == {
        "trainingConfig": {"baseModel": "b", "epochs": 2},
        "lossConfig": None,
    }
    with pytest.raises(InvalidArgument, match="is an object"):
        fields_of(["trainingConfig=1", "learningRate=2"])
    with pytest.raises(InvalidArgument, match="was given a value"):
        fields_of(["chunkSize=1", "chunkSize.rows=2"])


def test_short_names_are_fields_of_a_create() -> None:
    models: dict[str, type[Wire]] = {
        "trainingConfig": TrainingConfig,
        "inferenceParameters": InferenceParameters,
        "lossConfig": LossConfig,
    }
    for parent, names in NESTED.items():
        known = {field.alias or name for name, field in models[parent].model_fields.items()}
        known |= {
            field.serialization_alias for field in models[parent].model_fields.values() if field.serialization_alias
        }
        assert set(names) <= known, parent
