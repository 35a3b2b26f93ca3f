"""What a session asks of training jobs: SFT for most methods, DPO jobs for preferences. Pure."""

from __future__ import annotations

from typing import Any

from tunesmith.agent.plan import Candidate, Method, Plan
from tunesmith.jobs.session.desk import Desk
from tunesmith.schemas.names import short_id

PREFERENCE = (Method.DPO, Method.ORPO)


def is_preference(plan: Plan) -> bool:
    """Whether the plan trains on pairs."""
    return plan.method in PREFERENCE


def is_delta(plan: Plan) -> bool:
    """Whether the pairs are to be made from the answers of a strong and a weak model (delta learning)."""
    return plan.strong_model is not None and plan.weak_model is not None


def noun(plan: Plan) -> str:
    """Which jobs of the API the plan's method is."""
    return "dpoJobs" if is_preference(plan) else "supervisedFineTuningJobs"


def job_id(desk: Desk, suffix: str) -> str:
    """Id of a training job, which is its model's, too: `sft-{session}-c1`, `dpo-{session}-c2`, `sft-{session}-final`."""
    return f"{'dpo' if is_preference(desk.plan) else 'sft'}-{desk.id}-{suffix}"


def describe(candidate: Candidate) -> str:
    """A candidate's settings in words."""
    rank = f"LoRA rank {candidate.lora_rank}" if candidate.lora_rank else "full parameters"
    beta = f", beta {candidate.beta:g}" if candidate.beta is not None else ""
    return f"{short_id(candidate.base_model)}, {rank}, learning rate {candidate.learning_rate:g}{beta}"


def body(
    desk: Desk,
    plan: Plan,
    candidate: Candidate,
    *,
    output: str,
    dataset: str,
    evaluation: str | None,
    epochs: float | None = None,
) -> dict[str, Any]:
    """The create of one training job. `output` is the id of its model; datasets are resource names."""
    settings: dict[str, Any] = {
        "baseModel": candidate.base_model,
        "outputModel": desk.name("models", output),
        "epochs": _number(epochs if epochs is not None else plan.epochs or 1.0),
        "learningRate": candidate.learning_rate,
        "loraRank": candidate.lora_rank,
    }
    if plan.batch_size_samples is not None:
        settings["batchSizeSamples"] = plan.batch_size_samples
    if plan.max_context_length is not None:
        settings["maxContextLength"] = plan.max_context_length
    common: dict[str, Any] = {"dataset": dataset, "displayName": f"{desk.id}: {describe(candidate)}"[:63]}
    if evaluation is not None:
        common["evaluationDataset"] = evaluation
    if not is_preference(plan):
        return {**common, **settings}
    loss: dict[str, Any] = {"method": "DPO" if plan.method is Method.DPO else "ORPO"}
    if candidate.beta is not None:
        loss |= {"dpo": {"beta": candidate.beta}} if plan.method is Method.DPO else {"orpoLambda": candidate.beta}
    return {**common, "trainingConfig": settings, "lossConfig": loss}


def _number(value: float) -> int | float:
    """Whole epochs as the integer that published clients send."""
    return int(value) if value == int(value) else value
