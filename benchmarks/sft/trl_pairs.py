"""The losses over pairs as TRL computes them. Runs in TRL's own environment: `python trl_pairs.py SPEC.json`.

SPEC: {"model", "adapter", "rows" (JSON lines of {"prompt_ids", "chosen_ids", "rejected_ids"}), "output", "batch", "learning_rate",
"weight_decay", "beta", "orpo": {"chosen", "rejected" (mean log-probabilities), "weight"}}. Prints one JSON line, the last of stdout:
{"dpo": the loss of each step of DPOTrainer, "orpo": weight x log sigmoid of the log odds ratio of each pair}.
"""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import torch
from datasets import Dataset
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer
from trl.experimental.orpo import ORPOTrainer


class TokenTrainer(DPOTrainer):
    """Takes rows that are token ids already."""

    def _prepare_dataset(self, dataset, *arguments, **options):
        return dataset


def main() -> None:
    """Train as the specification says and print what the losses were."""
    spec = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(spec["model"], dtype=torch.float32)
    rows = [json.loads(line) for line in Path(spec["rows"]).read_text().splitlines()]
    config = DPOConfig(
        output_dir=spec["output"],
        per_device_train_batch_size=spec["batch"],
        learning_rate=spec["learning_rate"],
        lr_scheduler_type="constant",
        weight_decay=spec["weight_decay"],
        adam_beta2=0.95,
        beta=spec["beta"],
        num_train_epochs=1,
        train_sampling_strategy="sequential",
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        bf16=False,
        disable_tqdm=True,
    )
    trainer = TokenTrainer(
        model=PeftModel.from_pretrained(model, spec["adapter"], is_trainable=True),
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(spec["model"]),
    )
    trainer.train()
    orpo = spec["orpo"]
    itself = SimpleNamespace(beta=orpo["weight"], accelerator=SimpleNamespace(device="cpu"))
    odds = ORPOTrainer.odds_ratio_loss(itself, torch.tensor(orpo["chosen"]), torch.tensor(orpo["rejected"]))[0]
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    print(json.dumps({"dpo": losses, "orpo": odds.tolist()}))


if __name__ == "__main__":
    main()
