"""One run of TRL's SFTTrainer over rows that are token ids already. Runs in TRL's own environment: `python trl_contender.py SPEC.json`.

SPEC: {"model", "adapter" (PEFT folder to start from), "rows" (JSON lines of {"input_ids", "labels"}), "output", "batch", "learning_rate",
"weight_decay", "epochs", "options" (what to set of SFTConfig beyond that)}. Prints one JSON line, the last of stdout:
{"steps": [{"tokens", "cpu_seconds", "seconds", "loss", "grad_norm"}], "peak_bytes"}; a step's time includes fetching its batch.
"""

import json
import resource
import sys
import time
from itertools import pairwise
from pathlib import Path

import torch
from datasets import Dataset
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer


class TimedTrainer(SFTTrainer):
    """Notes when each optimizer batch is asked for, and how many tokens it trains."""

    def __init__(self, *arguments, **options):
        self.marks, self.tokens = [], []
        super().__init__(*arguments, **options)

    def get_batch_samples(self, *arguments, **options):
        """The next optimizer batch."""
        self.mark()
        batches, items = super().get_batch_samples(*arguments, **options)
        self.tokens.append(int(items))
        return batches, items

    def mark(self):
        """Now, in CPU and wall seconds."""
        self.marks.append((time.process_time(), time.perf_counter()))


def main() -> None:
    """Train as the specification says and print what it took."""
    spec = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(spec["model"], dtype=torch.float32, attn_implementation="sdpa")
    rows = [json.loads(line) for line in Path(spec["rows"]).read_text().splitlines()]
    micro_batch = spec["options"].get("per_device_train_batch_size", 8)
    config = SFTConfig(
        **{
            "output_dir": spec["output"],
            "per_device_train_batch_size": micro_batch,
            "gradient_accumulation_steps": max(1, spec["batch"] // micro_batch),
            "learning_rate": spec["learning_rate"],
            "lr_scheduler_type": "constant",
            "weight_decay": spec["weight_decay"],
            "adam_beta2": 0.95,
            "num_train_epochs": spec["epochs"],
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": [],
            "use_cpu": True,
            "bf16": False,  # this machine computes bfloat16 slower than float32
            "disable_tqdm": True,
            "seed": 0,
            **spec["options"],
        }
    )
    trainer = TimedTrainer(
        model=PeftModel.from_pretrained(model, spec["adapter"], is_trainable=True),
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(spec["model"]),
    )
    trainer.train()
    trainer.mark()
    logged = [line for line in trainer.state.log_history if "loss" in line]
    steps = [
        {
            "tokens": tokens,
            "cpu_seconds": after[0] - before[0],
            "seconds": after[1] - before[1],
            "loss": line["loss"],
            "grad_norm": line["grad_norm"],
        }
        for tokens, (before, after), line in zip(trainer.tokens, pairwise(trainer.marks), logged, strict=True)
    ]
    print(json.dumps({"steps": steps, "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))


if __name__ == "__main__":
    main()
