"""Publishing a policy version: the engine loads it, hash and canary are checked, and only then it is routed to."""

from __future__ import annotations

import json
import math
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from tunesmith.errors import FailedPrecondition
from tunesmith.orchestrator.gateway import Gateway
from tunesmith.runs.config import RunConfig
from tunesmith.runs.files import adapter_path

CANARY_TOLERANCE = 1e-4
"""Largest difference of a canary log-probability between engine and learner, in fp32 (docs/decisions, canary)."""
BASELINE_FACTOR = 10.0
"""In coarser number formats: this many times the difference that version 0 shows."""
BASELINE_LIMIT = 0.5
"""Version 0 may differ by at most this much (bf16 showed .18): above it, engine and learner hold different base models."""


class Canary(BaseModel):
    """`canary.json` of an adapter: fixed token ids and the learner's log-probabilities of them under that adapter."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    token_ids: list[int]
    logprobs: list[float]
    sha256: str


async def publish(config: RunConfig, run_dir: Path, version: int, gateway: Gateway, baseline: float) -> float:
    """Load version `version` and prove that the engine uses it; returns the largest canary difference.

    `baseline` is that difference of version 0 (0.0 while version 0 itself is published).
    Raises FailedPrecondition when the engine read another file or does not apply the adapter.
    """
    folder = adapter_path(run_dir, version)
    canary = Canary.model_validate(json.loads((folder / "canary.json").read_text()))
    name = config.policy_name(version)
    read = await gateway.publish(
        {
            "name": name,
            "base_model": config.base_model.name,
            "adapter_path": str(folder),
            "sha256": canary.sha256,
            "seed": config.seed,
            "job": config.job,
            "version": version,
            "sampling": {
                **config.sampling.model_dump(),
                "max_context_length": config.max_context_length,
                "noise_job": config.noise_job,
            },
        }
    )
    if read != canary.sha256:
        raise FailedPrecondition(
            f"The engine loaded another adapter under {name}: sha256 {read} instead of {canary.sha256}. "
            "Training stops before a rollout is sampled from the wrong weights."
        )
    scored = await gateway.score(name, canary.token_ids)
    differences = [abs(a - b) for a, b in zip(scored, canary.logprobs, strict=True)]
    difference = max(differences, key=lambda value: (math.isnan(value), value))  # max alone would step over a NaN
    tolerance = max(CANARY_TOLERANCE, BASELINE_FACTOR * baseline) if version else BASELINE_LIMIT
    if not difference <= tolerance:
        raise FailedPrecondition(
            f"The canary of {name} differs by {difference:.2g} (at most {tolerance:.2g}): the engine does not apply the "
            "adapter that the learner published. Training stops; look at the engine's log."
        )
    return difference
