"""`ep local-test`: the evaluator runs here through pytest, or in Docker where an engine answers."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

FAKE_DOCKER = """#!/bin/sh
printf '%s\\n' "$*" >> "$DOCKER_LOG"
env | grep '^FIREWORKS_API_KEY=' >> "$DOCKER_LOG"
case "$1" in
  version) {version} ;;
  build) exit {build} ;;
  run) exit {run} ;;
esac
"""


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A `docker` command that writes down how it is called; how it answers is up to the test."""
    log = tmp_path / "docker.log"
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("DOCKER_LOG", str(log))
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def install(version: str = "echo 28.0", build: int = 0, run: int = 0) -> Path:
        script = folder / "docker"
        script.write_text(FAKE_DOCKER.format(version=version, build=build, run=run))
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        return log

    return install


@pytest.mark.usefixtures("home", "project")
def test_an_evaluator_that_scores_passes(ep) -> None:
    result = ep("local-test", "--yes")
    assert result.status == 0, result.out
    assert "Running locally: pytest --ep-success-threshold 0.001 evaluation.py::digits_match -vs" in result.out


@pytest.mark.usefixtures("home")
def test_one_that_scores_nothing_at_all_fails(ep, project: Path) -> None:
    source = (project / "evaluation.py").read_text().replace("score=1.0 if row.ground_truth else 0.0", "score=0.0")
    (project / "evaluation.py").write_text(source)
    assert ep("local-test", "--yes").status == 1


@pytest.mark.usefixtures("home")
def test_an_entry_is_named(ep, project: Path) -> None:
    (project / "second.py").write_text((project / "evaluation.py").read_text().replace("digits_match", "second_one"))
    assert ep("local-test", "--yes").status == 1
    result = ep("local-test", "--yes", "--entry", "second.py::second_one")
    assert result.status == 0
    assert "second.py::second_one" in result.out
    result = ep("local-test", "--yes", "--entry", "second.py::third")
    assert result.status == 1
    assert "second.py::third. Evaluators of this file: second.py::second_one." in result.err
    result = ep("local-test", "--yes", "--entry", "third.py")
    assert result.status == 1
    assert f"There is no file {project / 'third.py'}" in result.err


@pytest.mark.usefixtures("home")
def test_an_entry_is_the_only_file_that_is_imported(ep, project: Path, tmp_path: Path) -> None:
    seen = project / "imported"
    (project / "other.py").write_text(f"open({str(seen)!r}, 'w')  # evaluation_test\n")
    for entry in (
        "evaluation.py",
        "./evaluation.py::digits_match",
        str(project / "evaluation.py"),
        f"{project}/evaluation.py::digits_match",
    ):
        result = ep("local-test", "--yes", "--entry", entry)
        assert result.status == 0, result.err
        assert "evaluation.py::digits_match -vs" in result.out
    assert not seen.exists()


@pytest.mark.usefixtures("home")
def test_an_entry_elsewhere_is_run_in_its_own_project(
    ep, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    (project / "inner").mkdir()
    (project / "evaluation.py").rename(project / "inner" / "evaluation.py")
    (project / "rows.jsonl").rename(project / "inner" / "rows.jsonl")
    result = ep("local-test", "--yes", "--entry", f"../{project.name}/inner/evaluation.py")
    assert result.status == 0, result.err
    assert "inner/evaluation.py::digits_match -vs" in result.out


@pytest.mark.usefixtures("profile")
def test_what_is_uploaded_must_lie_in_the_project(ep, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "inner").mkdir()
    monkeypatch.chdir(project / "inner")
    result = ep("upload", "--yes", "--entry", "../evaluation.py")
    assert result.status == 1
    assert f"lies outside the project {project / 'inner'}" in result.err


@pytest.mark.usefixtures("profile")
def test_the_environment_wins_over_the_secrets_file(ep, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / ".env").write_text("JUDGE_KEY=file\nOTHER_KEY=file\nFIREWORKS_API_KEY=file\n")
    monkeypatch.setenv("JUDGE_KEY", "shell")
    source = (project / "evaluation.py").read_text()
    seen = project / "seen.json"
    spy = f"    import json, os\n    json.dump(dict(os.environ), open({str(seen)!r}, 'w'))\n    row.evaluation_result"
    (project / "evaluation.py").write_text(source.replace("    row.evaluation_result", spy))
    assert ep("local-test", "--yes").status == 0
    environment = json.loads(seen.read_text())
    assert (environment["JUDGE_KEY"], environment["OTHER_KEY"]) == ("shell", "file")
    assert environment["FIREWORKS_API_KEY"] != "file"


@pytest.mark.usefixtures("profile")
def test_a_dockerfile_means_docker(ep, project: Path, docker) -> None:
    (project / "Dockerfile").write_text("FROM python:3.11\n")
    log = docker()
    result = ep("local-test", "--yes", "--docker-build-extra=--no-cache", "--docker-run-extra=--memory 2g")
    assert result.status == 0
    calls = log.read_text().splitlines()
    build = next(line for line in calls if line.startswith("build"))
    run = next(line for line in calls if line.startswith("run"))
    assert build == f"build --no-cache -t ep-evaluator:local -f {project}/Dockerfile {project}"
    assert f"-v {project}:/workspace -w /workspace" in run
    assert run.endswith(
        "--memory 2g ep-evaluator:local pytest --ep-success-threshold 0.001 evaluation.py::digits_match -vs"
    )
    key = json.loads((Path(os.environ["HOME"]) / ".tunesmith/profile.json").read_text())["api_key"]
    assert "-e FIREWORKS_API_KEY" in run
    assert key not in run
    assert f"FIREWORKS_API_KEY={key}" in calls


@pytest.mark.usefixtures("home")
def test_a_build_or_run_that_fails_fails_the_command(ep, project: Path, docker) -> None:
    (project / "Dockerfile").write_text("FROM python:3.11\n")
    log = docker(build=3)
    assert ep("local-test", "--yes").status == 3
    assert not [line for line in log.read_text().splitlines() if line.startswith("run")]
    docker(run=4)
    assert ep("local-test", "--yes").status == 4


@pytest.mark.usefixtures("home")
def test_without_an_engine_it_says_so_and_falls_back_only_when_told(ep, project: Path, docker) -> None:
    (project / "Dockerfile").write_text("FROM python:3.11\n")
    docker(version="echo 'Cannot connect to the Docker daemon' >&2; exit 1")
    result = ep("local-test", "--yes")
    assert result.status == 1
    assert (
        "this project has a Dockerfile, but no Docker engine answers (Cannot connect to the Docker daemon)"
        in result.err
    )
    assert "--ignore-docker" in result.err
    result = ep("local-test", "--yes", "--ignore-docker")
    assert result.status == 0
    assert "Running locally" in result.out
