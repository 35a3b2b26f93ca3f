"""How fast this machine trains and reads a base model: what the Agent's cost estimate rests on.

Real steps of a LoRA on random rows, forward, backward and update, then forward passes alone; medians, so that the first steps and
a busy moment do not count.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.optim import AdamW

from tunesmith.rendering.renderer import Renderer
from tunesmith.runs.config import BaseModelRef, LearnerConfig
from tunesmith.training.losses import weighted_nll
from tunesmith.training.model import Policy, load_policy
from tunesmith.training.packing import Pack, Sequence, Sharing, build_pack, default_budget, plan_packs

ROWS = 16
"""Rows of a step."""
TRAIN_SECONDS, FORWARD_SECONDS = 5.0, 1.5
LEAST, MOST = 2, 200
"""Steps: at least, so that one is warm; at most."""


def measure(folder: Path, tokens: int = 256, rank: int = 8, family: str | None = None) -> dict[str, float]:
    """Tokens a second of training steps and of forward passes, prompts included.

    Args:
        folder: the base model.
        tokens: of a row, at most the model's context; the second half of them is trained.
        rank: of the LoRA.
        family: rendering family of the model (catalogue).

    Returns:
        `sft_tokens_per_second` and `forward_tokens_per_second`, after about 7 s or two steps, whichever is longer.
    """
    tokens = min(tokens, Renderer.load(folder, family=family).context_length)
    policy = load_policy(BaseModelRef(name=str(folder), path=folder), LearnerConfig(lora_rank=rank), seed=0)
    rng = random.Random(0)
    rows = [_random_row(rng, policy.vocabulary, tokens) for _ in range(ROWS)]
    packs = [
        build_pack(plans, policy.device) for plans in plan_packs(rows, default_budget(), policy.costs, Sharing.NEVER)
    ]
    optimizer = AdamW(list(policy.adapter.values()), lr=1e-6)
    read = sum(len(row.token_ids) for row in rows)
    trained = sum(len(row.targets) for row in rows)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        for pack in packs:
            logp_K, _ = policy.logprobs(pack, entropy=False)
            weighted_nll(logp_K, pack.weight_K, trained).backward()
        optimizer.step()

    return {
        "sft_tokens_per_second": round(read / _median_seconds(step, TRAIN_SECONDS), 1),
        "forward_tokens_per_second": round(read / _median_seconds(lambda: _read(policy, packs), FORWARD_SECONDS), 1),
    }


def _random_row(rng: random.Random, vocabulary: int, tokens: int) -> Sequence:
    ids = [rng.randrange(vocabulary) for _ in range(tokens)]
    trained = list(range(max(1, tokens // 2), tokens))
    return Sequence(ids[:-1], trained[0], trained, ids[trained[0] :], weights=[1.0] * len(trained))


@torch.no_grad()
def _read(policy: Policy, packs: list[Pack]) -> None:
    for pack in packs:
        policy.logprobs(pack, entropy=False)


def _median_seconds(work: Callable[[], None], limit: float) -> float:
    taken: list[float] = []
    began = time.perf_counter()
    while len(taken) < LEAST or (time.perf_counter() - began < limit and len(taken) < MOST):
        started = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken[1:])
