"""Pre-trains the tiny model from one seed, in stages, on one CPU core.

Stage ``skill`` teaches the sums and the reading (Muon for matrices, AdamW for the rest). Stage ``form`` then
makes the base that reinforcement fine-tuning is shown on: it prefers to say "The answer is N." and is often
careless, so it scores near zero where ``<answer>`` tags are required, at every temperature, although it can
do the sums. See the model card (README.md) for what that means and what it does not.

    python -m scripts.tiny_model.pretrain --seed 0 --out DIR [--threads 1] [--from-skill DIR]
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch.nn.functional import cross_entropy
from torch.optim import AdamW, Muon, Optimizer
from transformers import AutoTokenizer, GenerationConfig, PreTrainedTokenizerBase, Qwen3Config, Qwen3ForCausalLM

from scripts.tiny_model import sampling
from scripts.tiny_model import tokenizer as tokenizers
from scripts.tiny_model.demonstrations import Batch, Mixture, batches


@dataclass(frozen=True)
class Stage:
    """One stretch of training.

    Attributes:
        name: Folder of its checkpoint.
        steps: Optimizer steps.
        mixture: What it shows.
        optimizer: ``muon`` (matrices; AdamW for embeddings and norms) or ``adamw`` (everything).
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


STAGES = (
    Stage("skill", 1800, Mixture(tagged=0.5, flawed=0.0, drill=0.25), "muon", 0.02, 3e-3, 0.02, 0.5),
    Stage("form", 250, Mixture(tagged=0.17, flawed=0.3, drill=0.05), "adamw", 1e-3, 1e-3, 0.05, 1.0),
)
BATCH = 32
WARM_UP = 30
EVAL_EVERY = 150
EVAL_PROBLEMS = 100


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
    model.config.update(
        {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
    )
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    model.save_pretrained(out)
    tokenizers.save(tokenizers.train(), out)


def loss_of(model: Qwen3ForCausalLM, batch: Batch) -> torch.Tensor:
    """Mean cross-entropy over the assistant's tokens; padding is on the right, so causal attention needs no mask."""
    hidden_BTH = model.model(batch.ids_BT, use_cache=False).last_hidden_state
    kept_BT = batch.targets_BT >= 0
    return cross_entropy(model.lm_head(hidden_BTH[kept_BT]), batch.targets_BT[kept_BT])


def optimizers(model: Qwen3ForCausalLM, stage: Stage) -> list[Optimizer]:
    """Splits the parameters: matrices of the layers, and embeddings with norms."""
    named = list(model.named_parameters())
    matrices = [p for n, p in named if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in named if p.ndim != 2 or "embed" in n]
    if stage.optimizer == "adamw":
        return [
            AdamW(
                [{"params": matrices, "lr": stage.rate}, {"params": others, "lr": stage.other_rate}],
                betas=(0.9, 0.95),
                weight_decay=0.01,
            )
        ]
    return [
        Muon(matrices, lr=stage.rate, weight_decay=0.05, momentum=0.95),
        AdamW(others, lr=stage.other_rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def rate_at(stage: Stage, step: int) -> float:
    """Share of the peak rate: warm-up, plateau, linear decay."""
    left = (stage.steps - step) / (stage.steps * stage.decay)
    return min(1.0, (step + 1) / WARM_UP) * max(stage.last, min(1.0, left))


def run_stage(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerBase, stage: Stage, seed: int, out: Path) -> None:
    """Trains one stage, logging to ``train_log.jsonl`` and checkpointing at every evaluation."""
    log = (out / "train_log.jsonl").open("a")
    problems = sampling.held_out(EVAL_PROBLEMS)
    stream = batches(tokenizer, f"pretrain-{seed}-{stage.name}", stage.mixture, BATCH)
    parts = optimizers(model, stage)
    peaks = [[group["lr"] for group in part.param_groups] for part in parts]
    spent, tokens, running = 0.0, 0, 0.0
    for step in range(stage.steps):
        began = time.process_time()
        for part, rates in zip(parts, peaks, strict=True):
            for group, peak in zip(part.param_groups, rates, strict=True):
                group["lr"] = peak * rate_at(stage, step)
        batch = next(stream)
        loss = loss_of(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for part in parts:
            part.step()
            part.zero_grad(set_to_none=True)
        spent += time.process_time() - began
        tokens += batch.ids_BT.numel()
        running = loss.item() if step == 0 else 0.95 * running + 0.05 * loss.item()
        last = step + 1 == stage.steps
        if (step + 1) % 25 == 0 or last:
            line = {
                "stage": stage.name,
                "step": step + 1,
                "loss": round(running, 4),
                "cpu_s": round(spent, 1),
                "tokens": tokens,
            }
            if (step + 1) % EVAL_EVERY == 0 or last:
                model.eval()
                line |= sampling.evaluate(model, tokenizer, problems)
                model.train()
                save(model, tokenizer, out / stage.name)
            log.write(json.dumps(line) + "\n")
            log.flush()


def main() -> None:
    """Runs all stages, or only the last one from a checkpoint of the first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out", type=Path, required=True, help="receives tokenizer/, one folder a stage, train_log.jsonl"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--from-skill", type=Path, help="checkpoint of the skill stage to continue from")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    tokenizers.save(tokenizers.train(), arguments.out / "tokenizer")
    tokenizer = AutoTokenizer.from_pretrained(arguments.out / "tokenizer")
    torch.manual_seed(arguments.seed)
    stages = STAGES
    if arguments.from_skill:
        model, stages = Qwen3ForCausalLM.from_pretrained(arguments.from_skill), STAGES[1:]
    else:
        model = Qwen3ForCausalLM(config())
    model.train()
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters", flush=True)
    for stage in stages:
        run_stage(model, tokenizer, stage, arguments.seed, arguments.out)


if __name__ == "__main__":
    main()
