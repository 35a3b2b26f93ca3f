"""Supervised fine-tuning: tokenize the rows, then one optimizer step a batch, evaluating on the way.

`train` is the whole loop, top to bottom. It is a pure function of run.json, the data and the base model: killed at any instant and
started again, it ends with the same output, bit for bit (on the CPU, with the same torch and threads).
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import torch

from tunesmith.rendering.examples import ExampleRenderer
from tunesmith.rendering.renderer import Renderer
from tunesmith.runs.tuning import TuningConfig
from tunesmith.training.losses import weighted_nll
from tunesmith.training.model import Policy
from tunesmith.training.packing import Sequence, Sharing, build_pack, plan_packs
from tunesmith.training.prepare import prepare
from tunesmith.training.samples import Samples
from tunesmith.training.schedules import Order
from tunesmith.training.tuning import TuningRun

EVALUATION_BATCH = 64
"""Samples that are packed together in an evaluation."""


def train(run_dir: Path, config: TuningConfig, until_step: int | None = None) -> int:
    """Train until the output is written; return the number of optimizer steps.

    `until_step` stops after that many steps, for tests and by-hand runs: without an output, and without a checkpoint.
    Raises TunesmithError with the reason when it cannot go on; `status.json` says it too.
    """
    with TuningRun(run_dir, config) as run:
        if run.is_written:
            return run.complete()

        # The data, as samples: token ids and what each of them counts.
        renderer = Renderer.load(config.base_model.path, config.base_model.name, config.family)
        data = prepare(
            run_dir,
            config,
            renderer,
            lambda: ExampleRenderer(renderer, config.thinking_history.value, config.max_context_length).examples,
            lambda message: run.say("preparing", message),
        )
        run.read(data)
        samples = data.train
        order = Order(len(samples), config.batch_size_samples, config.epochs, config.seed)

        # Where were we? The newest whole checkpoint knows; without one, the run begins.
        policy = run.load_policy()
        run.begin(policy, order.steps, order.epoch)

        while True:
            if data.held_out is not None and run.evaluates:
                run.evaluated(**evaluate(policy, data.held_out, run.budget))
            run.checkpoint(must=run.evaluates or run.step == order.steps)
            if run.step == order.steps:
                break
            if until_step is not None and run.step >= until_step:
                return run.step

            # Forward and backward, one micro-batch at a time. Shares are divided by the trained tokens of the whole
            # batch, so their gradients add up to the batch's, however it was cut.
            run.start_step()
            batch = [samples.sequence(number, policy.vocabulary) for number in order.batch(run.step)]
            trained_tokens = sum(len(sequence.targets) for sequence in batch)
            loss = run.fit(batch, partial(backward, policy, batch, trained_tokens))
            run.update(loss, sum(len(sequence.token_ids) for sequence in batch), trained_tokens)

        run.finish()
        return run.step


def backward(policy: Policy, batch: list[Sequence], trained_tokens: int, budget: int) -> float:
    """Leave the gradient of a batch in the policy, `budget` tokens at a time; return its loss."""
    loss = 0.0
    for plans in plan_packs(batch, budget, policy.costs, Sharing.NEVER):
        pack = build_pack(plans, policy.device)
        logp_K, _ = policy.logprobs(pack, entropy=False)
        share = weighted_nll(logp_K, pack.weight_K, trained_tokens)
        share.backward()
        loss += float(share.detach())
    return loss


@torch.no_grad()
def evaluate(policy: Policy, samples: Samples, budget: int) -> dict[str, Any]:
    """What the model says of held-out samples, as `TuningRun.evaluated` takes it.

    The loss is weighted like the training loss; `eval_bits_per_byte` and the rows' nats are not.
    `budget`: tokens of a micro-batch.
    """
    rows = [{"nats": 0.0, "tokens": 0, "bytes": 0} for _ in range(int(samples.notes["rows"]))]
    loss = 0.0
    for start in range(0, len(samples), EVALUATION_BATCH):
        numbers = range(start, min(start + EVALUATION_BATCH, len(samples)))
        batch = [samples.sequence(number, policy.vocabulary) for number in numbers]
        for plans in plan_packs(batch, budget, policy.costs, Sharing.NEVER):
            pack = build_pack(plans, policy.device)
            logp_K, _ = policy.logprobs(pack, entropy=False)
            loss += float(weighted_nll(logp_K.double(), pack.weight_K.double(), 1))
            nats_S = torch.zeros(len(pack.numbers), dtype=torch.float64, device=policy.device)
            nats_S.index_add_(0, pack.sequence_K, -logp_K.double())
            tokens_S = pack.sequence_K.bincount(minlength=len(pack.numbers))
            for number, nats, tokens in zip(pack.numbers, nats_S.tolist(), tokens_S.tolist(), strict=True):
                row = rows[int(samples.rows[number])]
                row["nats"] += nats
                row["tokens"] += tokens
                row["bytes"] += int(samples.bytes[number])
    nats, tokens, text_bytes = (sum(row[key] for row in rows) for key in ("nats", "tokens", "bytes"))
    return {
        "loss": loss / tokens,
        "rows": rows,
        "eval_bits_per_byte": nats / math.log(2) / text_bytes if text_bytes else None,
        "eval_tokens": tokens,
    }
