"""What an SFT and a DPO run share: where it stands, what it writes down, and how it goes on after it was killed.

The order that makes a restart exact: a step's metrics line, its evaluation (file, then line), then the checkpoint. A restart begins
at the newest whole checkpoint and takes the steps behind it again, which gives the same numbers; lines that are there
already are not written twice. Checkpoints are written after evaluations, at the end, and often enough in between.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable
from collections.abc import Sequence as Seq
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Any, TypeVar

import torch
from pydantic import BaseModel, ConfigDict
from torch.optim import AdamW

from tunesmith.errors import FailedPrecondition, InvalidArgument, TunesmithError
from tunesmith.runs.files import JsonLines, lock, read_json_lines, write_atomic
from tunesmith.runs.tuning import TuningConfig
from tunesmith.training.checkpoints import hash_base, load_weights, restore, write_checkpoint
from tunesmith.training.memory import WHAT_TO_DO, Budget, first_line, is_out_of_memory
from tunesmith.training.model import Policy, load_full, load_policy
from tunesmith.training.output import is_written, write_output
from tunesmith.training.packing import Sequence, default_budget
from tunesmith.training.prepare import Prepared
from tunesmith.training.schedules import evaluation_steps, rate

T = TypeVar("T")
ADAM_BETAS = (0.9, 0.95)
CHECKPOINT_SECONDS = 30.0
"""A restart repeats about so much work at most."""
CHECKPOINT_SHARE = 20
"""... but writing checkpoints takes no more than one part in so many of the time."""
STATUS_SECONDS = 0.5
TORN = (
    *(f".{name}.*.tmp" for name in ("status.json", "output", "render_samples.jsonl", "reference.safetensors")),
    *(f"{folder}/.*.tmp" for folder in ("data", "checkpoints", "evaluation")),
)
"""What a killed learner may leave unfinished. Others write into the run directory too: theirs is left alone."""


class Progress(BaseModel):
    """What a run knows beside its weights; part of its checkpoints."""

    model_config = ConfigDict(extra="forbid")

    best_step: int | None = None
    best_eval_loss: float | None = None
    eval_loss: float | None = None
    loss: float | None = None
    trained_tokens: int = 0


class TuningRun:
    """A run directory in the hands of its one process. Use it as a context manager: what ends the run is in `status.json`."""

    def __init__(self, run_dir: Path, config: TuningConfig) -> None:
        self.run_dir, self.config = run_dir, config
        self._budget = Budget(run_dir, config.max_tokens_per_micro_batch or default_budget())
        self.step = 0
        """Optimizer steps taken."""
        self.total_steps = 0
        self.progress = Progress()
        self._status: dict[str, Any] = {"state": "RUNNING", "stage": "preparing", "message": ""}
        self._status_written = 0.0

    def __enter__(self) -> TuningRun:
        self._lock: IO[str] = lock(self.run_dir / "learner.lock")
        self._entered = time.monotonic()
        self._seconds_before = float(_last_status(self.run_dir).get("seconds") or 0.0)
        torch.set_num_threads(self.config.threads)
        for pattern in TORN:
            for torn in self.run_dir.glob(pattern):
                shutil.rmtree(torn) if torn.is_dir() else torn.unlink()
        self._metrics = JsonLines(self.run_dir / "metrics.jsonl")
        self._recorded = {"loss": -1, "eval_loss": -1}
        for _, line in read_json_lines(self.run_dir / "metrics.jsonl"):
            for kind in self._recorded:
                if kind in line:
                    self._recorded[kind] = line["step"]
        if not self.is_written:  # else the last status stays: it knows more than this process
            self.say("preparing")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and isinstance(error, Exception):
            message = error.message if isinstance(error, TunesmithError) else _unexpected(error)
            self._status |= {"state": "FAILED", "message": message}
            self._write_status()
        self._metrics.close()
        self._lock.close()

    @property
    def is_written(self) -> bool:
        """Whether the output is there: nothing is left to do."""
        return is_written(self.run_dir)

    @property
    def budget(self) -> int:
        """Tokens of a micro-batch, at this step."""
        return self._budget.at(self.step)

    def fit(self, batch: Seq[Sequence], work: Callable[[int], T]) -> T:
        """`work(budget)`, which leaves the gradients of the batch's sequences; with half the budget where memory runs out (`memory.Budget`)."""

        def from_the_beginning(budget: int) -> T:
            self._optimizer.zero_grad(set_to_none=True)
            return work(budget)

        return self._budget.fit(self.step, [len(sequence.token_ids) for sequence in batch], from_the_beginning)

    def load_policy(self) -> Policy:
        """The base model with a LoRA (the warm start's where one is given), or with all parameters trainable at rank 0.

        Raises NotFound, InvalidArgument or FailedPrecondition with the reason when it cannot be trained.
        """
        config = self.config
        if config.lora_rank:
            return load_policy(config.base_model, config, config.seed)
        if config.warm_start is not None:
            raise InvalidArgument(
                "A warm start is a LoRA adapter, and full parameters (LoRA rank 0) cannot continue one; set the adapter's rank."
            )
        torch.manual_seed(config.seed)
        return load_full(config.base_model)

    def read(self, data: Prepared) -> None:
        """Tell how many rows there are, and how many of them train nothing."""
        self._status |= {"rows": data.rows, "rows_left_out": data.rows_left_out}

    def begin(self, policy: Policy, total_steps: int, epoch: Any) -> AdamW:
        """The optimizer, with policy and optimizer as the newest checkpoint left them; `step` says where that is.

        Weight decay spares vectors (norms, biases). `epoch(step)` gives the passes over the samples after so many steps.
        """
        self.policy, self.total_steps, self._epoch = policy, total_steps, epoch
        self._parameters = list(policy.adapter.values())
        groups = [
            {"params": [p for p in self._parameters if p.ndim > 1], "weight_decay": self.config.weight_decay},
            {"params": [p for p in self._parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self._optimizer = AdamW([g for g in groups if g["params"]], betas=ADAM_BETAS)
        self._base_sha256 = hash_base(self.config.base_model.path)
        restored = restore(self.run_dir, policy, self._optimizer, self._base_sha256)
        if restored:
            self.step, self.progress = restored.step, Progress.model_validate(restored.metrics)
        self._evaluation_steps = evaluation_steps(self.config.evaluations, total_steps)
        self._began, self._began_at = time.perf_counter(), self.step
        self._checkpointed, self._checkpoint_seconds = time.perf_counter(), 0.0
        self._started = time.perf_counter(), time.process_time()
        self.say("training")
        return self._optimizer

    @property
    def evaluates(self) -> bool:
        """Whether the held-out rows are evaluated at this step. Not again at the step that a restart begins at."""
        again = self.step == self._began_at and self.step > 0
        return self.step in self._evaluation_steps and not again

    def start_step(self) -> None:
        """Forget the last step's gradients and start the clock."""
        self._optimizer.zero_grad(set_to_none=True)
        self._started = time.perf_counter(), time.process_time()

    def update(self, loss: float, tokens: int, trained_tokens: int, **more: float) -> None:
        """Take the step that the gathered gradients call for, and write its metrics line.

        `tokens` of the batch went through the model, `trained_tokens` of them count in the loss.
        Raises FailedPrecondition when loss or gradient is not finite: such a step leaves nothing behind.
        """
        grad_norm = float(torch.nn.utils.clip_grad_norm_(self._parameters, self.config.max_grad_norm))
        self._refuse_unless_finite({"loss": loss, "gradient norm": grad_norm})
        learning_rate = self.config.learning_rate * rate(self.config.schedule, self.step, self.total_steps)
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._optimizer.step()
        self.step += 1
        self.progress.loss = loss
        self.progress.trained_tokens += trained_tokens
        seconds = time.perf_counter() - self._started[0]
        line = {
            "step": self.step,
            "epoch": round(self._epoch(self.step), 4),
            "loss": loss,
            "learning_rate": learning_rate,
            "grad_norm": grad_norm,
            "tokens": tokens,
            "trained_tokens": trained_tokens,
            "tokens_per_second": round(tokens / seconds, 1),
            **more,
            "seconds": round(seconds, 4),
            "cpu_seconds": round(time.process_time() - self._started[1], 4),
        }
        self._record("loss", line)
        self._status["tokens_per_second"] = line["tokens_per_second"]
        self.say("training", throttled=True)

    def evaluated(self, loss: float, rows: list[dict[str, Any]], **more: float | None) -> None:
        """Write down what the held-out rows said at this step, and whether it is the best so far (the model before training is not).

        `rows` has one entry a held-out row, in their order; `more` goes into the metrics line.
        """
        self._refuse_unless_finite({"evaluation loss": loss})
        write_atomic(
            self.run_dir / "evaluation" / f"step-{self.step:06d}.json",
            json.dumps({"step": self.step, "rows": rows}, allow_nan=False),
        )
        line = {"step": self.step, "epoch": round(self._epoch(self.step), 4), "eval_loss": loss, **more}
        self._record("eval_loss", line)
        progress = self.progress
        progress.eval_loss = loss
        if self.step and (progress.best_eval_loss is None or loss < progress.best_eval_loss):
            progress.best_step, progress.best_eval_loss = self.step, loss
        self.say("training")

    def checkpoint(self, must: bool) -> None:
        """Write a checkpoint if it must be, or if the last one is old enough."""
        age = time.perf_counter() - self._checkpointed
        if not must and age < max(CHECKPOINT_SECONDS, CHECKPOINT_SHARE * self._checkpoint_seconds):
            return
        started = time.perf_counter()
        write_checkpoint(
            self.run_dir,
            self.step,
            self.policy,
            self._optimizer,
            self._base_sha256,
            self.progress.model_dump(),
            best=self.progress.best_step,
        )
        self._checkpointed = time.perf_counter()
        self._checkpoint_seconds = self._checkpointed - started

    def finish(self) -> None:
        """Write the output: the best checkpoint where rows are held out, else the model as it is now."""
        self.say("writing")
        step, loss = self.progress.best_step or self.step, self.progress.best_eval_loss
        if step != self.step:
            load_weights(self.run_dir, step, self.policy)
        write_output(self.run_dir, self.config.base_model, self.policy, step, loss)
        self.complete()

    def complete(self) -> int:
        """Say that the output is there; return the step that the run ended at."""
        result = json.loads((self.run_dir / "output" / "result.json").read_text())
        if self.total_steps:
            self._status |= {"state": "COMPLETED", "message": f"The output is the model after step {result['step']}."}
            self._write_status()
            return self.step
        # A restart found it done: the status of then knows more than this process.
        last = _last_status(self.run_dir)
        content = last | {"state": "COMPLETED", "message": f"The output is the model after step {result['step']}."}
        write_atomic(self.run_dir / "status.json", json.dumps(content))
        return int(last.get("step", result["step"]))

    def say(self, stage: str, message: str = "", throttled: bool = False) -> None:
        """Tell in `status.json` what is done now; `throttled` at most every half second."""
        self._status |= {"stage": stage, "message": message}
        if not throttled or time.perf_counter() - self._status_written > STATUS_SECONDS:
            self._write_status()

    def _record(self, kind: str, line: dict[str, Any]) -> None:
        if line["step"] > self._recorded[kind]:  # else a lost checkpoint made us take the step again
            self._metrics.append(line)
            self._recorded[kind] = line["step"]

    def _refuse_unless_finite(self, values: dict[str, float]) -> None:
        wrong = [f"the {name} is {value}" for name, value in values.items() if not math.isfinite(value)]
        if wrong:
            raise FailedPrecondition(
                f"Training cannot go on after step {self.step}: {' and '.join(wrong)}. Lower the learning rate, add warm-up "
                "steps, or look at the sample weights; checkpoints up to here are kept."
            )

    def _write_status(self) -> None:
        steps = self.step - getattr(self, "_began_at", 0)
        left = None
        if self._status["stage"] == "training" and steps > 0:
            left = round((self.total_steps - self.step) * (time.perf_counter() - self._began) / steps, 1)
        content = {
            **self._status,
            "epoch": round(self._epoch(self.step), 4) if self.total_steps else 0.0,
            "step": self.step,
            "total_steps": self.total_steps,
            "percent": round(100 * self.step / self.total_steps) if self.total_steps else 0,
            **self.progress.model_dump(),
            # Of all processes of this run, each measured by itself: a clock that is set meanwhile does not count.
            "seconds": round(self._seconds_before + time.monotonic() - self._entered, 1),
            "seconds_left": left,
            "updated": datetime.now(UTC).isoformat(),
        }
        content.setdefault("tokens_per_second", None)
        write_atomic(self.run_dir / "status.json", json.dumps(content, allow_nan=False))
        self._status_written = time.perf_counter()


def _unexpected(error: Exception) -> str:
    if is_out_of_memory(error):
        return f"Training ran out of memory ({first_line(error)}). {WHAT_TO_DO}"
    return f"The training process met an error of its own ({type(error).__name__}: {error}); its log has the details."


def _last_status(run_dir: Path) -> dict[str, Any]:
    try:
        return json.loads((run_dir / "status.json").read_text())
    except (OSError, ValueError):
        return {}


def refuse(run_dir: Path, message: str) -> None:
    """Say in `status.json` why a run did not even begin."""
    with lock(run_dir / "learner.lock"):
        content = {"state": "FAILED", "stage": "preparing", "message": message}
        write_atomic(run_dir / "status.json", json.dumps({**content, "updated": datetime.now(UTC).isoformat()}))
