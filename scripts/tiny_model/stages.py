"""The architecture, and one stage of its training: Muon or AdamW, warm-up, plateau, linear decay."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import Tokenizer
from torch.nn.functional import cross_entropy
from torch.optim import AdamW, Muon, Optimizer
from transformers import GenerationConfig, Qwen3Config, Qwen3ForCausalLM

from scripts.tiny_model import tokenizer as tokenizers
from scripts.tiny_model.batches import Batch

WARM_UP = 30
LOG_EVERY = 25


@dataclass(frozen=True)
class Stage:
    """One stretch of training.

    Attributes:
        name: Folder of its checkpoint.
        steps: Optimizer steps.
        mixture: What it shows, in the task's own terms.
        optimizer: ``muon`` (matrices; AdamW for embeddings and norms) or ``adamw`` (everything).
        rate: Peak learning rate of the matrices.
        other_rate: Peak learning rate of embeddings and norms.
        last: Share of the peak that the linear decay ends at.
        decay: Share of the steps, at the end, over which the rate decays.
    """

    name: str
    steps: int
    mixture: Any
    optimizer: Literal["muon", "adamw"]
    rate: float
    other_rate: float
    last: float
    decay: float


@dataclass(frozen=True)
class Progress:
    """What is looked at while a stage runs.

    Attributes:
        out: Receives one folder a stage and ``train_log.jsonl``.
        every: Steps between two evaluations; each also writes a checkpoint.
        evaluate: Gives the figures; told whether it is the stage's last evaluation.
        chat_template: Of the saved models.
    """

    out: Path
    every: int
    evaluate: Callable[[Qwen3ForCausalLM, bool], dict[str, float]]
    chat_template: str


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


def save(model: Qwen3ForCausalLM, tokenizer: Tokenizer, out: Path, chat_template: str) -> None:
    """Writes a folder that plain transformers loads."""
    vocabulary = tokenizer.get_vocab()
    stop, pad = vocabulary[tokenizers.TURN_END], vocabulary[tokenizers.END_OF_TEXT]
    model.config.update({"eos_token_id": stop, "pad_token_id": pad, "bos_token_id": None})
    model.generation_config = GenerationConfig(eos_token_id=stop, pad_token_id=pad)
    model.save_pretrained(out)
    tokenizers.save(tokenizer, out, chat_template)


def loss_of(model: Qwen3ForCausalLM, batch: Batch) -> torch.Tensor:
    """Mean cross-entropy over the assistant's tokens; padding is on the right, so causal attention needs no mask."""
    # The places are found on the CPU: asking an accelerator for them would make every step wait for it.
    targets = batch.targets_BT.flatten()
    places = (targets >= 0).nonzero().squeeze(1)
    ids_BT = batch.ids_BT.to(model.device, non_blocking=True)
    hidden_BTH = model.model(ids_BT, use_cache=False).last_hidden_state
    kept_NH = hidden_BTH.flatten(0, 1)[places.to(model.device, non_blocking=True)]
    return cross_entropy(model.lm_head(kept_NH), targets[places].to(model.device, non_blocking=True))


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


def run(
    model: Qwen3ForCausalLM, tokenizer: Tokenizer, stage: Stage, stream: Iterator[Batch], progress: Progress
) -> None:
    """Trains one stage, logging to ``train_log.jsonl`` and stdout, and checkpointing at every evaluation."""
    parts = optimizers(model, stage)
    peaks = [[group["lr"] for group in part.param_groups] for part in parts]
    cpu, wall, tokens, losses = 0.0, 0.0, 0, []
    running = 0.0
    for step in range(stage.steps):
        began, began_wall = time.process_time(), time.perf_counter()
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
        tokens += batch.ids_BT.numel()
        losses.append(loss.detach())
        last = step + 1 == stage.steps
        is_logged = (step + 1) % LOG_EVERY == 0 or last
        if is_logged:
            for value in torch.stack(losses).tolist():
                running = value if running == 0.0 else 0.95 * running + 0.05 * value
            losses.clear()
        cpu, wall = cpu + time.process_time() - began, wall + time.perf_counter() - began_wall
        if is_logged:
            line: dict[str, object] = {"stage": stage.name, "step": step + 1, "loss": round(running, 4)}
            line |= {"cpu_s": round(cpu, 1), "wall_s": round(wall, 1), "tokens": tokens}
            if (step + 1) % progress.every == 0 or last:
                model.eval()
                line |= progress.evaluate(model, last)
                model.train()
                save(model, tokenizer, progress.out / stage.name, progress.chat_template)
            _log(line, progress.out)


def _log(line: dict[str, object], out: Path) -> None:
    text = json.dumps(line)
    with (out / "train_log.jsonl").open("a") as file:
        file.write(text + "\n")
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
