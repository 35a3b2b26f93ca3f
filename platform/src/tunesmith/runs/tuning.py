"""`run.json` of an SFT or DPO job: everything that its one process (`python -m tunesmith.training DIR`) needs to know."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from pydantic import Field

from tunesmith.runs.config import BaseModelRef, Strict


class TuningLoss(StrEnum):
    """What is minimised."""

    SFT = "SFT"
    """Weighted negative log-likelihood of the trained tokens."""
    DPO = "DPO"
    ORPO = "ORPO"


class ScheduleKind(StrEnum):
    """The documented learning-rate schedules."""

    CONSTANT = "constant"
    LINEAR = "linear"
    COSINE = "cosine"


class Schedule(Strict):
    """Learning rate over optimizer steps: linear warm-up, then this."""

    kind: ScheduleKind = ScheduleKind.CONSTANT
    min_ratio: float = Field(default=0.0, ge=0.0, le=1.0)
    """Floor, as a share of the learning rate."""
    decay_ratio: float = Field(default=0.0, ge=0.0, le=1.0)
    """Share of the steps after warm-up over which it falls to the floor; 0 = all of them."""
    warmup_steps: int = Field(default=0, ge=0)


class ThinkingHistory(StrEnum):
    """Which of the earlier thinking traces a rendered conversation keeps."""

    DEFAULT = "default"
    """What the model's own template does."""
    INTERLEAVED = "interleaved"
    """Those after the last user message."""
    PRESERVED = "preserved"


class TuningConfig(Strict):
    """One SFT, DPO or ORPO run."""

    kind: str = "tuning"
    """Tells this `run.json` from an RFT one."""
    job: str = Field(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")
    account: str = "local"
    seed: int = 0
    loss: TuningLoss = TuningLoss.SFT
    base_model: BaseModelRef
    family: str | None = None
    """Rendering family of the base model (catalogue)."""
    dataset: Path
    """Rows as they were uploaded, JSONL."""
    evaluation_dataset: Path | None = None
    eval_carve_out: bool = False
    """Hold a tenth of the rows (at most 100, at least 1) out for evaluation; drawn from the seed."""
    warm_start: Path | None = None
    """PEFT adapter folder to continue from."""
    epochs: float = Field(default=1.0, gt=0)
    """Passes over the rows; a fraction stops within a pass."""
    batch_size_samples: int = Field(default=32, ge=1)
    """Samples (SFT) or pairs (DPO, ORPO) of an optimizer step."""
    learning_rate: float = Field(default=2e-4, ge=0)
    schedule: Schedule = Schedule()
    lora_rank: int = Field(default=8, ge=0)
    """0 = full parameters."""
    lora_alpha: int = 32
    weight_decay: float = Field(default=0.01, ge=0)
    max_grad_norm: float = 1.0
    beta: float = 0.1
    """DPO."""
    orpo_lambda: float = 0.1
    max_context_length: int | None = None
    """Longer samples are cut there, in tokens; None = the model's."""
    thinking_history: ThinkingHistory = ThinkingHistory.DEFAULT
    evaluations: int = Field(default=8, ge=1)
    """Evaluations are spread evenly over the run: about so many, the last step always among them."""
    max_tokens_per_micro_batch: int | None = Field(default=None, ge=1)
    """Packing budget, in tokens of one forward; None = 512 on the CPU, 16384 on a GPU."""
    threads: int = 1

    @classmethod
    def read(cls, run_dir: Path) -> TuningConfig:
        """Read and check `run.json`; pydantic's ValidationError names each wrong field."""
        return cls.model_validate_json((run_dir / "run.json").read_text())
