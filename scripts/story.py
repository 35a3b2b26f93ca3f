"""What the demos share: a platform of their own, steps told on the terminal, and the table of what came out."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from scripts.held_out import TEMPERATURES, Measured, difference

REPO = Path(__file__).resolve().parents[1]
DEMO = REPO / ".demo"
BIN = Path(sys.executable).parent
console = Console(highlight=False)


class Story:
    """A platform in a folder of its own, and the example that is run against it.

    Args:
        folder: gets `data/`, `home/` and `up.log`; what an earlier story left there is removed.
        project: the evaluator's folder.
        port: wanted; another is taken where it is in use. 0: any.
    """

    def __init__(self, folder: Path, project: Path, port: int = 7777) -> None:
        self.folder, self.project = folder, project
        for name in ("data", "home"):
            shutil.rmtree(folder / name, ignore_errors=True)
        (folder / "up.log").unlink(missing_ok=True)
        self.home = folder / "home"
        self.home.mkdir(parents=True)
        self.port = free_port(port)
        self.url = f"http://127.0.0.1:{self.port}"
        own = {k: v for k, v in os.environ.items() if not k.startswith(("FIREWORKS_", "EP_", "TUNESMITH_"))}
        self.env = own | {"HOME": str(self.home), "PATH": f"{BIN}:{os.environ['PATH']}"}
        self._platform: subprocess.Popen[bytes] | None = None

    @contextmanager
    def platform(self) -> Iterator[None]:
        """The platform, started and stopped, also where the story itself is ended. Raises RuntimeError when it does not come up."""
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        self.start()
        try:
            yield
        finally:
            self.stop()

    def start(self) -> None:
        """Start the platform and wait until it answers. Raises RuntimeError when it does not."""
        with open(self.folder / "up.log", "ab") as log:
            argv = [BIN / "tunesmith", "up", "--port", str(self.port), "--data-dir", str(self.folder / "data")]
            self._platform = subprocess.Popen(argv, env=self.env, stdout=log, stderr=log, start_new_session=True)
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop it, as Ctrl-C would."""
        assert self._platform is not None
        self._platform.send_signal(signal.SIGTERM)
        self._platform.wait(30)

    def kill(self) -> None:
        """kill -9: every process of the platform dies with it."""
        assert self._platform is not None
        self._platform.kill()
        self._platform.wait()

    @property
    def pid(self) -> int:
        """Of `tunesmith up`."""
        assert self._platform is not None
        return self._platform.pid

    @property
    def profile(self) -> Path:
        """The client profile that the platform wrote."""
        return self.home / ".tunesmith" / "profile.json"

    def run(self, argv: list[object], env: Mapping[str, str] | None = None, cwd: Path | None = None) -> None:
        """Run in the example's folder, on this terminal: its progress is shown live. Raises RuntimeError when it fails."""
        ended = subprocess.run([str(word) for word in argv], cwd=cwd or self.project, env={**self.env, **(env or {})})
        if ended.returncode != 0:
            raise RuntimeError(f"{' '.join(str(word) for word in argv)} ended with status {ended.returncode}")

    def job(self, job_id: str | None = None) -> dict[str, Any]:
        """A job by its id; without one the newest."""
        jobs = "accounts/local/reinforcementFineTuningJobs"
        return self.get(f"{jobs}/{job_id}") if job_id else self.get(jobs)["reinforcementFineTuningJobs"][0]

    def get(self, resource: str) -> dict[str, Any]:
        """One answer of the REST API, with the key of the profile."""
        key = json.loads(self.profile.read_text())["api_key"]
        request = urllib.request.Request(f"{self.url}/v1/{resource}", headers={"Authorization": f"Bearer {key}"})
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.loads(response.read())

    def linger(self) -> None:
        """With a terminal the platform stays until Ctrl-C; else say how to bring it back."""
        assert self._platform is not None
        if sys.stdin.isatty() and sys.stdout.isatty():
            console.print(f"\nThe platform is still running at {self.url}; Ctrl-C stops it.")
            try:
                self._platform.wait()
            except KeyboardInterrupt:
                console.print("stopping")
            return
        folder = self.folder.relative_to(REPO) if self.folder.is_relative_to(REPO) else self.folder
        console.print("\nThe platform was stopped. Bring it back with:")
        console.print(f"  HOME=$PWD/{folder}/home .venv/bin/tunesmith up --port {self.port} --data-dir {folder}/data")

    def links(self, job: dict[str, Any]) -> dict[str, str]:
        """The dashboard's pages of a job and of what belongs to it."""
        places = {
            "job": ("fine-tuning/reinforcement", job["name"]),
            "evaluator": ("evaluators", job["evaluator"]),
            "dataset": ("datasets", job["dataset"]),
            "model": ("models", job["trainingConfig"]["outputModel"]),
        }
        return {
            what: f"{self.url}/dashboard/{place}/{name.rsplit('/', 1)[-1]}" for what, (place, name) in places.items()
        }

    def _wait(self) -> None:
        assert self._platform is not None
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and self._platform.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=5):
                    if self.profile.exists():
                        return
            except OSError:
                time.sleep(0.2)
        raise RuntimeError("the platform did not come up:\n" + (self.folder / "up.log").read_text()[-2000:])


def step(title: str, command: str = "") -> None:
    """Announce what follows."""
    console.rule(f"[bold]{title}")
    if command:
        console.print(f"$ {command}", style="cyan")


def say(text: str) -> None:
    """A line beside the story."""
    console.print(f"  {text}", style="dim")


def scores(before: Measured, after: Measured) -> dict[str, float]:
    """Print the table of both models and the gain; the gain as plain data."""
    table = Table(title="Held-out score, mean [95 % interval]")
    for column in ("", *(f"T = {t:g}" for t in TEMPERATURES), "pass@8"):
        table.add_column(column, justify="right" if column else "left")
    for name, measured in (("base", before), ("after RFT", after)):
        table.add_row(name, *(str(measured.at(t)) for t in TEMPERATURES), f"{measured.pass_at_8:.3f}")
    console.print(table)
    gain, low, high = difference(after.at(1.0), before.best)
    console.print(
        f"At temperature 1 the tuned model is [bold]{gain:+.3f}[/bold] [{low:+.3f}, {high:+.3f}] above the base at its best "
        f"temperature ({before.best.temperature:g}); {before.best.n} problems, one sample each.".replace(
            "[+", r"\[+"
        ).replace("[-", r"\[-")
    )
    return {"mean": gain, "low": low, "high": high}


def write_result(
    path: Path, before: Measured, after: Measured, gain: dict[str, float], job: dict[str, Any], **more: Any
) -> None:
    """What the terminal showed, as JSON."""
    memory = {process["name"]: process["peak_rss_mib"] for process in job.get("processes", [])}
    result = {
        "before": before.as_json(),
        "after": after.as_json(),
        "gain_over_best_base": gain,
        "job": {"name": job["name"], "state": job["state"], "run": job["run"], "peak_rss_mib": memory},
        "model": job["trainingConfig"]["outputModel"],
        **more,
    }
    path.write_text(json.dumps(result, indent=1))


def free_port(wanted: int) -> int:
    """`wanted` when it is free, else another."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
