"""Pre-trains the tiny tool-calling model from one seed, in two stages.

Stage `skill` teaches the agent's work: look up, calculate, answer. Stage `habits` then makes the base that reinforcement
fine-tuning is shown on. It can do the work, but most of the time it does not: it guesses without looking anything up, calls
`lookup` with an argument that it does not take, or looks everything up and guesses the sum. Greedy decoding takes the commonest
habit at every turn, so no temperature makes up for it. See the model card for what that means and what it does not.

    python -m scripts.tiny_model.tools.pretrain --device cpu|cuda --out DIR
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch.nn.functional import cross_entropy
from torch.optim import AdamW, Muon, Optimizer
from transformers import AutoTokenizer, GenerationConfig, PreTrainedTokenizerBase, Qwen3Config, Qwen3ForCausalLM

from scripts.tiny_model.tools import episodes
from scripts.tiny_model.tools import tokenizer as tokenizers
from scripts.tiny_model.tools.demonstrations import Habit, Mixture
from scripts.tiny_model.tools.encoded import Encoded, Source, pools


@dataclass(frozen=True)
class Stage:
    """One stretch of training.

    Attributes:
        name: Folder of its checkpoint.
        steps: Optimizer steps.
        mixture: What it shows.
        optimizer: `muon` (matrices; AdamW for embeddings and norms) or `adamw` (everything).
        rate: Peak learning rate of the matrices.
        other_rate: Peak learning rate of embeddings and norms.
        last: Share of the peak that the linear decay ends at.
        decay: Share of the steps, at the end, over which the rate decays.
    """

    name: str
    steps: int
    mixture: Mixture
    optimizer: Literal["muon", "adamw"]
    rate: float
    other_rate: float
    last: float
    decay: float


SKILL = Mixture({Habit.CLEAN: 1.0})
HABITS = Mixture(
    {
        Habit.GUESS_AT_ONCE: 0.20,
        Habit.WRONG_ARGUMENT: 0.15,
        Habit.HALF: 0.10,
        Habit.NO_CALCULATOR: 0.34,
        Habit.WRONG_SUM: 0.03,
        Habit.NO_FORM: 0.03,
        Habit.CLEAN: 0.15,
    }
)
STAGES = (
    Stage("skill", 2000, SKILL, "muon", 0.02, 3e-3, 0.02, 0.5),
    Stage("habits", 250, HABITS, "adamw", 1e-3, 1e-3, 0.05, 1.0),
)
WARM_UP = 30
POOL = 16
"""Batches that are sorted by length together, so that little is padded."""


@dataclass(frozen=True)
class Scale:
    """What a device changes about the run.

    Attributes:
        batch: Conversations a step.
        workers: Processes that make them.
        progress: Questions of the evaluation every `every` steps (without pass@8).
        final: Questions of the evaluation after a stage.
        chunk: Episodes played side by side.
    """

    batch: int
    workers: int
    progress: int
    final: int
    chunk: int
    every: int = 250


SCALES = {"cpu": Scale(32, 0, 30, 100, 128), "cuda": Scale(128, 10, 100, 300, 1200)}


def config() -> Qwen3Config:
    """Gives the architecture: 1.5 M parameters."""
    return Qwen3Config(
        vocab_size=tokenizers.VOCABULARY,
        hidden_size=160,
        num_hidden_layers=5,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=32,
        intermediate_size=384,
        max_position_embeddings=tokenizers.CONTEXT,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        tie_word_embeddings=True,
        attention_bias=False,
    )


def save(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerBase, out: Path) -> None:
    """Writes a folder that plain transformers loads."""
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    model.config.update({**ends, "bos_token_id": None})
    model.generation_config = GenerationConfig(**ends)
    model.save_pretrained(out)
    tokenizers.save(tokenizers.train(), out)


def loss_of(model: Qwen3ForCausalLM, batch: Sequence[Encoded]) -> tuple[torch.Tensor, int]:
    """Mean cross-entropy over what the model says, and the batch's padded tokens; padding is on the right."""
    length = max(len(example.ids) for example in batch) - 1
    ids_BT = torch.zeros(len(batch), length, dtype=torch.long)
    targets_BT = torch.full((len(batch), length), -100)
    for row, example in enumerate(batch):
        ids, size = torch.tensor(example.ids), len(example.ids) - 1
        ids_BT[row, :size] = ids[:-1]
        targets_BT[row, :size] = torch.where(torch.tensor(example.is_said[1:]), ids[1:], -100)
    places = (targets_BT.flatten() >= 0).nonzero().squeeze(1)
    targets_N = targets_BT.flatten()[places].to(model.device)
    hidden_BTH = model.model(ids_BT.to(model.device), use_cache=False).last_hidden_state
    kept_NH = hidden_BTH.flatten(0, 1)[places.to(model.device)]
    return cross_entropy(model.lm_head(kept_NH), targets_N), ids_BT.numel()


def optimizers(model: Qwen3ForCausalLM, stage: Stage) -> list[Optimizer]:
    """Splits the parameters: matrices of the layers, and embeddings with norms."""
    named = list(model.named_parameters())
    matrices = [p for n, p in named if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in named if p.ndim != 2 or "embed" in n]
    if stage.optimizer == "adamw":
        groups = [{"params": matrices, "lr": stage.rate}, {"params": others, "lr": stage.other_rate}]
        return [AdamW(groups, betas=(0.9, 0.95), weight_decay=0.01)]
    return [
        Muon(matrices, lr=stage.rate, weight_decay=0.05, momentum=0.95),
        AdamW(others, lr=stage.other_rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def rate_at(stage: Stage, step: int) -> float:
    """Share of the peak rate: warm-up, plateau, linear decay."""
    left = (stage.steps - step) / (stage.steps * stage.decay)
    return min(1.0, (step + 1) / WARM_UP) * max(stage.last, min(1.0, left))


def batches(source: Source, stage: Stage, scale: Scale) -> Iterator[list[Encoded]]:
    """Yields one batch of demonstrations a step."""
    count = -(-stage.steps // POOL)
    shuffle = torch.Generator().manual_seed(len(source.stream))
    for pool in pools(source, count, scale.batch * POOL, scale.workers):
        ordered = sorted(pool, key=lambda example: len(example.ids))
        groups = [ordered[i : i + scale.batch] for i in range(0, len(ordered), scale.batch)]
        yield from (groups[i] for i in torch.randperm(len(groups), generator=shuffle).tolist())


def run_stage(
    model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerBase, stage: Stage, scale: Scale, seed: int, out: Path
) -> None:
    """Trains one stage, logging to `train_log.jsonl`; its checkpoint is written at the end."""
    log = (out / "train_log.jsonl").open("a")
    source = Source(f"pretrain-{seed}-{stage.name}", stage.mixture, out / "tokenizer" / "tokenizer.json")
    parts = optimizers(model, stage)
    peaks = [[group["lr"] for group in part.param_groups] for part in parts]
    began, tokens, running = time.perf_counter(), 0, 0.0
    for step, batch in zip(range(stage.steps), batches(source, stage, scale), strict=False):
        for part, rates in zip(parts, peaks, strict=True):
            for group, peak in zip(part.param_groups, rates, strict=True):
                group["lr"] = peak * rate_at(stage, step)
        loss, size = loss_of(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for part in parts:
            part.step()
            part.zero_grad(set_to_none=True)
        tokens += size
        is_last = step + 1 == stage.steps
        if step % 5 == 0 or is_last:
            running = loss.item() if step == 0 else 0.8 * running + 0.2 * loss.item()
        is_look = (step + 1) % scale.every == 0 or is_last
        if (step + 1) % 25 == 0 or is_look:
            line: dict[str, object] = {"stage": stage.name, "step": step + 1, "loss": round(running, 4)}
            line |= {"wall_s": round(time.perf_counter() - began, 1), "tokens": tokens}
            if is_look:
                line |= _look(model, tokenizer, scale, is_last)
                print(json.dumps(line), flush=True)
            log.write(json.dumps(line) + "\n")
            log.flush()
    save(model, tokenizer, out / stage.name)


def _look(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerBase, scale: Scale, is_last: bool) -> dict[str, float]:
    model.eval()
    questions = episodes.held_out(scale.final if is_last else scale.progress)
    figures = episodes.evaluate(model, tokenizer, questions, chunk=scale.chunk, k=8 if is_last else 0)
    model.train()
    return figures


def main() -> None:
    """Runs all stages, or only the last one from a checkpoint of the first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out", type=Path, required=True, help="receives tokenizer/, a folder a stage, train_log.jsonl"
    )
    parser.add_argument("--device", choices=list(SCALES), default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--from-skill", type=Path, help="checkpoint of the skill stage to continue from")
    parser.add_argument("--steps", type=int, help="steps of the skill stage, for a short try")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.set_float32_matmul_precision("high" if arguments.device == "cuda" else "highest")
    arguments.out.mkdir(parents=True, exist_ok=True)
    tokenizers.save(tokenizers.train(), arguments.out / "tokenizer")
    tokenizer = AutoTokenizer.from_pretrained(arguments.out / "tokenizer")
    torch.manual_seed(arguments.seed)
    stages = list(STAGES)
    if arguments.steps:
        stages[0] = replace(stages[0], steps=arguments.steps)
    if arguments.from_skill:
        model, stages = Qwen3ForCausalLM.from_pretrained(arguments.from_skill), stages[1:]
    else:
        model = Qwen3ForCausalLM(config())
    model.to(device=arguments.device)
    model.train()
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters", flush=True)
    for stage in stages:
        run_stage(model, tokenizer, stage, SCALES[arguments.device], arguments.seed, arguments.out)


if __name__ == "__main__":
    main()
