"""Preference tuning, DPO and ORPO: tokenize the pairs, ask the reference once, then one optimizer step a batch of pairs.

`train` is the whole loop, top to bottom, on the same core as `sft.train` and with the same promise: killed at any instant and started
again, it ends with the same output, bit for bit (on the CPU, with the same torch and threads).

Sample 2i is the preferred answer of pair i, sample 2i + 1 the other. Suffixes: P pairs and S samples of a micro-batch, N all samples.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from tunesmith.errors import FailedPrecondition
from tunesmith.rendering.pairs import PairRenderer
from tunesmith.rendering.renderer import Renderer
from tunesmith.runs.files import write_atomic
from tunesmith.runs.tuning import TuningConfig
from tunesmith.training.model import Policy
from tunesmith.training.packing import Sequence
from tunesmith.training.pairs import answer_logprobs, packs_of, pair_input, pairs_of, sequences_of
from tunesmith.training.preferences import PairLoss, PairOutput, pair_loss_for
from tunesmith.training.prepare import Prepared, prepare
from tunesmith.training.samples import Samples
from tunesmith.training.schedules import Order
from tunesmith.training.tuning import TuningRun

BLOCK = 64
"""Pairs that are packed together when nothing is trained: for the reference and in evaluations. The same in both, so that a model
that was not trained yet gives the very log-probabilities of the reference."""


def train(run_dir: Path, config: TuningConfig, until_step: int | None = None) -> int:
    """Train until the output is written; return the number of optimizer steps.

    `until_step` stops after that many steps, for tests and by-hand runs: without an output.
    Raises TunesmithError with the reason when it cannot go on; `status.json` says it too.
    """
    with TuningRun(run_dir, config) as run:
        if run.is_written:
            return run.complete()
        loss_function = pair_loss_for(config)
        budget = run.budget

        # The data, as samples: each answer behind its prompt.
        renderer = Renderer.load(config.base_model.path, config.base_model.name, config.family)
        data = prepare(
            run_dir,
            config,
            renderer,
            lambda: PairRenderer(renderer, config.thinking_history.value, config.max_context_length).examples,
            lambda message: run.say("preparing", message),
        )
        run.read(data)
        samples = data.train
        order = Order(len(samples) // 2, config.batch_size_samples, config.epochs, config.seed)

        # The reference is the model before training: asked before a checkpoint is looked at, and only once.
        policy = run.load_policy()
        reference = ask_reference(run, policy, data, budget) if loss_function.needs_reference else Reference(None, None)
        run.begin(policy, order.steps, order.epoch)

        while True:
            if data.held_out is not None and run.evaluates:
                run.evaluated(**evaluate(policy, data.held_out, loss_function, reference.held_out_N, budget))
            run.checkpoint(must=run.evaluates or run.step == order.steps)
            if run.step == order.steps:
                break
            if until_step is not None and run.step >= until_step:
                return run.step

            # Forward and backward, one micro-batch at a time. Shares are divided by the pairs of the whole batch, so
            # their gradients add up to the batch's, however it was cut.
            run.start_step()
            pairs = order.batch(run.step)
            batch = sequences_of(samples, pairs, policy.vocabulary)
            loss, outputs = run.fit(
                batch, partial(backward, policy, batch, loss_function, reference.train_N, len(pairs))
            )

            tokens = sum(len(sequence.token_ids) for sequence in batch)
            trained_tokens = sum(len(sequence.targets) for sequence in batch)
            run.update(loss, tokens, trained_tokens, **_summary(outputs))

        run.finish()
        return run.step


def backward(
    policy: Policy, batch: Seq[Sequence], loss_function: PairLoss, reference_N: Tensor | None, pairs: int, budget: int
) -> tuple[float, list[PairOutput]]:
    """Leave the gradient of a batch of pairs in the policy, `budget` tokens at a time; return its loss and what came out."""
    loss, outputs = 0.0, list[PairOutput]()
    for pack in packs_of(batch, budget, policy):
        output = loss_function.compute(pair_input(pack, answer_logprobs(policy, pack), reference_N, pairs))
        output.loss.backward()
        loss += float(output.loss.detach())
        outputs.append(output)
    return loss, outputs


@dataclass(frozen=True)
class Reference:
    """Log-probabilities of every answer under the model before training; float32, on the CPU. None where the loss needs none."""

    train_N: Tensor | None
    held_out_N: Tensor | None


def ask_reference(run: TuningRun, policy: Policy, data: Prepared, budget: int) -> Reference:
    """The reference's log-probabilities, from `reference.safetensors`, which is written first where it is not there yet.

    Raises FailedPrecondition when the file does not fit the samples.
    """
    path = run.run_dir / "reference.safetensors"
    parts = {name: part for name, part in (("train", data.train), ("held_out", data.held_out)) if part is not None}
    if not path.exists():
        write_atomic(path, save({name: _all_logprobs(run, policy, part, budget) for name, part in parts.items()}))
    found = load_file(path)
    if {name: len(tensor) for name, tensor in found.items()} != {name: len(part) for name, part in parts.items()}:
        raise FailedPrecondition(f"{path} was made for other rows; delete it, and it is made again.")
    return Reference(found["train"], found.get("held_out"))


@torch.no_grad()
def _all_logprobs(run: TuningRun, policy: Policy, samples: Samples, budget: int) -> Tensor:
    logp_N = torch.zeros(len(samples))
    for pairs in _blocks(samples):
        run.say("reference", f"asking the reference: pair {pairs[0]} of {len(samples) // 2}", throttled=True)
        for pack in packs_of(sequences_of(samples, pairs, policy.vocabulary), budget, policy):
            logp_N[list(pack.numbers)] = answer_logprobs(policy, pack).cpu()
    return logp_N


@torch.no_grad()
def evaluate(
    policy: Policy, samples: Samples, loss_function: PairLoss, reference_N: Tensor | None, budget: int
) -> dict[str, Any]:
    """What the model says of held-out pairs, as `TuningRun.evaluated` takes it: means over pairs.

    A row of which nothing could be compared says null. Bits per byte are those of the preferred answers.
    """
    rows: list[dict[str, float | None]] = [{"loss": None, "margin": None} for _ in range(int(samples.notes["rows"]))]
    outputs: list[PairOutput] = []
    nats, tokens = 0.0, 0
    for pairs in _blocks(samples):
        for pack in packs_of(sequences_of(samples, pairs, policy.vocabulary), budget, policy):
            inputs = pair_input(pack, answer_logprobs(policy, pack), reference_N, len(samples) // 2)
            output = loss_function.compute(inputs)
            outputs.append(output)
            nats -= float(inputs.chosen_P.double().sum())
            tokens += len(pack.target_K)
            for pair, loss, margin in zip(
                pairs_of(pack), output.loss_P.tolist(), output.margin_P.tolist(), strict=True
            ):
                rows[int(samples.rows[2 * pair])] = {"loss": loss, "margin": margin}
    text_bytes = int(samples.bytes[::2].sum())
    summary = _summary(outputs)
    return {
        "loss": float(torch.cat([output.loss_P for output in outputs]).double().mean()),
        "rows": rows,
        "eval_bits_per_byte": nats / math.log(2) / text_bytes if text_bytes else None,
        "eval_tokens": tokens,
        "eval_accuracy": summary["accuracy"],
        "eval_margin": summary["margin"],
    }


def _blocks(samples: Samples) -> Iterator[range]:
    pairs = len(samples) // 2
    return (range(start, min(start + BLOCK, pairs)) for start in range(0, pairs, BLOCK))


def _summary(outputs: Seq[PairOutput]) -> dict[str, float]:
    """Means over all pairs of a batch."""
    columns = {
        "accuracy": [output.correct_P for output in outputs],
        "margin": [output.margin_P for output in outputs],
        "chosen_reward": [output.chosen_reward_P for output in outputs],
        "rejected_reward": [output.rejected_reward_P for output in outputs],
    }
    return {name: float(torch.cat(parts).double().mean()) for name, parts in columns.items()}
