"""Before an RFT job can run: `run.json`, and the tokens that its agents may spend."""

from __future__ import annotations

import json
from pathlib import Path

from tunesmith.catalog.entry import BaseModelEntry
from tunesmith.runs.carve_out import CARVE_OUT_MOST
from tunesmith.runs.config import (
    BaseModelRef,
    EvaluationConfig,
    LearnerConfig,
    LossMethod,
    PreflightConfig,
    RunConfig,
    SamplingConfig,
)
from tunesmith.runs.files import write_atomic
from tunesmith.schemas.rft_spec import RftSpec

EVALUATIONS_PER_RUN = 8
"""Held-out evaluations are spread over the run: about this many, and never more often than every 5 steps."""

CALLS_PER_ROLLOUT = 64
"""Model calls of one rollout, each filling the context, that a job's budget has room for."""


def evaluation_interval(spec: RftSpec, steps: int) -> int:
    """Optimizer steps between two held-out evaluations of a job that takes about so many in all."""
    return spec.evaluation_every_steps or max(5, -(-steps // EVALUATIONS_PER_RUN))


def token_budget(spec: RftSpec, context: int, preflight_rows: int) -> int:
    """Tokens that the agents of a job may spend with its rollout key, for a context of so many tokens."""
    steps = spec.epochs * -(-spec.example_count // (spec.chunk_size or spec.example_count))
    evaluations = steps // spec.evaluation_every_steps if spec.evaluation_every_steps else EVALUATIONS_PER_RUN
    evaluated = (evaluations + 2) * CARVE_OUT_MOST
    checked = min(preflight_rows, spec.example_count) * spec.n * (1 + len(spec.preflight_temperatures))
    trained = 0 if spec.preflight_only else spec.example_count * spec.epochs * spec.n
    return CALLS_PER_ROLLOUT * context * (trained + evaluated + checked)


def write_run(
    run_dir: Path,
    spec: RftSpec,
    *,
    job: str,
    account: str,
    base: BaseModelEntry,
    warm_start: Path | None,
    train: Path,
    rows: int,
    held_out: Path | None,
    gateway_url: str,
    host_socket: Path,
    threads: int,
    preflight_rows: int = 0,
) -> RunConfig:
    """Write `run.json`, the last of the inputs. `train` holds `rows` rows; `held_out` is None where nothing is held out."""
    steps = spec.epochs * -(-rows // min(spec.chunk_size or rows, rows))
    config = RunConfig(
        job=job,
        account=account,
        seed=spec.seed,
        base_model=BaseModelRef(name=base.name, path=base.path),
        dataset=train,
        gateway_url=gateway_url,
        host_socket=host_socket,
        evaluator_version=str(spec.evaluator_version),
        epochs=spec.epochs,
        chunk_size=spec.chunk_size,
        n=spec.n,
        keep_all_checkpoints=spec.keep_all_checkpoints,
        max_context_length=spec.max_context_length,
        max_concurrent_rollouts=spec.max_concurrent_rollouts,
        max_staleness=spec.max_staleness,
        group_deadline_seconds=spec.group_deadline_seconds,
        group_quorum=spec.group_quorum,
        sampling=SamplingConfig(temperature=spec.temperature, max_tokens=spec.max_tokens, stop=spec.stop),
        learner=LearnerConfig(
            learning_rate=spec.learning_rate,
            lora_rank=spec.lora_rank,
            lora_alpha=_lora_alpha(warm_start, base.training.lora_alpha),
            warmup_steps=spec.warmup_steps,
            weight_decay=spec.weight_decay,
            loss=LossMethod(spec.loss),
            kl_beta=spec.kl_beta,
            warm_start=warm_start,
            threads=threads,
        ),
        preflight=PreflightConfig(
            rows=preflight_rows, only=spec.preflight_only, temperatures=spec.preflight_temperatures
        ),
        evaluation=EvaluationConfig(
            dataset=held_out,
            every_steps=evaluation_interval(spec, steps),
        ),
    )
    write_atomic(run_dir / "run.json", config.model_dump_json(indent=1))
    return config


def _lora_alpha(warm_start: Path | None, default: int) -> int:
    """The scale of the adapter that the job continues: with another one its weights would mean something else. `default` without one."""
    if warm_start is None:
        return default
    try:
        return json.loads((warm_start / "adapter_config.json").read_text()).get("lora_alpha") or default
    except (OSError, ValueError):
        return default  # the learner says what is wrong with the adapter
