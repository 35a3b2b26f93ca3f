"""What an RFT job does, with every default filled in: `Job.spec` of a job of kind `rft`.

The control plane writes it once, when the job is created; the jobs worker reads it and turns it into `run.json`.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class RftSpec(BaseModel):
    """One RFT job, resolved. Names are full resource names; None means "not set", never "default"."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base_model: str
    """Catalogue name, Hugging Face id or local folder, as `tunesmith.catalog` resolves it."""
    warm_start_from: str | None = None
    """Model resource (PEFT adapter) to continue from; `base_model` is then its base."""
    dataset: str
    evaluation_dataset: str | None = None
    eval_auto_carveout: bool = False
    """Hold out some rows of `dataset` for evaluation."""
    example_count: int
    """Rows of `dataset` when the job was created."""
    evaluator: str
    evaluator_version: int
    """The version that was ACTIVE when the job was created; a later build does not change a job."""
    entry_point: str = ""
    """`file.py::function` of that version."""
    evaluator_dir: str
    """Folder with src/ and venv/ of that version."""
    output_model: str
    epochs: int
    learning_rate: float
    lora_rank: int
    warmup_steps: int = 0
    weight_decay: float = 0.0
    loss: str = "DEFAULT"
    """Name of a `runs.config.LossMethod`."""
    kl_beta: float | None = None
    n: int
    """Rollouts per row."""
    chunk_size: int | None
    """Rows per optimizer step; None: the whole epoch in one."""
    temperature: float
    max_tokens: int
    stop: list[str] = []
    max_context_length: int | None = None
    max_concurrent_rollouts: int = 96
    max_staleness: int = 0
    """Batch k is sampled from version k - max_staleness or newer."""
    group_deadline_seconds: float | None = None
    """Seconds from the end of half of a group's rollouts, after which it goes on without the rest; None: never."""
    group_quorum: int | None = None
    """Valid scores with which a group may go on then."""
    seed: int = 0
    keep_all_checkpoints: bool = False
    evaluation_every_steps: int | None = None
    """Versions between two held-out evaluations; None: spread over the run."""
    preflight_rows: int | None = None
    """Rows rolled out before the first step; None: the platform's setting."""
    preflight_only: bool = False
    preflight_temperatures: list[float] = []
    audit_evaluator: str | None = None
    """A second evaluator that scores held-out rollouts and is not trained on."""
    audit_evaluator_version: int = 0
    audit_entry_point: str = ""
    audit_evaluator_dir: str = ""
    rewound_from: str | None = None
    """The job that this one was rewound from, at policy version `rewound_to`."""
    rewound_to: int | None = None
    wandb: dict[str, str] | None = None
    """The run at Weights & Biases: `project`, `entity`, `run_id`, as far as they were given. None: none."""
    request: dict[str, Any]
    """The body as the client sent it (camelCase): what the API echoes, and what makes a repeated create idempotent."""
