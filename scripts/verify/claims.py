"""The claims of `make verify`, one after another on one platform; each prints what is claimed, the number, and whether it holds.

A claim is a function that returns its number in words and whether it holds. What its commands print goes to a log of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tunesmith
from eval_protocol.evaluation.intervals import wilson

from scripts.demo import BASE_MODEL, PROJECT, tell
from scripts.story import BIN, REPO, Story
from scripts.tiny_model.sums.problems import INSTRUCTION, Part, problem
from scripts.verify import kills

TEMPERATURES = ("0", "0.3", "0.7", "1")
FLIPPED_ROWS, FLIPPED_EPOCHS = 100, 2
PUBLISHED = REPO / ".venv-clients" / "bin"


@dataclass(frozen=True)
class Line:
    """One line of the result."""

    claim: str
    number: str
    holds: bool
    seconds: float


class Verification:
    """The platform that the claims are checked on, and what one claim leaves for the next."""

    def __init__(self, folder: Path, problems: int) -> None:
        self.folder, self.count = folder, problems
        self.problems = folder / "problems.jsonl"
        self.base = Path(tunesmith.__file__).parent / "catalog" / "models" / "tiny-math-v1"
        self.seed = secrets.randbelow(2**32)
        self.story = Story(folder / "platform", PROJECT)
        self.job: dict[str, Any] = {}
        self.write_problems()

    def write_problems(self) -> None:
        """Problems of a seed that nobody has seen, none of them a training row of the example."""
        shown = (PROJECT / "gsm8k_sample.jsonl").read_text()
        found: dict[str, str] = {}
        index = 0
        while len(found) < self.count:
            item = problem(f"verify-{self.seed}", index, Part.HELD_OUT)
            if item.question not in shown:
                found[item.question] = str(item.answer)
            index += 1
        lines = [
            {
                "messages": [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": question}],
                "answer": answer,
            }
            for question, answer in found.items()
        ]
        self.problems.write_text("".join(json.dumps(line) + "\n" for line in lines))

    def demo(self) -> tuple[str, bool]:
        """The demo: gain over the base at its best temperature, with its interval."""
        self.job, _, gain = tell(self.story, problems=self.count)
        holds = self.job["state"] == "JOB_STATE_COMPLETED" and gain["low"] > 0
        return (
            f"{gain['mean']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}], {self.count} problems a temperature",
            holds,
        )

    def plain_peft(self) -> tuple[str, bool]:
        """The adapter in plain PEFT against the base at its best temperature."""
        tuned = self.answer(self.adapter(self.model), ("1",))[0]
        base = max(self.answer(None, TEMPERATURES), key=lambda found: found["right"])
        low, _ = wilson(tuned["right"], tuned["n"])
        _, high = wilson(base["right"], base["n"])
        number = (
            f"{share(tuned)} at T = 1 against {share(base)} at the base's best T = {base['temperature']:g}, "
            f"{tuned['n']} problems of seed {self.seed}"
        )
        return number, low > high

    def flipped(self) -> tuple[str, bool]:
        """From the tuned model on, with 1 - score as the score."""
        project = self.folder / "flipped"
        shutil.rmtree(project, ignore_errors=True)
        project.mkdir()
        source = (PROJECT / "evaluation.py").read_text()
        flipped = source.replace(
            "score=float(is_correct),\n        reason", "score=1 - float(is_correct),\n        reason", 1
        )
        if flipped == source:
            raise RuntimeError("the example's evaluation.py does not look as expected; its score was not flipped")
        (project / "evaluation.py").write_text(flipped.replace("gsm8k_example", "flipped"))  # an evaluator of its own
        shutil.copy(PROJECT / "requirements.txt", project)
        rows = (PROJECT / "gsm8k_sample.jsonl").read_text().splitlines(keepends=True)[:FLIPPED_ROWS]
        (project / "gsm8k_sample.jsonl").write_text("".join(rows))
        command = [
            "create",
            "rft",
            "--warm-start-from",
            self.model,
            "--epochs",
            FLIPPED_EPOCHS,
            "--output-model",
            "flipped",
        ]
        self.story.run([BIN / "ep", *command, "--skip-validation", "--yes", "--wait"], cwd=project)
        before = self.answer(self.adapter(self.model), ("1",))[0]
        after = self.answer(self.adapter("accounts/local/models/flipped"), ("1",))[0]
        _, high = wilson(after["right"], after["n"])
        return (
            f"{share(before)} -> {share(after)} in {self.story.job()['run']['optimizer_steps']} steps",
            high < 0.5 * (before["right"] / before["n"]),
        )

    def killed(self) -> tuple[str, bool]:
        """Two platforms, the same job; one of them is killed in eight ways."""
        order = [*kills.SINGLE[:3], "everything", *kills.SINGLE[3:], "everything"]
        order = order[: kills.ROWS * kills.EPOCHS // kills.CHUNK // 2]
        ended: dict[str, kills.Ended | BaseException] = {}

        def one(name: str, victims: list[str]) -> None:
            try:
                ended[name] = kills.run(self.folder / name, BASE_MODEL, victims, self.seed)
            except BaseException as error:  # noqa: BLE001 - carried to the thread that reports
                ended[name] = error

        threads = [threading.Thread(target=one, args=args) for args in (("undisturbed", []), ("killed", order))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for found in ended.values():
            if isinstance(found, BaseException):
                raise found
        calm, hurt = ended["undisturbed"], ended["killed"]
        assert isinstance(calm, kills.Ended)
        assert isinstance(hurt, kills.Ended)
        whole = [list(range(len(found.steps))) == found.steps for found in (calm, hurt)]
        holds = calm.sha256 == hurt.sha256 and calm.steps == hurt.steps and all(whole) and len(hurt.killed) >= 3
        number = f"{calm.sha256[:12]} and {hurt.sha256[:12]} after {len(hurt.steps)} steps, {len(hurt.killed)} kills ({', '.join(sorted(set(hurt.killed)))})"
        return number, holds

    def published(self) -> tuple[str, bool]:
        """The published client, unmodified: one command to a trained model."""
        self.command(["bash", "scripts/published_clients.sh", "eval-protocol"])
        told = json.loads(subprocess.check_output([BIN / "tunesmith", "env", "--json"], env=self.story.env, text=True))
        project = self.folder / "published"
        shutil.rmtree(project, ignore_errors=True)
        project.mkdir()
        for name in ("evaluation.py", "requirements.txt"):
            shutil.copy(PROJECT / name, project)
        rows = (PROJECT / "gsm8k_sample.jsonl").read_text().splitlines(keepends=True)[:40]
        (project / "gsm8k_sample.jsonl").write_text("".join(rows))
        version = self.command(
            [PUBLISHED / "python", "-c", "from importlib.metadata import version; print(version('eval-protocol'))"]
        )
        command = [
            "create",
            "rft",
            "--base-model",
            BASE_MODEL,
            "--skip-validation",
            "--yes",
            "--output-model",
            "published",
        ]
        env = {**told, "PATH": f"{PUBLISHED}:{os.environ['PATH']}"}
        printed = self.command([PUBLISHED / "eval-protocol", *command], cwd=project, env=env)
        found = re.search(r"reinforcementFineTuningJobs/([a-z0-9-]+)", printed)
        if found is None:
            raise RuntimeError(f"the published client printed no job: {printed[-300:]}")
        while (job := self.story.job(found.group(1)))["state"] in (
            "JOB_STATE_PENDING",
            "JOB_STATE_VALIDATING",
            "JOB_STATE_RUNNING",
        ):
            time.sleep(0.5)
        number = (
            f"eval-protocol {version.strip()}: {job['state']}, {job.get('run', {}).get('optimizer_steps', 0)} steps"
        )
        return number, job["state"] == "JOB_STATE_COMPLETED"

    def replayed(self) -> tuple[str, bool]:
        """A recorded step of the demo's job, computed again by a script with plain PEFT and AdamW."""
        step = self.job["run"]["optimizer_steps"] - 1
        folder = self.folder / "step"
        shutil.rmtree(folder, ignore_errors=True)
        job = self.job["name"].rsplit("/", 1)[-1]
        self.command([BIN / "tunesmith", "job", "export", job, "--step", step, "-o", folder], env=self.story.env)
        argv = [sys.executable, REPO / "benchmarks" / "replay_step.py", folder, "--json"]
        ended = subprocess.run(argv, capture_output=True, text=True, cwd=self.folder)
        if not ended.stdout.strip():
            raise RuntimeError(f"the replay failed: {ended.stderr[-300:]}")
        replayed = json.loads(ended.stdout)["steps"][-1]
        moved = f"the step moved it by {replayed['moved']:.1e}"
        return (
            f"largest difference {replayed['largest_difference']:.1e} in adapter {step + 1} ({moved})",
            ended.returncode == 0,
        )

    @property
    def model(self) -> str:
        """The demo's model."""
        return self.job["trainingConfig"]["outputModel"]

    def adapter(self, model: str) -> Path:
        """The adapter of a model, as a user downloads it."""
        folder = self.folder / "adapters" / model.rsplit("/", 1)[-1]
        if not folder.exists():
            self.command([BIN / "tunesmith", "model", "download", model, "--output-dir", folder], env=self.story.env)
        return folder

    def answer(self, adapter: Path | None, temperatures: tuple[str, ...]) -> list[dict[str, Any]]:
        """Right answers to the fresh problems at each temperature."""
        argv = [sys.executable, REPO / "scripts/verify/plain_peft.py", "--base", self.base, "--problems", self.problems]
        argv += ["--temperatures", *temperatures, *(["--adapter", adapter] if adapter else [])]
        return [json.loads(line) for line in self.command(argv).splitlines() if line.startswith("{")]

    def command(self, argv: list[Any], **how: Any) -> str:
        """Run a command to its end; its standard output. Raises RuntimeError with the end of what it said."""
        ended = subprocess.run(
            [str(word) for word in argv], capture_output=True, text=True, stdin=subprocess.DEVNULL, **how
        )
        if ended.returncode:
            raise RuntimeError(f"{Path(argv[0]).name} {argv[1]} failed: {(ended.stdout + ended.stderr)[-600:]}")
        return ended.stdout


def share(found: dict[str, Any]) -> str:
    """A share of right answers with Wilson's 95 % interval."""
    low, high = wilson(found["right"], found["n"])
    return f"{found['right'] / found['n']:.3f} [{low:.3f}, {high:.3f}]"


def main() -> int:
    """Check the claims; exit code 0 when all hold. The lines are also in `result.json` of the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--problems", type=int, default=300)
    parser.add_argument("--started", type=float, default=time.monotonic())
    parser.add_argument("--only", nargs="+", default=[])
    options = parser.parse_args()
    shutil.rmtree(options.folder / "adapters", ignore_errors=True)
    check = Verification(options.folder, options.problems)
    claims: list[tuple[str, Callable[[], tuple[str, bool]]]] = [
        (
            "From wheels in an empty environment, the demo's model beats its base at the base's best temperature",
            check.demo,
        ),
        ("So does its adapter in plain transformers and PEFT, on fresh problems", check.plain_peft),
        (
            "One recorded step, computed again by an independent script, gives the same adapter within 1e-5",
            check.replayed,
        ),
        ("The reward's sign flipped, accuracy collapses", check.flipped),
        ("The published client, unmodified, trains a model with one command", check.published),
        ("Killed (SIGKILL) at random instants, a job ends with bitwise the same adapter", check.killed),
    ]
    if options.folder not in Path(tunesmith.__file__).parents:
        raise SystemExit(f"This is not the environment of the wheels: tunesmith is imported from {tunesmith.__file__}.")
    lines: list[Line] = []
    with check.story.platform():
        for claim, method in claims:
            if options.only and method.__name__ not in (*options.only, "demo"):
                continue
            lines.append(checked(claim, method, options.folder / f"{method.__name__}.log"))
            tell_line(lines[-1])
    seconds = time.monotonic() - options.started
    (options.folder / "result.json").write_text(
        json.dumps({"lines": [asdict(line) for line in lines], "seconds": seconds}, indent=1)
    )
    failed = sum(not line.holds for line in lines)
    print(
        f"\n{len(lines) - failed} of {len(lines)} hold; {seconds / 60:.1f} minutes; logs and result.json in {options.folder}"
    )
    return 1 if failed else 0


def checked(claim: str, method: Callable[[], tuple[str, bool]], log: Path) -> Line:
    """Check one claim. Whatever its commands print goes to `log`; whatever goes wrong is a claim that does not hold."""
    print(f"  ...   {claim}", flush=True)
    started = time.monotonic()
    with output_to(log):
        try:
            number, holds = method()
        except Exception as error:  # noqa: BLE001 - a claim that cannot be checked has failed, and the others go on
            traceback.print_exc()
            number, holds = f"{type(error).__name__}: {error} (more in {log})", False
    return Line(claim, number, holds, round(time.monotonic() - started, 1))


@contextmanager
def output_to(log: Path) -> Iterator[None]:
    """Standard output and error, those of child processes included, into a file."""
    kept = [os.dup(number) for number in (1, 2)]
    with open(log, "w") as file:
        try:
            sys.stdout.flush()
            for number in (1, 2):
                os.dup2(file.fileno(), number)
            yield
        finally:
            sys.stdout.flush()
            for number, old in zip((1, 2), kept, strict=True):
                os.dup2(old, number)
                os.close(old)


def tell_line(line: Line) -> None:
    """PASS or FAIL, the claim, the number."""
    verdict = "PASS" if line.holds else "FAIL"
    print(f"  {verdict}  {line.claim}: {line.number} ({line.seconds:.0f} s)", flush=True)


if __name__ == "__main__":
    sys.exit(main())
