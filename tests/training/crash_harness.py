"""Kills learners. Run as its own process, which never computes a gradient (autograd and fork do not mix): it forks learners and watches them die.

    python -m tests.training.crash_harness events=TEMPLATE times=TEMPLATE ...

events: one learner per change that a run makes on disk, killed right before it; runs end in TEMPLATE-killed/{number}
some: the same for one change in five
times: 8 learners on one run directory, each killed after a random time; it ends in TEMPLATE-killed/run

TEMPLATE is a run directory with run.json and batches. The number of kills is printed for each.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from tunesmith.training.__main__ import train

from tests.training.makers import policy_of

CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir"}


def main() -> None:
    torch.set_num_threads(1)
    for number, argument in enumerate(sys.argv[1:]):
        mode, _, path = argument.partition("=")
        template, work = Path(path), Path(f"{path}-killed")
        if number == 0:
            base = json.loads((template / "run.json").read_text())["base_model"]["path"]
            policy_of(Path(base))  # what is imported late is imported once, here
        print(MODES[mode](template, work))


def by_event(template: Path, work: Path, stride: int = 1) -> int:
    event = 0
    while True:
        run_dir = work / f"{event:03d}"
        shutil.copytree(template, run_dir)
        killed = fork(lambda run_dir=run_dir, event=event: die_at(run_dir, event))
        if not killed:
            shutil.rmtree(run_dir)
            return event
        assert not fork(lambda run_dir=run_dir: train(run_dir))
        event += stride


def by_time(template: Path, work: Path, times: int = 8) -> int:
    rng, kills, run_dir = random.Random(0), 0, work / "run"
    shutil.copytree(template, run_dir)
    for _ in range(times):
        kills += fork(lambda: train(run_dir), after=rng.uniform(0.05, 0.2))
    assert not fork(lambda: train(run_dir))
    return kills


def die_at(run_dir: Path, event: int) -> None:
    left = event

    def hook(name: str, arguments: tuple) -> None:
        nonlocal left
        writes = name == "open" and any(letter in str(arguments[1]) for letter in "wax+")
        if (writes or name in CHANGES) and str(run_dir) in str(arguments[0]):
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1

    sys.addaudithook(hook)
    train(run_dir)


def some_events(template: Path, work: Path) -> int:
    return by_event(template, work, stride=5)


def fork(work: Callable[[], object], after: float | None = None) -> bool:
    """Run `work` in a child; True when it was killed, False when it ended well."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    if after is not None:
        time.sleep(after)
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


MODES = {"events": by_event, "some": some_events, "times": by_time}

if __name__ == "__main__":
    main()
