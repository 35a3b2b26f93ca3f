"""Reinforcement fine-tuning, the optimizer's side: wait for sealed batch k, take one step, publish adapter k + 1.

`train` is the whole loop, top to bottom. It is a pure function of run.json, the base model and the sealed batches: killed
at any instant and started again, it ends with the same adapters, bit for bit (on the CPU, with the same torch and threads). That
rests on one order: checkpoint, then metrics line, then adapter; a restart completes what the last checkpoint promises.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW

from tunesmith.errors import FailedPrecondition
from tunesmith.runs.advantages import batch_advantages
from tunesmith.runs.batch import Batch
from tunesmith.runs.config import RunConfig
from tunesmith.runs.files import SETTLED_NANOSECONDS, JsonLines, batch_path, file_mark, lock, read_json_lines
from tunesmith.runs.objective import ADAM_BETAS, ADAM_EPS
from tunesmith.training.checkpoints import hash_base, restore, write_checkpoint
from tunesmith.training.losses import Loss, LossInput, loss_for
from tunesmith.training.memory import Budget
from tunesmith.training.model import Policy, load_policy
from tunesmith.training.packing import Sequence, build_pack, plan_packs, sequences_of
from tunesmith.training.publish import canary, publish, remove_torn_folders

log = logging.getLogger(__name__)

POLL_SECONDS = 0.01
LONGEST_POLL_SECONDS = 0.25
POLL_SHARE = 0.02
"""A batch is looked for the less often the longer it has been waited for: a paused run costs next to nothing, and a step that
was long in coming starts at most this share of its time late."""
FINAL_STATES = {"COMPLETED", "FAILED", "CANCELLED", "EARLY_STOPPED"}


def train(run_dir: Path, until_step: int | None = None) -> int:
    """Train until the run ends; return the number of optimizer steps taken so far (the newest version).

    `until_step` stops after that many steps, for tests and by-hand runs.
    Raises FailedPrecondition when another learner holds the run, when a batch cannot be trained, or when a step gives a loss or
    gradient that is not finite, or does not fit into memory one sequence at a time: such a step leaves nothing behind.
    """
    config = RunConfig.read(run_dir)
    with closing(lock(run_dir / "learner.lock")):
        for folder in ("adapters", "checkpoints"):
            remove_torn_folders(run_dir / folder)
        with closing(JsonLines(run_dir / "metrics.jsonl")) as metrics:
            return _train(run_dir, config, metrics, until_step)


def _train(run_dir: Path, config: RunConfig, metrics: JsonLines, until_step: int | None) -> int:
    settings = config.learner
    torch.set_num_threads(settings.threads)
    loss_function = loss_for(settings.loss, settings.kl_beta)
    budget = Budget(run_dir, settings.max_tokens_per_micro_batch)

    policy = load_policy(config.base_model, settings, config.seed)
    parameters = list(policy.adapter.values())
    optimizer = AdamW(parameters, betas=ADAM_BETAS, eps=ADAM_EPS, weight_decay=settings.weight_decay)

    # Where were we? The newest whole checkpoint knows; without one, the run begins with the adapter just made.
    base_sha256 = hash_base(config.base_model.path)
    restored = restore(run_dir, policy, optimizer, base_sha256)
    step = restored.step if restored else 0
    recorded = _last_recorded_step(run_dir)
    if restored and restored.metrics["step"] > recorded:
        metrics.append(restored.metrics)
    publish(run_dir, step, policy, canary(policy))

    while (until_step is None or step < until_step) and (batch := _next_batch(run_dir, step)) is not None:
        started, cpu_started = time.perf_counter(), time.process_time()

        # The batch, as sequences: what to predict, what the engine said, how much better than its group.
        rollouts = batch.header.rollouts
        advantages = batch_advantages([r.score for r in rollouts], [r.group for r in rollouts])
        sequences = sequences_of(batch, advantages, policy.vocabulary)
        batch_tokens = sum(len(sequence.targets) for sequence in sequences)
        # A greedy batch was recorded at temperature 1, like the engine reports it.
        temperature = batch.header.temperature or 1.0

        # Forward and backward, in micro-batches that memory has room for. Their gradients add up to the batch's,
        # however it was cut.
        lengths = [len(sequence.token_ids) for sequence in sequences]
        backward = partial(_backward, policy, loss_function, sequences, batch_tokens, temperature)
        loss, seen = budget.fit(step, lengths, backward)

        # The update. Nothing that is not a number may reach the adapter.
        grad_norm = float(torch.nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm))
        _refuse_unless_finite(step, {"loss": loss, "gradient norm": grad_norm})
        learning_rate = batch.header.learning_rate * _warmup(step, settings.warmup_steps)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
        optimizer.step()
        canary_logprobs = canary(policy)
        _refuse_unless_finite(step, {"new adapter's canary": sum(canary_logprobs)})

        record = {
            "step": step,
            "loss": loss,
            "grad_norm": grad_norm,
            "learning_rate": learning_rate,
            "trained_tokens": batch_tokens,
            "kept_groups": len({rollout.group for rollout in rollouts}),
            "dropped_groups": batch.header.dropped_groups,
            **_staleness(batch),
            **seen.summary(),
            "max_tokens_per_micro_batch": budget.at(step),
            "cpu_seconds": round(time.process_time() - cpu_started, 4),
            "seconds": round(time.perf_counter() - started, 4),
        }
        step += 1
        write_checkpoint(run_dir, step, policy, optimizer, base_sha256, record, keep_all=config.keep_all_checkpoints)
        if record["step"] > recorded:  # else a lost checkpoint made us take the step again
            metrics.append(record)
        publish(run_dir, step, policy, canary_logprobs)
        log.info(
            "Step %d: loss %.4g, gradient norm %.3g, %d tokens trained, %.1f s; version %d is written.",
            *(record["step"], loss, grad_norm, batch_tokens, record["seconds"], step),
        )

    return step


def _backward(
    policy: Policy, loss_function: Loss, sequences: list[Sequence], batch_tokens: int, temperature: float, budget: int
) -> tuple[float, _Seen]:
    """Leave the batch's gradient in the adapter; return its loss and what was seen on the way.

    One micro-batch of at most `budget` tokens at a time; shares are divided by the counts of the whole batch.
    """
    for parameter in policy.adapter.values():
        parameter.grad = None
    loss, seen = 0.0, _Seen()
    for plans in plan_packs(sequences, budget, policy.costs):
        pack = build_pack(plans, policy.device)
        reference_K = None
        if loss_function.needs_reference:
            with policy.reference():
                reference_K, _ = policy.logprobs(pack, temperature)
        logp_K, entropy_K = policy.logprobs(pack, temperature)
        share = loss_function.compute(
            LossInput(
                logp_K=logp_K,
                mu_K=pack.mu_K,
                advantage_K=pack.advantage_K,
                sequence_K=pack.sequence_K,
                batch_tokens=batch_tokens,
                batch_sequences=len(sequences),
                reference_K=reference_K,
            )
        )
        share.loss.backward()
        loss += float(share.loss.detach())
        seen.add(logp_K.detach(), pack.mu_K, entropy_K, share.limited_K)
    return loss, seen


class _Seen:
    """What the trained tokens of a step looked like before the update, gathered over micro-batches."""

    def __init__(self) -> None:
        self._parts: list[tuple[Tensor, ...]] = []

    def add(self, *tensors_K: Tensor) -> None:
        """One micro-batch: logp, mu, entropy, limited."""
        self._parts.append(tensors_K)

    def summary(self) -> dict[str, Any]:
        """Mismatch in nats; kl is the k3 estimate of KL(mu || pi); ratios are pi / mu; fractions are of trained tokens.

        `ess` is the effective sample size by the ratios (Kish, 1965), as a share of the tokens: 1 where both policies are the same.
        """
        logp_N, mu_N, entropy_N, limited_N = (torch.cat(part).cpu() for part in zip(*self._parts, strict=True))
        log_ratio_N = logp_N - mu_N
        mismatch_N = log_ratio_N.abs()
        ratio_N = log_ratio_N.clamp(-10, 10).exp()
        ordered = ratio_N.sort().values
        last = len(ordered) - 1
        return {
            "mismatch_max": float(mismatch_N.max()),
            "mismatch_mean": float(mismatch_N.mean()),
            "entropy": float(entropy_N.mean()),
            "kl": float((ratio_N - 1 - ratio_N.log()).mean()),
            "ess": float(ratio_N.sum().square() / (len(ratio_N) * ratio_N.square().sum())),
            "ratio_p01": float(ordered[round(0.01 * last)]),
            "ratio_p99": float(ordered[round(0.99 * last)]),
            "clip_fraction": float(limited_N.float().mean()),
        }


def _staleness(batch: Batch) -> dict[str, float]:
    """Versions that were published between the one that sampled a rollout and the step that trains on it."""
    behind = [batch.header.step - rollout.version for rollout in batch.header.rollouts]
    return {"staleness_mean": sum(behind) / len(behind), "staleness_max": max(behind)}


def _next_batch(run_dir: Path, step: int) -> Batch | None:
    """Wait for sealed batch `step`; None when the run is over (seams: a final status, or END and every batch trained)."""
    # Names made once, and a status read only when it is another file: a batch is looked for a hundred times.
    path, end, status = batch_path(run_dir, step), run_dir / "batches" / "END", run_dir / "status.json"
    seen: tuple[int, int, int] | None = None
    began = time.monotonic()
    while True:
        mark = file_mark(status)
        if mark is None or mark != seen:
            if _is_final(status):
                return None
            seen = mark if mark is not None and time.time_ns() - mark[2] > SETTLED_NANOSECONDS else None
        # END first: it is written after the last batch, so a batch sealed in between is not missed.
        ended = os.path.exists(end)
        if os.path.exists(path):
            batch = Batch.read(path)
            if batch.header.step != step:
                raise FailedPrecondition(f"{path} says it is batch {batch.header.step}; the run directory is damaged.")
            return batch
        if ended:
            return None
        time.sleep(min(LONGEST_POLL_SECONDS, max(POLL_SECONDS, POLL_SHARE * (time.monotonic() - began))))


def _is_final(status: Path) -> bool:
    try:
        return json.loads(status.read_bytes()).get("state") in FINAL_STATES
    except FileNotFoundError:
        return False


def _warmup(step: int, warmup_steps: int) -> float:
    """Linear: 1/w, 2/w, ..., 1."""
    return min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0


def _refuse_unless_finite(step: int, values: dict[str, float]) -> None:
    wrong = [f"the {name} is {value}" for name, value in values.items() if not math.isfinite(value)]
    if wrong:
        raise FailedPrecondition(
            f"Step {step} was refused: {' and '.join(wrong)}. No adapter was published. "
            "Lower the learning rate, or look at the batch's recorded log-probabilities."
        )


def _last_recorded_step(run_dir: Path) -> int:
    return max((record["step"] for _, record in read_json_lines(run_dir / "metrics.jsonl")), default=-1)
