"""One job under fire: arm a place or await a moment, kill, let it recover or not, and go on until the job has ended."""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path

import psutil

from benchmarks.kills.client import Client
from benchmarks.kills.instants import MODULES, MOMENTS, PLACES, SUPERVISOR, Moment, Place
from tests.loop import projects
from tests.loop.platform import BIN, FINAL, Platform

HOOK = Path(__file__).with_name("hook")
JOB = "kills"
NEEDED = ("web", "worker", "engine", "orchestrator", "learner", "evaluator host")
"""Processes of a running job, all of them up: it has recovered."""
PLACE_SECONDS, RECOVERY_SECONDS, START_SECONDS = 180.0, 300.0, 600.0
GONE_SECONDS = 30.0
POLL_SECONDS = 0.01
ALONE, PAIR, EVERYTHING = "alone", "pair", "everything"
WEIGHTS = {ALONE: 5, PAIR: 2, EVERYTHING: 2}
AT_ONCE_SHARE = 0.2
"""Kills that do not wait for the recovery from the one before."""


@dataclass(frozen=True)
class Size:
    """Of a job."""

    rows: int
    chunk: int
    epochs: int
    n: int = 4
    max_tokens: int = 24

    @property
    def chunks(self) -> int:
        """Of which nearly each gives a step: hardly ever are all scores of all its groups equal."""
        return self.rows // self.chunk * self.epochs


@dataclass(frozen=True)
class Kill:
    """One kill, as it happened."""

    instant: Place | Moment
    victims: tuple[str, ...]
    step: int
    """Batches that were sealed at that time."""
    recovering: bool
    """Whether something killed before was not back yet."""


@dataclass
class Ended:
    """A job that ended, on a platform that still runs."""

    platform: Platform
    job: dict
    run_dir: Path
    size: Size
    kills: list[Kill]
    client: Client


@dataclass
class Fire:
    """What a job is exposed to.

    Attributes:
        kills: How many; fewer where the job ends before.
        seed: Of what comes where and when.
        plan: (instant, who) in this order; None: all instants in random order, again and again.
        until: No kill after this, by the monotonic clock.
    """

    kills: int
    seed: int
    plan: Sequence[tuple[Place | Moment, str]] | None = None
    until: float = math.inf
    done: list[Kill] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self._waiting: list[tuple[Place | Moment, str]] = list(self.plan or ())

    @property
    def over(self) -> bool:
        """Whether every kill was done, or the time is over."""
        return len(self.done) >= self.kills or time.monotonic() > self.until

    def next(self) -> tuple[Place | Moment, str]:
        """What comes next."""
        if not self._waiting:
            instants = self.rng.sample([*PLACES, *MOMENTS], len(PLACES) + len(MOMENTS))
            self._waiting = [(each, self.rng.choices([*WEIGHTS], [*WEIGHTS.values()])[0]) for each in instants]
        return self._waiting.pop(0)


def run(home: Path, size: Size, fire: Fire, say: Callable[[str], None] = print, longest: float = 3600) -> Ended:
    """Start a platform in `home` and one job on it, and end with it; the caller stops the platform.

    Raises RuntimeError when it does not end within `longest` seconds.
    """
    shutil.rmtree(home, ignore_errors=True)
    folder = home / "kills"
    folder.mkdir(parents=True)
    platform = Platform(home, lease_seconds=5)
    paths = [str(HOOK), *filter(None, [os.environ.get("PYTHONPATH")])]
    platform.env |= {"PYTHONPATH": os.pathsep.join(paths), "KILLS_FOLDER": str(folder)}
    project = projects.write(home / "project", dataset=projects.rows(size.rows))
    _start(platform)
    try:
        # So slow that it never says the same four times, which would make no step.
        rate = ("--learning-rate", "1e-4")
        flags = ("--epochs", size.epochs, "--chunk-size", size.chunk, "--n", size.n, "--job-id", JOB, *rate)
        command = ("create", "rft", "--yes", "--skip-validation", "--base-model", projects.BASE, *flags)
        created = platform.run(BIN / "ep", *command, "--max-output-tokens", size.max_tokens, cwd=project)
        if created.returncode:
            raise RuntimeError(f"ep create rft failed: {created.stdout}")
        with Client(platform, projects.BASE, fire.seed) as client:
            job = _Gunner(platform, folder, fire, say).follow(longest)
        return Ended(platform, job, platform.data_dir / "runs" / JOB, size, fire.done, client)
    except BaseException:
        platform.__exit__()
        raise


class _Gunner:
    """Kills while a job runs."""

    def __init__(self, platform: Platform, folder: Path, fire: Fire, say: Callable[[str], None]) -> None:
        self.platform, self.folder, self.fire, self.say = platform, folder, fire, say
        self.run_dir = platform.data_dir / "runs" / JOB
        self.number = 0

    def follow(self, longest: float) -> dict:
        deadline = time.monotonic() + longest
        self._wait(lambda: self.run_dir.joinpath("asked.json").exists(), START_SECONDS)
        while time.monotonic() < deadline:
            if (job := self._final()) is not None:
                return job
            if self.fire.over:
                time.sleep(0.2)
                continue
            at_once = bool(self.fire.done) and self.fire.rng.random() < AT_ONCE_SHARE
            if not at_once:
                self._wait(lambda: self._pids().keys() >= {*NEEDED}, RECOVERY_SECONDS)
            self._strike()
        raise RuntimeError(f"The job did not end within {longest:g} s; see {self.platform.data_dir / 'logs'}.")

    def _strike(self) -> None:
        instant, how = self.fire.next()
        pids = self._pids()
        if instant.process != SUPERVISOR and instant.process not in pids:
            self._wait(lambda: instant.process in self._pids(), RECOVERY_SECONDS)
            pids = self._pids()
        recovering = not pids.keys() >= {*NEEDED}
        victims = self._victims(instant, how, pids)
        self.number += 1
        hit = [pids[name] for name in victims if name in pids]
        struck = self._at_place(instant, hit) if isinstance(instant, Place) else self._at_moment(instant, hit)
        if not struck:
            return
        step = len(list(self.run_dir.glob("batches/step-*.safetensors")))
        everything = SUPERVISOR in victims
        for pid in pids.values() if everything else hit:
            _await_end(pid)
        if everything:
            assert self.platform.process is not None
            self.platform.process.wait(20)
            _start(self.platform)
        shown = (EVERYTHING,) if everything else tuple(victims)
        kill = Kill(instant, shown, step, recovering)
        self.fire.done.append(kill)
        self.say(
            f"{len(self.fire.done)}/{self.fire.kills} step {step}: {instant.phase}, {instant.what}: {', '.join(shown)}"
        )

    def _victims(self, instant: Place | Moment, how: str, pids: dict[str, int]) -> list[str]:
        if instant.process == SUPERVISOR or how == EVERYTHING:
            return [SUPERVISOR, *([instant.process] if instant.process != SUPERVISOR else [])]
        others = [name for name in NEEDED if name != instant.process and name in pids]
        return [instant.process, *(self.fire.rng.sample(others, 1) if how == PAIR and others else [])]

    def _at_place(self, place: Place, pids: list[int]) -> bool:
        """Arm it, and wait until somebody has fired; False when nobody did in time."""
        armed, fired = self.folder / "armed.json", self.folder / f"fired-{self.number}.json"
        content = {
            "number": self.number,
            "act": place.act,
            "module": MODULES[place.process],
            "where": place.where,
            "pids": pids,
        }
        temporary = armed.with_suffix(".tmp")
        temporary.write_text(json.dumps(content))
        temporary.rename(armed)
        if self._wait(fired.exists, PLACE_SECONDS):
            return True
        try:
            armed.rename(armed.with_suffix(".missed"))
        except FileNotFoundError:  # at the last moment
            return True
        return False

    def _at_moment(self, moment: Moment, pids: list[int]) -> bool:
        wanted = self._grown(moment.grows) + self.fire.rng.randint(1, moment.most)
        if not self._wait(lambda: self._grown(moment.grows) >= wanted, PLACE_SECONDS):
            return False
        time.sleep(self.fire.rng.uniform(0, moment.seconds))
        hit = [process for pid in pids if (process := _process(pid)) is not None]
        for process in hit:
            process.kill()
        return bool(hit)

    def _grown(self, name: str) -> int:
        path = self.run_dir / name
        if path.is_dir():
            return len(list(path.glob("step-*")))
        if name == "asked.json":
            return len(json.loads(path.read_text()))
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def _pids(self) -> dict[str, int]:
        """Our processes by name; of several with one command line the oldest, which forked the others."""
        assert self.platform.process is not None
        found = {SUPERVISOR: self.platform.process.pid}
        try:
            below = psutil.Process(self.platform.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return found
        for process in sorted(below, key=lambda process: process.pid):
            try:
                line = process.cmdline()
            except psutil.Error:
                continue
            for name, module in MODULES.items():
                if module in line and "-S" not in line:  # with -S it is about to become what it names
                    found.setdefault(name, process.pid)
        return found

    def _final(self) -> dict | None:
        """The job once it has ended; None before, and while the web process is away."""
        try:
            job = self.platform.job(f"accounts/local/reinforcementFineTuningJobs/{JOB}")
        except (OSError, HTTPException):
            return None
        return job if job["state"] in FINAL else None

    def _wait(self, until: Callable[[], object], seconds: float) -> bool:
        """Whether it came true within so many seconds, and before the job had ended."""
        deadline, looked = time.monotonic() + seconds, time.monotonic()
        while time.monotonic() < deadline:
            if until():
                return True
            if time.monotonic() - looked > 1:
                looked = time.monotonic()
                if self._final() is not None:
                    return bool(until())
            time.sleep(POLL_SECONDS)
        return False


def _start(platform: Platform) -> None:
    """Start it, on a machine that may be busy with much else. Raises AssertionError when it does not come up."""
    try:
        platform.start()
    except AssertionError:
        if platform.process is None or platform.process.poll() is not None:
            raise
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                platform.get("/health")
                return
            except (OSError, HTTPException):
                if time.monotonic() > deadline:
                    raise
                time.sleep(POLL_SECONDS)


def _await_end(pid: int) -> None:
    """Raises RuntimeError when it outlives SIGKILL; whoever is left as a zombie has ended."""
    deadline = time.monotonic() + GONE_SECONDS
    while (process := _process(pid)) is not None:
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                return
        except psutil.NoSuchProcess:
            return
        if time.monotonic() > deadline:
            raise RuntimeError(f"process {pid} outlived SIGKILL by {GONE_SECONDS:g} s")
        time.sleep(POLL_SECONDS)


def _process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.NoSuchProcess:
        return None
