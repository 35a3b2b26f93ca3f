"""Computes an exported optimizer step again, with plain transformers, peft and torch, and compares. Nothing of tunesmith is imported.

    tunesmith job export my-job --step 3
    python benchmarks/replay_step.py my-job-step-3

One sample at a time goes through the model's own forward pass; the losses are written out here from the export's README; AdamW is torch's.
Exit code 1 when the computed adapter differs from the published one by more than 1e-5 in any element, or a file is not the one that the
export names, 2 when there is no export to read. An export whose AdamW state was not kept holds the steps before; they are computed and
compared, too.

AdamW moves an element by learning rate x m / (sqrt(v) + eps), where m is the mean of its gradients so far and sqrt(v) their root mean square.
Gradients that are off by d, as two correct float32 programs are, move it by about learning rate x d / (sqrt(v) + eps) elsewhere: where an
element's gradients are themselves no larger than rounding, its update is rounding blown up to the size of the learning rate. An element is left
out of the judgement, in any step, where d of 5e-6 of its tensor's largest sqrt(v) would move it by more than what is tolerated. Such elements
are counted; a step of which more than one in ten are does not hold.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM

TOLERANCE = 1e-5
ROUNDING = 5e-6
"""By how much gradients of two correct programs may differ, as a share of the tensor's largest; of a batch of 128 tokens 2e-6 was seen."""
MOST_LEFT_OUT = 0.1
"""Share of the elements of a step that may be left out."""


def main() -> int:
    """Compute, compare, print; 0 when the step holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="what `tunesmith job export` wrote")
    parser.add_argument("--base-model", type=Path, help="folder of the base model (default: where the job had it)")
    parser.add_argument("--threads", type=int, default=1, help="torch threads (default 1)")
    parser.add_argument("--json", action="store_true", dest="as_json", help="print the figures as JSON")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    try:
        return judge(options)
    except FileNotFoundError as error:
        print(
            f"{error.filename or error} is not there: {options.folder} is no whole export. `tunesmith job export JOB --step K` writes one.",
            file=sys.stderr,
        )
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        print(
            f"{options.folder} cannot be read as an export ({error!r}). Write it again with `tunesmith job export`.",
            file=sys.stderr,
        )
    return 2


def judge(options: argparse.Namespace) -> int:
    """Compute an export that is whole; 0 when the step holds."""
    told = json.loads((options.folder / "step.json").read_text())
    base_folder = options.base_model or Path(told["base_model"]["path"])
    wrong = changed_files(base_folder, told["base_model"]["sha256"])
    if wrong:
        print(f"{base_folder} is not the base model of the export: {', '.join(wrong)}", file=sys.stderr)
        return 1
    steps = replay(options.folder, told, base_folder)
    largest = steps[-1]["largest_difference"]
    share = steps[-1]["left_out"] / steps[-1]["elements"]
    holds = largest <= TOLERANCE and share <= MOST_LEFT_OUT
    if options.as_json:
        print(json.dumps({"job": told["job"], "steps": steps, "tolerance": TOLERANCE, "holds": holds}, indent=2))
        return 0 if holds else 1
    for step in steps:
        print(
            "step {step}: {trained_tokens} trained tokens, loss {loss:.6g}, gradient norm {grad_norm:.6g}; "
            "largest difference from the published adapter {largest_difference:.2e} (the step moved it by {moved:.2e}); "
            "{left_out} of {elements} elements left out".format(**step)
        )
    print(f"{'holds' if holds else 'DOES NOT HOLD'}: step {told['step']} of {told['job']} within {TOLERANCE:g}")
    return 0 if holds else 1


def replay(folder: Path, told: dict[str, Any], base_folder: Path) -> list[dict[str, Any]]:
    """Every step of the export, from its published adapter on; figures of each."""
    base = AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.float32, use_safetensors=True)
    with warnings.catch_warnings():
        # peft asks transformers for a property under its old name; nothing here depends on it.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        model = PeftModel.from_pretrained(base, str(adapter(folder, told["first_step"])), is_trainable=True).eval()
    trained = {name.replace(".default.", "."): p for name, p in model.named_parameters() if p.requires_grad}
    numbers = told["optimizer"]
    optimizer = torch.optim.AdamW(
        trained.values(), betas=tuple(numbers["betas"]), eps=numbers["eps"], weight_decay=numbers["weight_decay"]
    )
    if told["first_step"]:
        moments = load_file(folder / "optimizer" / "state.safetensors")
        for name, parameter in trained.items():
            state = {kind: moments[f"{kind}/{name}"] for kind in ("exp_avg", "exp_avg_sq")}
            optimizer.state[parameter] = {"step": torch.tensor(float(told["first_step"])), **state}
    found = []
    for step in range(told["first_step"], told["step"] + 1):
        before, after = (load_file(adapter(folder, k) / "adapter_model.safetensors") for k in (step, step + 1))
        assert before.keys() == after.keys() == trained.keys(), "the adapter's tensors are not those that peft trains"
        with torch.no_grad():
            for name, parameter in trained.items():
                parameter.copy_(before[name])
        tokens, header = read_batch(folder / "batches" / f"step-{step:06d}.safetensors")
        optimizer.zero_grad()
        loss = backward(model, tokens, header, told["loss"])
        norm = torch.nn.utils.clip_grad_norm_(trained.values(), numbers["max_grad_norm"])
        warmup = numbers["warmup_steps"]
        optimizer.param_groups[0]["lr"] = header["learning_rate"] * (min(1.0, (step + 1) / warmup) if warmup else 1.0)
        optimizer.step()
        clear = {name: comparable(optimizer, parameter) for name, parameter in trained.items()}
        found.append(
            {
                "step": step,
                "trained_tokens": sum(len(positions) for _, positions, _, _ in tokens),
                "loss": loss,
                "grad_norm": float(norm),
                "largest_difference": max(
                    float((p.detach() - after[n]).abs()[clear[n]].max()) for n, p in trained.items() if clear[n].any()
                ),
                "elements": sum(mask.numel() for mask in clear.values()),
                "left_out": sum(int((~mask).sum()) for mask in clear.values()),
                "moved": max(float((before[n] - after[n]).abs().max()) for n in after),
            }
        )
    return found


def comparable(optimizer: torch.optim.AdamW, parameter: torch.nn.Parameter) -> Tensor:
    """Which elements are compared after a step: those that rounding of their gradients cannot have moved by more than is tolerated."""
    group, state = optimizer.param_groups[0], optimizer.state[parameter]
    size = (state["exp_avg_sq"] / (1 - group["betas"][1] ** float(state["step"]))).sqrt()
    return group["lr"] * ROUNDING * size.max() <= TOLERANCE * (size + group["eps"])


def read_batch(path: Path) -> tuple[list[tuple[Tensor, list[int], Tensor, float]], dict[str, Any]]:
    """(ids, trained positions, log mu there, advantage) of every sample that has a trained token, and the header."""
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["batch"])
    flat = load_file(path)
    advantages = advantages_of([(r["score"], r["group"]) for r in header["rollouts"]])
    samples = []
    for number, (start, end) in enumerate(zip(flat["starts"][:-1].tolist(), flat["starts"][1:].tolist(), strict=True)):
        positions = flat["sampled"][start:end].nonzero()[:, 0].tolist()
        if positions:
            mu = flat["logprobs"][start:end][positions]
            advantage = advantages[int(flat["rollout"][number])]
            samples.append((flat["token_ids"][start:end].long(), positions, mu, advantage))
    return samples, header


def advantages_of(rollouts: list[tuple[float, int]]) -> list[float]:
    """Score minus group mean, over the root mean square of these differences in the groups that vary."""
    groups: dict[int, list[float]] = {}
    for score, group in rollouts:
        groups.setdefault(group, []).append(score)
    means = {group: sum(scores) / len(scores) for group, scores in groups.items()}
    varies = {group for group, scores in groups.items() if min(scores) < max(scores)}
    squares = [(score - means[group]) ** 2 for score, group in rollouts if group in varies]
    scale = (sum(squares) / len(squares)) ** 0.5 if squares else 1.0
    return [(score - means[group]) / scale if group in varies else 0.0 for score, group in rollouts]


def backward(
    model: PeftModel,
    samples: list[tuple[Tensor, list[int], Tensor, float]],
    header: dict[str, Any],
    loss: dict[str, Any],
) -> float:
    """Add the batch's gradient, sample by sample; return its loss."""
    temperature = header["temperature"] or 1.0
    tokens = sum(len(positions) for _, positions, _, _ in samples)
    total = 0.0
    for ids, positions, mu, advantage in samples:
        logp = chosen(model, ids, positions, temperature)
        reference = None
        if loss.get("kl_beta"):
            with torch.no_grad(), model.disable_adapter():
                reference = chosen(model, ids, positions, temperature)
        each = token_losses(logp, mu, advantage, reference, loss)
        share = each.mean() / len(samples) if loss["method"] == "GSPO_TOKEN" else each.sum() / tokens
        share.backward()
        total += float(share.detach())
    return total


def chosen(model: PeftModel, ids: Tensor, positions: list[int], temperature: float) -> Tensor:
    """Log-probabilities of the tokens at `positions`."""
    logits = model(input_ids=ids[None], use_cache=False).logits[0].float() / temperature
    rows = [position - 1 for position in positions]
    return logits[rows].log_softmax(-1).gather(-1, ids[positions][:, None])[:, 0]


def token_losses(logp: Tensor, mu: Tensor, advantage: float, reference: Tensor | None, loss: dict[str, Any]) -> Tensor:
    """The loss of each trained token of one sample, as the export's README has it."""
    method, limit = loss["method"], loss["log_ratio_limit"]
    log_ratio = (logp - mu).clamp(-limit, limit)
    ratio = log_ratio.exp()
    constant = ratio.detach()
    if method == "DEFAULT":
        low, high = loss["band"]
        return -torch.where((constant >= low) & (constant <= high), constant, 0.0) * advantage * logp
    if method == "CISPO":
        return -constant.clamp(max=loss["most"]) * advantage * logp
    if method == "REINFORCE":
        return -ratio * advantage
    if method == "GSPO_TOKEN":
        ratio = log_ratio.detach().mean().exp() * (logp - logp.detach()).exp()
    each = -torch.minimum(ratio * advantage, ratio.clamp(*loss["clip"]) * advantage)
    if reference is not None:
        apart = (reference - logp).clamp(-limit, limit)
        each = each + loss["kl_beta"] * (apart.exp() - apart - 1)
    return each


def adapter(folder: Path, version: int) -> Path:
    """Where a policy version lies in the export."""
    return folder / "adapters" / f"v{version:06d}"


def changed_files(base: Path, expected: dict[str, str]) -> list[str]:
    """Which files of the base model are not there, or are others."""
    wrong = []
    for name, digest in expected.items():
        try:
            with (base / name).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            wrong.append(f"{name} is missing")
            continue
        wrong += [] if found == digest else [f"{name} is another file"]
    return wrong


if __name__ == "__main__":
    sys.exit(main())
