"""RFT jobs on the wire. The input knows every field that published clients can send, so that each can be refused by its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from tunesmith.schemas.wire import JobInput, QueuePlace, Status, Time, Wire


class TrainingConfig(JobInput):
    """`trainingConfig`."""

    base_model: str | None = None
    warm_start_from: str | None = None
    output_model: str | None = None
    epochs: float | None = None
    learning_rate: float | None = None
    learning_rate_warmup_steps: int | None = None
    lora_rank: int | None = None
    max_context_length: int | None = None
    optimizer_weight_decay: float | None = None
    batch_size: int | None = None
    batch_size_samples: int | None = None
    gradient_accumulation_steps: int | None = None
    sampler_checkpoint_save_interval_steps: int | None = None
    jinja_template: str | None = None
    region: str | None = None


class InferenceParameters(JobInput):
    """`inferenceParameters`: how rollouts are sampled."""

    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    response_candidates_count: int | None = None
    extra_body: str | None = None
    """JSON text; `stop` and `seed` are the fields that take effect."""


class LossConfig(JobInput):
    """`lossConfig`."""

    method: str | None = None
    kl_beta: float | None = None
    dpo: dict[str, Any] | None = None


_PREFLIGHT_FORM = (
    'takes an object of rows, only and temperatures: {"rows": 0} switches the preflight off, {"rows": 32} rolls out 32 rows, '
    '{"only": true} makes a job that ends after it'
)


class Preflight(JobInput):
    """`preflight`: rows that are rolled out before the first step, to say whether there is anything to learn."""

    rows: int | None = None
    """At most so many; 0: none; absent: the platform's setting."""
    only: bool | None = None
    """End after it: no step, no model."""
    temperatures: list[float] | None = None
    """At which the base model is rolled out besides, with `only`."""

    @model_validator(mode="before")
    @classmethod
    def _form(cls, given: Any) -> Any:
        """What to write, where another form was tried: a number, a word, a field that there is not. Null is as absent."""
        if given is None:
            return {}
        if isinstance(given, cls) or (isinstance(given, Mapping) and not given.keys() - cls.model_fields.keys()):
            return given
        raise PydanticCustomError("preflight_form", _PREFLIGHT_FORM)


class WandbConfig(JobInput):
    """`wandbConfig`; published clients always send `enabled: false`."""

    enabled: bool | None = None
    api_key: str | None = None
    project: str | None = None
    entity: str | None = None
    run_id: str | None = None
    url: str | None = None


class RftJobInput(JobInput):
    """Body of a create."""

    dataset: str
    evaluator: str
    """Id or resource name, with `/versions/N` or `/versions/latest` behind it where wanted."""
    display_name: str | None = Field(default=None, max_length=128)
    evaluation_dataset: str | None = None
    eval_auto_carveout: bool | None = None
    evaluation_every_steps: int | None = None
    """Versions between two held-out evaluations."""
    keep_all_checkpoints: bool | None = None
    """Every version can be rewound to; else those whose checkpoint is kept: the last two and the best."""
    chunk_size: int | None = None
    max_concurrent_rollouts: int | None = None
    max_staleness: int | None = None
    """Versions by which a step's policy may be ahead of the one that its rollouts were sampled from."""
    group_deadline_seconds: float | None = None
    """Seconds from the end of half of a group's rollouts, after which it goes on without its stragglers."""
    group_quorum: int | None = None
    """Valid scores with which a group may go on then."""
    max_concurrent_evaluations: int | None = None
    max_inference_replica_count: int | None = None
    node_count: int | None = None
    reservation_target: str | None = None
    mcp_server: str | None = None
    aws_s3_config: dict[str, Any] | None = Field(default=None, alias="awsS3Config")
    azure_blob_storage_config: dict[str, Any] | None = None
    training_config: TrainingConfig = TrainingConfig()
    inference_parameters: InferenceParameters = InferenceParameters()
    loss_config: LossConfig = LossConfig()
    preflight: Preflight = Preflight()
    audit_evaluator: str | None = None
    """An evaluator that scores held-out rollouts besides, and is not trained on; id or resource name."""
    wandb_config: WandbConfig = WandbConfig()


class JobProgress(Wire):
    """`jobProgress`: whole numbers."""

    percent: int = 0
    epoch: int = 0
    total_input_requests: int | None = None
    total_processed_requests: int | None = None
    successfully_processed_requests: int | None = None
    failed_requests: int | None = None
    output_rows: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_input_token_count: int | None = None


class RftJob(Wire):
    """An RFT job as the API shows it: the values in force, defaults included."""

    name: str
    display_name: str | None = None
    state: str
    status: Status
    queue: QueuePlace | None = None
    """Of a PENDING job."""
    create_time: Time
    completed_time: Time | None = None
    created_by: str = ""
    """Resource name of the user; empty: whoever has the account's own key."""
    dataset: str
    evaluator: str
    evaluator_version: int
    """The evaluator's version that the job was created with, and runs."""
    evaluation_dataset: str | None = None
    eval_auto_carveout: bool = False
    evaluation_every_steps: int | None = None
    """As asked for; none: spread over the run."""
    keep_all_checkpoints: bool = False
    rewound_from: str | None = None
    """The job that this one began as, at policy version `rewoundTo`."""
    rewound_to: int | None = None
    checkpoints: list[int] = []
    """Policy versions that the job can be rewound to."""
    control: dict[str, Any]
    """`requested`: what was asked of the running job; `inForce`: what its steps are taken with, null before the first."""
    chunk_size: int | None = None
    max_concurrent_rollouts: int
    max_staleness: int
    group_deadline_seconds: float | None = None
    """None: a group waits for all of its rollouts."""
    group_quorum: int | None = None
    training_config: dict[str, Any]
    inference_parameters: dict[str, Any]
    loss_config: dict[str, Any]
    wandb_config: dict[str, Any]
    job_progress: JobProgress
    output_metrics: str | None = None
    """JSON text: the run's latest figures."""
    preflight: dict[str, Any] | None = None
    """What a few rows said before the first step; none before it ended, or where it is off."""
    preflight_rows: int | None = None
    """As asked for, 0 for none; absent: the platform's setting."""
    preflight_only: bool = False
    """Nothing else is done: no step is taken, and no model made."""
    audit_evaluator: str | None = None
    audit_evaluator_version: int | None = None
    run: dict[str, Any] | None = None
    """The same, as an object: step, total_steps, mean_score, best_version, ..."""
    processes: list[dict[str, Any]] = []
    """The job's processes: {"name", "pid", "peak_rss_mib"}."""
    sandbox: dict[str, Any] | None = None
    """What confines its evaluator: {"kind": "bubblewrap" | "landlock" | "none", "degraded", "reason"}; None until its host has started."""
    notes: list[Any] = []
    """Options that were accepted without effect, each with its reason."""
