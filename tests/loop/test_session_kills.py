"""kill -9 in every phase of a session, of each process and of the whole machine: it ends as if nothing had happened.

The session that is killed is held to one that is not, with the same plan: the same approved plan, winner and figures, the same
weights, every job once, every line of the history once. Instants are random, from one seed that is printed; `TUNESMITH_KILL_SEEDS`
(`make verify-agent`) names others, one run each.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.loop import sessions
from tests.loop.platform import Platform
from tests.loop.sessions import ENDED, ROOT, tunesmith
from tests.loop.test_story import names_of

MACHINE = "machine"
"""Everything dies at once, and `tunesmith up` is started again."""
PLAN = {
    "dataset": "problems",
    "baseModels": ["tiny-math-v1"],
    "grid": {"points": [{"loraRank": 8, "learningRate": 5e-3}, {"loraRank": 4, "learningRate": 0}]},
    "epochs": 1,
    "evaluation": {"path": "validation_loss"},
}
KILLS: dict[str, tuple[str, ...]] = {
    "inspection": ("worker",),
    "plan": ("learner",),
    "plan gate": (MACHINE,),
    "sweep": ("learner", "worker", "web"),
    "promotion gate": ("worker", "web"),
    "final_run": (MACHINE,),
    "evaluation": ("worker", "engine"),
    "deployment": ("worker",),
    "report": ("worker",),
}
"""Who dies in which phase, in this order. In `plan` the learner is the measurement of this machine."""
MUST = {"plan gate", "sweep", "promotion gate", "final_run", "evaluation"}
"""Phases that are too long to be missed; another one may be over before the blow falls."""
ANSWERS = {"plan": "Approved, proceed.", "promotion": "Proceed with the winning config."}
SEEDS = [int(seed) for seed in os.environ.get("TUNESMITH_KILL_SEEDS", "").split()] or [random.randrange(1, 10**6)]
LOSSES = ("loss", "score", "bitsPerByte", "pValue", "better", "failed")


@pytest.fixture
def platform(short_tmp: Path) -> Iterator[Platform]:
    with Platform(short_tmp / "h", lease_seconds=5) as running:
        sessions.dataset(running, "problems", sessions.problems(50))
        yield running


def kill(platform: Platform, victim: str) -> bool:
    """Kill it, and say whether it was there."""
    assert platform.process is not None
    top = psutil.Process(platform.process.pid)
    below = top.children(recursive=True)
    if victim == MACHINE:
        for process in (top, *below):
            _shoot(process)
        platform.process.wait(10)
        psutil.wait_procs(below, 10)
        platform.start()
        return True
    pid = names_of({child.pid for child in below}).get(victim)
    return pid is not None and _shoot(psutil.Process(pid))


def _shoot(process: psutil.Process) -> bool:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return False
    return True


def place_of(session: dict[str, Any]) -> str:
    """The phase, or the gate that it waits at."""
    return f"{session['phase']} gate" if session["pendingGate"] else session["phase"]


def carry(platform: Platform, identity: str, plan: dict[str, Any], kills: Mapping[str, Sequence[str]], seed: int):
    """One session from its plan to its end, with these kills on the way; the session, and who was killed where."""
    rng, done = random.Random(seed), []
    waiting = {place: list(victims) for place, victims in kills.items()}
    patience: dict[str, float] = {}
    tunesmith(
        platform, "session", "create", "--session-id", identity, "--plan", sessions.plan_file(platform, identity, plan)
    )
    deadline = time.monotonic() + 500
    while time.monotonic() < deadline:
        session = sessions.found(platform, identity)
        if session is None:
            time.sleep(0.02)
            continue
        if session["state"] in ENDED:
            return session, done
        place = place_of(session)
        patience.setdefault(place, time.monotonic() + 20)
        if waiting.get(place):
            brief = place in ("inspection", "deployment", "report")
            time.sleep(rng.uniform(0, 0.1 if brief else 0.8))
            if kill(platform, waiting[place][0]):
                done.append((place, waiting[place].pop(0)))
            elif place.endswith("gate") and time.monotonic() > patience[place]:
                waiting[place].clear()
        elif session["pendingGate"]:
            if answer(platform, identity, session["pendingGate"]) and kills:
                kill(platform, "worker")  # on top of the answer, which stays given
        else:
            time.sleep(0.01)
    raise AssertionError(f"it did not end: {sessions.found(platform, identity)}")


def answer(platform: Platform, identity: str, gate: dict[str, Any]) -> bool:
    """Say yes. False where the web process was just being started: the next look sees whether it was taken."""
    assert gate["kind"] in ANSWERS, gate["text"]
    try:
        platform.request("POST", f"{ROOT}/sessions/{identity}:send", {"message": ANSWERS[gate["kind"]]})
    except OSError as error:
        if getattr(error, "code", None) is not None:
            raise
        return False
    return True


def runs_of(platform: Platform, identity: str) -> dict[str, str]:
    """The hash of each training job's output, by what the job is of; no step of it was made twice."""
    hashes = {}
    for run in sorted((platform.data_dir / "runs").glob(f"sft-{identity}-*")):
        steps = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        trained = [line["step"] for line in steps if "grad_norm" in line]
        assert trained == list(range(len(trained))) or trained == list(range(1, len(trained) + 1)), run.name
        hashes[run.name.removeprefix(f"sft-{identity}-")] = json.loads((run / "output" / "result.json").read_text())[
            "sha256"
        ]
    return hashes


def results_of(platform: Platform, session: dict[str, Any], identity: str) -> dict[str, Any]:
    """What must not depend on kills."""
    told = [event for event in sessions.events(platform, identity) if event["kind"] != "status_info"]
    jobs = platform.get(f"{ROOT}/supervisedFineTuningJobs?pageSize=200")["supervisedFineTuningJobs"]
    held_out = {name: session["heldOut"][name] for name in ("metric", "base", "tuned", "difference", "pValue")}
    return {
        "plan": session["approvedPlan"],
        "winner": session["winner"],
        "candidates": [{name: each.get(name) for name in LOSSES} for each in session["candidates"]],
        "held out": held_out,
        "weights": runs_of(platform, identity),
        "jobs": sorted(
            job["name"].rsplit("/", 1)[-1].replace(identity, "") for job in jobs if f"-{identity}-" in job["name"]
        ),
        "history": [event["kind"] for event in told],
    }


@pytest.mark.parametrize("seed", SEEDS, ids=str)
def test_session_killed_in_every_phase_ends_as_if_nothing_had_happened(platform: Platform, seed: int) -> None:
    print(f"seed {seed}")
    killed, done = carry(platform, "killed", PLAN, KILLS, seed)
    print(done)
    assert killed["state"] == "succeeded", killed["status"]
    calm, _ = carry(platform, "calm", PLAN, {}, 0)
    assert results_of(platform, killed, "killed") == results_of(platform, calm, "calm")
    assert killed["winner"] == 1
    assert {place for place, _ in done} >= MUST
    reply = platform.chat(killed["deployed"]["deployment"], "What is 3 + 4?", max_tokens=4)
    assert reply["choices"]
