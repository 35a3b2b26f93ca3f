"""CPU-seconds of one optimizer step: packed with shared prompts, packed without, and the plain padded way, in one run, as ratios.

The workload of one RFT chunk: 10 prompts of 40 to 60 tokens, 8 completions of 36 to 56 tokens each, scores forced to vary, so that
all three train the same tokens. "Plain padded" is what a trainer written directly on transformers and peft does: a right-padded
batch, an attention mask, peft's own layers, logits at every position. The largest difference of the gradients is printed:
the three compute the same thing.

    python benchmarks/bench_learner.py [--model FOLDER] [--repeat 5] [--prompt 50] [--completion 46] [--rank 16]
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor
from transformers.utils.logging import disable_progress_bar
from tunesmith.runs.advantages import batch_advantages
from tunesmith.runs.batch import Batch, BatchHeader, BatchRollout, Sample
from tunesmith.runs.config import BaseModelRef, LearnerConfig
from tunesmith.training.losses import LossInput, two_policies
from tunesmith.training.model import Policy, load_policy
from tunesmith.training.packing import Sequence, Sharing, build_pack, plan_packs, sequences_of

DEFAULT_MODEL = Path(__file__).resolve().parents[1] / "platform/src/tunesmith/catalog/models/tiny-math-v1"


def main() -> None:
    """Measure all three, interleaved so that a busy machine is busy for each, and print one table."""
    options = _options()
    disable_progress_bar()
    torch.set_num_threads(1)
    settings = LearnerConfig(lora_rank=options.rank, max_tokens_per_micro_batch=options.budget)
    policy = load_policy(BaseModelRef(name="bench", path=options.model), settings, seed=0)
    plain = load_policy(BaseModelRef(name="bench", path=options.model), settings, seed=0)
    for layer in plain.model.modules():
        if isinstance(layer, LoraLinear):
            del layer.forward  # back to peft's own
    plain.base.set_attn_implementation("sdpa")
    batch = _batch(policy, options)
    rollouts = batch.header.rollouts
    advantages = batch_advantages([r.score for r in rollouts], [r.group for r in rollouts])
    sequences = sequences_of(batch, advantages, policy.vocabulary)
    ways: dict[str, tuple[Policy, Callable[[], None]]] = {
        "packed, shared prompt": (policy, lambda: _packed(policy, sequences, options.budget, Sharing.ALWAYS)),
        "packed, as planned": (policy, lambda: _packed(policy, sequences, options.budget, Sharing.AUTO)),
        "packed, not shared": (policy, lambda: _packed(policy, sequences, options.budget, Sharing.NEVER)),
        "plain padded": (plain, lambda: _padded(plain, sequences)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    gradients: dict[str, list[Tensor]] = {}
    for turn in range(options.repeat + 1):
        for name, (model, step) in ways.items():
            started = time.process_time()
            step()
            if turn:  # the first turn warms up
                seconds[name].append(time.process_time() - started)
            gradients[name] = [
                parameter.grad.clone() for parameter in model.adapter.values() if parameter.grad is not None
            ]
            model.model.zero_grad(set_to_none=True)
    _report(sequences, seconds, gradients)


def _packed(policy: Policy, sequences: list[Sequence], budget: int, sharing: Sharing) -> None:
    """What the learner does, from sequences to gradients."""
    tokens = sum(len(sequence.targets) for sequence in sequences)
    for plans in plan_packs(sequences, budget, policy.costs, sharing):
        pack = build_pack(plans)
        logp_K, _ = policy.logprobs(pack, 1.0)
        inputs = LossInput(logp_K, pack.mu_K, pack.advantage_K, pack.sequence_K, tokens, len(sequences))
        two_policies(inputs).loss.backward()


def _padded(policy: Policy, sequences: list[Sequence]) -> None:
    """The same loss on a right-padded batch through the model's own forward."""
    tokens = sum(len(sequence.targets) for sequence in sequences)
    longest = max(len(sequence.token_ids) for sequence in sequences)
    ids = torch.tensor([s.token_ids + [0] * (longest - len(s.token_ids)) for s in sequences])
    mask = torch.tensor([[1] * len(s.token_ids) + [0] * (longest - len(s.token_ids)) for s in sequences])
    logits = policy.base(input_ids=ids, attention_mask=mask, use_cache=False).logits.float()
    everything = logits.log_softmax(-1)
    logp_K = torch.cat(
        [everything[row, torch.tensor(s.trained) - 1, torch.tensor(s.targets)] for row, s in enumerate(sequences)]
    )
    mu_K = torch.tensor([value for s in sequences for value in s.mu])
    advantage_K = torch.tensor([s.advantage for s in sequences for _ in s.targets])
    two_policies(
        LossInput(logp_K, mu_K, advantage_K, torch.zeros_like(mu_K).long(), tokens, len(sequences))
    ).loss.backward()


def _batch(policy: Policy, options: argparse.Namespace) -> Batch:
    rng = random.Random(0)
    rollouts, samples = [], []
    for group in range(options.groups):
        prompt = [rng.randrange(policy.vocabulary) for _ in range(_about(rng, options.prompt))]
        for k in range(8):
            completion = [rng.randrange(policy.vocabulary) for _ in range(_about(rng, options.completion))]
            ids, sampled = prompt + completion, [0] * len(prompt) + [1] * len(completion)
            logprobs = [value * on for value, on in zip([0.0, *policy.score(ids)], sampled, strict=True)]
            rollouts.append(
                BatchRollout(rollout_id=f"{group}-{k}", row_index=group, group=group, score=k % 2, version=0)
            )
            samples.append(Sample(ids, sampled, logprobs, len(samples)))
    header = BatchHeader(step=0, epoch=0, temperature=1.0, learning_rate=1e-3, evaluator_version="", rollouts=rollouts)
    return Batch(header, samples)


def _about(rng: random.Random, length: int) -> int:
    return rng.randint(max(1, length * 4 // 5), length * 6 // 5)


def _report(sequences: list[Sequence], seconds: dict[str, list[float]], gradients: dict[str, list[Tensor]]) -> None:
    trained = sum(len(sequence.targets) for sequence in sequences)
    total = sum(len(sequence.token_ids) for sequence in sequences)
    plain, reference = statistics.median(seconds["plain padded"]), gradients["plain padded"]
    print(
        f"{len(sequences)} samples, {total} input tokens, {trained} trained; one thread; median of {len(seconds['plain padded'])}"
    )
    print(f"{'':24}{'CPU s / step':>14}{'ratio':>8}{'largest gradient difference':>30}")
    for name, values in seconds.items():
        middle = statistics.median(values)
        worst = max(float((g - r).abs().max()) for g, r in zip(gradients[name], reference, strict=True))
        print(f"{name:24}{middle:14.3f}{plain / middle:7.2f}x{worst:30.1e}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL)
    parser.add_argument("--groups", type=int, default=10, help="prompts, 8 completions each")
    parser.add_argument("--prompt", type=int, default=50, help="tokens, about")
    parser.add_argument("--completion", type=int, default=46, help="tokens, about")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--budget", type=int, default=16384, help="tokens of one micro-batch")
    parser.add_argument("--repeat", type=int, default=5)
    return parser.parse_args()


if __name__ == "__main__":
    main()
