"""`run.json`: everything that orchestrator and learner need to know about one RFT job."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

MAX_STALENESS = 8
"""Most versions by which a batch may lag behind. Every version within the bound stays loaded, and the correction weakens with it."""


class LossMethod(StrEnum):
    """The policy-gradient losses a job may name."""

    DEFAULT = "DEFAULT"
    """Two policies, ratio as a stopped weight inside a band. Used when the client names none."""
    GRPO = "GRPO"
    DAPO = "DAPO"
    GSPO_TOKEN = "GSPO_TOKEN"
    CISPO = "CISPO"
    """The ratio as a stopped weight, cut from above."""
    PPO = "PPO"
    REINFORCE = "REINFORCE"
    """Importance-weighted, without any limit on the ratio."""


class Strict(BaseModel):
    """An unknown key is an error: nobody sets an option that is not read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class BaseModelRef(Strict):
    """The base model of the run."""

    name: str
    """Resource name by which the gateway serves it."""
    path: Path
    """Local folder with config.json, safetensors and tokenizer.json."""


class SamplingConfig(Strict):
    """How rollouts are sampled. top_p and top_k stay at full support, so that recorded log-probabilities are exact."""

    temperature: float = 1.0
    max_tokens: int = 2048
    """Longest completion, in tokens."""
    stop: list[str] = []


class LearnerConfig(Strict):
    """What the optimizer does."""

    learning_rate: float = 1e-4
    lora_rank: int = 8
    lora_alpha: int = 32
    warmup_steps: int = 0
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    loss: LossMethod = LossMethod.DEFAULT
    kl_beta: float | None = None
    """KL coefficient of GRPO; None = 0.001 there."""
    warm_start: Path | None = None
    """PEFT adapter folder to continue from."""
    max_tokens_per_micro_batch: int = 16384
    """Packing budget, in tokens of one forward."""
    threads: int = 1
    """torch threads of the learner."""


class PreflightConfig(Strict):
    """A few rows rolled out with version 0 before the first step, to say whether there is anything to learn."""

    rows: int = Field(default=0, ge=0)
    """At most so many training rows; 0 = no preflight."""
    only: bool = False
    """End after it, without a step and without a model."""
    temperatures: list[float] = []
    """The base model is rolled out at these, too: the baseline that a tuned model is judged against."""


class EvaluationConfig(Strict):
    """Held-out evaluation during training. All parts of it use rows that are never trained on."""

    dataset: Path | None = None
    """Adapted rows, JSONL. None = no evaluation (unless carved out of the training rows by the handler)."""
    every_steps: int = 10
    max_rows: int = 100
    """At most this many rows, from the start of the file. Sampling is the job's: `RunConfig.sampling`."""


class RunConfig(Strict):
    """One RFT run. Read by `python -m tunesmith.orchestrator DIR` and `python -m tunesmith.training DIR`."""

    job: str = Field(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")
    """Short id of the job; policy versions are `accounts/{account}/models/{job}-v{k}`."""
    account: str = "local"
    seed: int = 0
    base_model: BaseModelRef
    dataset: Path
    """Training rows, adapted to EvaluationRow, JSONL."""
    gateway_url: str
    host_socket: Path
    """Unix socket of the evaluator host."""
    evaluator_version: str = ""
    epochs: int = 1
    chunk_size: int | None = None
    """Rows of one chunk = one batch = one optimizer step; None = the whole epoch in one."""
    n: int = 8
    """Rollouts per row (group size)."""
    max_context_length: int | None = None
    """Longest sequence of a rollout, prompt and completion together, in tokens; None = the base model's."""
    max_concurrent_rollouts: int = 96
    group_deadline_seconds: float | None = Field(default=None, gt=0)
    """Seconds from the end of half of a group's rollouts, after which it goes on without the rest; None: it waits for all."""
    group_quorum: int | None = Field(default=None, ge=2)
    """Valid scores with which a group may go on then."""
    max_staleness: int = Field(default=0, ge=0, le=MAX_STALENESS)
    """Batch k is sampled from version k - max_staleness or newer: 0 waits for every step, above it rollouts overlap with training."""
    shuffle: bool = True
    """Draw the rows of each epoch in a new order, from the seed."""
    keep_all_checkpoints: bool = False
    """Keep every checkpoint, so that the run can be rewound to any version; else the last two and the best."""
    noise_job: str | None = None
    """The job whose sampling noise is drawn: of a rewound run the one that it came from, so that it repeats what that one did."""
    sampling: SamplingConfig = SamplingConfig()
    learner: LearnerConfig = LearnerConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    preflight: PreflightConfig = PreflightConfig()

    @classmethod
    def read(cls, run_dir: Path) -> RunConfig:
        """Read and check `run.json` of a run directory; pydantic's ValidationError names each wrong field."""
        return cls.model_validate_json((run_dir / "run.json").read_text())

    def policy_name(self, version: int) -> str:
        """Resource name of a policy version."""
        return f"accounts/{self.account}/models/{self.job}-v{version}"
