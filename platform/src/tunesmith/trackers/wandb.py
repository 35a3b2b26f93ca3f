"""Points to Weights & Biases, by its own package (`tunesmith[trackers]`), which keeps them on disk while the service is away.

The run's id is the job's, so a tracker that was killed goes on with the same run. Its key is WANDB_API_KEY; WANDB_MODE=offline writes to
the run directory only (`wandb sync` sends that later).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tunesmith.errors import Unavailable
from tunesmith.trackers.points import Point

GROUPS = ("train", "reward", "rollouts", "time", "evaluator", "held_out")
STEP = "step"
_SENT = "wandb.sent"


class WandbTracker:
    """One job's run. `start`, `log` in order, `finish`."""

    def __init__(self, run_dir: Path, job: str, config: dict[str, Any], params: dict[str, str]) -> None:
        self._run_dir, self._job, self._config, self._params = run_dir, job, config, params
        self._run: Any = None
        self._sent = self._read_sent()

    def start(self) -> None:
        """Open the run. Raises Unavailable when the package is not there, or refuses."""
        try:
            import wandb  # noqa: PLC0415 - an extra # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise Unavailable('Weights & Biases needs its package: pip install "tunesmith[trackers]".') from error
        try:
            self._run = wandb.init(
                project=self._config.get("project") or "tunesmith",
                entity=self._config.get("entity") or None,
                id=self._config.get("run_id") or self._job.rsplit("/", 1)[-1],
                name=self._job.rsplit("/", 1)[-1],
                resume="allow",
                dir=str(self._run_dir),
                config=self._params,
                settings=wandb.Settings(
                    silent=True, console="off", init_timeout=60, disable_git=True, x_disable_stats=True
                ),
            )
        except (wandb.errors.Error, OSError) as error:
            raise Unavailable(f"Weights & Biases refused the run: {error}") from error
        for group in GROUPS:
            self._run.define_metric(f"{group}/*", step_metric=STEP)

    def log(self, point: Point) -> None:
        """One point, unless it was sent before."""
        if point.number < self._sent.get(point.file, 0):
            return
        self._run.log({**point.values, STEP: point.step})
        self._sent[point.file] = point.number + 1
        text = "".join(f"{name} {number}\n" for name, number in self._sent.items())
        temporary = self._run_dir / f".{_SENT}.tmp"
        temporary.write_text(text)
        temporary.replace(self._run_dir / _SENT)

    def finish(self, state: str) -> None:
        """Send the rest and close the run; a job that failed is a failed run."""
        self._run.finish(exit_code=int(state == "FAILED"))

    def _read_sent(self) -> dict[str, int]:
        file = self._run_dir / _SENT
        lines = (line.split() for line in file.read_text().splitlines()) if file.exists() else ()
        return {name: int(number) for name, number in lines}
