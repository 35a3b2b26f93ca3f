"""`ep local-test`: run an evaluator on this machine through pytest, as `create rft` does before it uploads anything."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from eval_protocol.cli.session import Invocation, Printer, reports_errors

if TYPE_CHECKING:
    from eval_protocol.settings import Profile

LOW_THRESHOLD = "0.001"
"""The test passes when anything scored at all."""
IMAGE = "ep-evaluator:local"
CONTAINER_HOME = "/container_home"
FORWARDED = ("FIREWORKS_API_BASE", "FIREWORKS_API_KEY")


@dataclass(frozen=True)
class TestRun:
    """How the evaluator is to be run."""

    __test__ = False

    root: Path
    entry_point: str
    """`path/to/file.py::function`, relative to root."""
    threshold: str = LOW_THRESHOLD
    max_rows: int | None = None
    """None: all rows."""
    ignore_docker: bool = False
    docker_build_extra: str = ""
    docker_run_extra: str = ""
    output: str = "-vs"
    """How much pytest tells; `-qqs`: what the evaluator prints, and failures, without pytest's own lines."""


@click.command("local-test")
@click.option(
    "--entry", metavar="FILE[::FUNC]", help="Which evaluator to run. Default: the only one here, or you are asked."
)
@click.option("--yes", "-y", is_flag=True, help="Ask nothing; needs --entry unless there is exactly one evaluator.")
@click.option("--ignore-docker", is_flag=True, help="Run on this machine although there is a Dockerfile.")
@click.option(
    "--docker-build-extra", default="", metavar="ARGS", help="""More arguments for docker build, e.g. "--no-cache"."""
)
@click.option(
    "--docker-run-extra", default="", metavar="ARGS", help="""More arguments for docker run, e.g. "--memory 2g"."""
)
@click.pass_obj
@reports_errors
def local_test(
    invocation: Invocation,
    entry: str | None,
    yes: bool,
    ignore_docker: bool,
    docker_build_extra: str,
    docker_run_extra: str,
) -> int:
    """Run an evaluator on this machine, as the platform would.

    Uses the project's Dockerfile when there is one. Passes when at least one rollout scored above zero. The secrets of .env
    reach the evaluator, as they would on the platform; what is set in the environment wins.
    """
    from eval_protocol.cli.selection import select_test
    from eval_protocol.settings import load_profile

    say = Printer(verbose=invocation.verbose)
    root = Path.cwd()
    if entry:
        root, entry = _project(root, entry)
    test = select_test(root, say, entry=entry, assume_yes=yes, verb="Run")
    if test is None:
        return 1
    run = TestRun(
        root, test.entry_point, ignore_docker=ignore_docker, docker_build_extra=docker_build_extra, docker_run_extra=docker_run_extra
    )  # fmt: skip
    return run_evaluator(run, run_environment(root, None, load_profile()), say)


def _project(here: Path, entry: str) -> tuple[Path, str]:
    """Where the evaluator is run, and its entry with an absolute file.

    Run here; a file that lies elsewhere is run in the nearest folder above it with a requirements.txt, else in its own.
    """
    from eval_protocol.cli.selection import entry_file

    file = entry_file(here, entry)
    _, separator, function = entry.partition("::")
    root = here
    if not file.is_relative_to(here.resolve()):
        root = next((folder for folder in file.parents if (folder / "requirements.txt").exists()), file.parent)
    return root, f"{file}{separator}{function}"


def run_environment(root: Path, env_file: str | None, profile: Profile | None) -> dict[str, str]:
    """The environment of a local run: ours, the secrets that the platform would give, and the platform to call."""
    from eval_protocol.cli.secrets import find_secrets

    found = find_secrets(root, env_file, profile.api_key if profile else None)
    environment = {**found.values, **os.environ}
    if profile is not None:
        environment |= {"FIREWORKS_API_BASE": profile.api_base, "FIREWORKS_API_KEY": profile.api_key}
    return environment


def run_evaluator(run: TestRun, environment: dict[str, str], say: Printer) -> int:
    """Run the evaluator in Docker (a Dockerfile is there) or on this machine. Returns the exit status of the run."""
    if (run.root / "Dockerfile").exists() and not run.ignore_docker:
        return _in_docker(run, environment, say)
    command = [sys.executable, "-m", "pytest", *_pytest_arguments(run)]
    say(f"Running locally: pytest {shlex.join(_pytest_arguments(run))}")
    return _call(command, run.root, environment, say)


def _pytest_arguments(run: TestRun) -> list[str]:
    rows = ["--ep-max-rows", str(run.max_rows)] if run.max_rows is not None else []
    return ["--ep-success-threshold", run.threshold, *rows, run.entry_point, run.output]


def _in_docker(run: TestRun, environment: dict[str, str], say: Printer) -> int:
    problem = docker_problem()
    if problem:
        say(f"Error: this project has a Dockerfile, but {problem}.", err=True)
        say("Start the engine, or run on this machine with --ignore-docker.", err=True)
        return 1
    dockerfile = run.root / "Dockerfile"
    build = ["docker", "build", *shlex.split(run.docker_build_extra), "-t", IMAGE, "-f", str(dockerfile), str(run.root)]
    say(f"Building the image: {shlex.join(build)}")
    if status := _call(build, run.root, environment, say):
        return status
    results = Path("~/.tunesmith").expanduser()
    results.mkdir(exist_ok=True)
    command = [
        "docker", "run", "--rm", "--network", "host",
        "-v", f"{run.root}:/workspace", "-w", "/workspace",
        "-v", f"{results}:{CONTAINER_HOME}/.tunesmith", "-e", f"HOME={CONTAINER_HOME}",
        *(part for name in FORWARDED if name in environment for part in ("-e", name)),
        "--user", f"{os.getuid()}:{os.getgid()}",
        *shlex.split(run.docker_run_extra), IMAGE, "pytest", *_pytest_arguments(run),
    ]  # fmt: skip
    say(f"Running in Docker: pytest {shlex.join(_pytest_arguments(run))}")
    return _call(command, run.root, environment, say)


def docker_problem() -> str | None:
    """Why Docker cannot be used, or None when its engine answers."""
    if shutil.which("docker") is None:
        return "there is no docker command here"
    try:
        asked = subprocess.run(
            ["docker", "version", "--format", "{{.Server.Version}}"], capture_output=True, text=True, timeout=15, check=False
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return "no Docker engine answers (docker version timed out)"
    if asked.returncode:
        words = (asked.stderr or asked.stdout).strip().splitlines()
        return f"no Docker engine answers ({words[-1] if words else 'docker version failed'})"
    return None


def _call(command: list[str], root: Path, environment: dict[str, str], say: Printer) -> int:
    """Run a child with its output where people read; the story stays off stdout with `--json`."""
    return subprocess.run(
        command, cwd=root, env=environment, stdout=sys.stderr if say.as_json else None, check=False
    ).returncode
