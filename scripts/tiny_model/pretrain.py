"""Pre-trains a tiny model from one seed, in stages.

The first stage teaches the skill. The last makes the base that reinforcement fine-tuning is shown on: one that has
a bad habit which no temperature cures, although it can do the task. See the model cards for what that means.

    python -m scripts.tiny_model.pretrain --task sums|drawings|tools --device cpu|cuda --out DIR
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import Qwen3ForCausalLM

from scripts.tiny_model import stages, task
from scripts.tiny_model import tokenizer as tokenizers
from scripts.tiny_model.batches import batches

EVAL_EVERY = 150


@dataclass(frozen=True)
class Scale:
    """What a device changes: the launches of a step cost more than its sums on an accelerator, so its batches are larger."""

    batch: int
    every: int
    items: int
    """Factor on the items of an evaluation."""


SCALES = {"cpu": Scale(32, EVAL_EVERY, 1), "cuda": Scale(128, 300, 3)}


def main() -> None:
    """Runs all stages, or those after a checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=task.NAMES, default="sums")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out", type=Path, required=True, help="receives tokenizer/, one folder a stage, train_log.jsonl"
    )
    parser.add_argument("--device", choices=tuple(SCALES), default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    parser.add_argument("--batch", type=int, help="examples a step (default: 32 on cpu, 128 on cuda)")
    parser.add_argument("--steps", type=int, help="stop each stage after so many steps, for a trial")
    parser.add_argument("--from-skill", type=Path, help="checkpoint of the first stage to continue from")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.set_float32_matmul_precision("high")  # TF32 where there is any; nothing on a CPU
    chosen, scale = task.named(arguments.task), SCALES[arguments.device]
    arguments.out.mkdir(parents=True, exist_ok=True)
    tokenizers.save(chosen.train_tokenizer(), arguments.out / "tokenizer", chosen.chat_template)
    tokenizer = Tokenizer.from_file(str(arguments.out / "tokenizer" / "tokenizer.json"))
    torch.manual_seed(arguments.seed)
    rest = chosen.stages
    if arguments.from_skill:
        model, rest = Qwen3ForCausalLM.from_pretrained(arguments.from_skill), chosen.stages[1:]
    else:
        model = Qwen3ForCausalLM(stages.config())
    model.to(arguments.device).train()
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters", flush=True)
    progress = stages.Progress(
        arguments.out,
        scale.every,
        lambda model, last: chosen.evaluate(model, tokenizer, chosen.progress_items * scale.items, last),
        chosen.chat_template,
    )
    for stage in rest:
        stream = f"pretrain-{arguments.seed}-{stage.name}"
        shown = batches(
            tokenizer,
            stream,
            lambda index, stage=stage, stream=stream: chosen.demonstrate(stream, index, stage.mixture),
            arguments.batch or scale.batch,
        )
        if arguments.steps:
            stage = stages.Stage(**{**vars(stage), "steps": min(stage.steps, arguments.steps)})
        stages.run(model, tokenizer, stage, shown, progress)


if __name__ == "__main__":
    main()
