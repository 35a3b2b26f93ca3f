"""One run of TRL's GRPOTrainer, generation by transformers. Runs in TRL's own environment: `python trl_contender.py SPEC.json`.

SPEC: {"model", "rows" (JSON lines of {"prompt": messages, "ground_truth"}), "output", "scoring" ("coin": every other rollout of a group is
right, so that every group varies; or the path of an evaluator's file whose `answer_digits` reads an answer), "prompts" (of a step), "n",
"max_tokens", "exact_length" (true: end tokens are not sampled, so that every answer has max_tokens), "steps", "learning_rate", "seed",
"until" (null, or {"reward", "steps"}: stop once the mean over so many steps reaches it), "options" (of GRPOConfig beyond that)}.

Prints one JSON line, the last of stdout: {"steps": [{"tokens", "reward", "loss", "generate", "prepare", "cpu_seconds"}], "peak_bytes"}:
CPU-seconds of `generate`, of all before the update (generate, scoring, advantages), and of the whole step.
"""

import ast
import json
import re
import resource
import sys
import time
from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer


class TimedTrainer(GRPOTrainer):
    """Notes the CPU time of sampling and of everything before the update, and what was trained."""

    def __init__(self, *arguments, **options):
        self.generated, self.prepared, self.tokens, self.rewards = 0.0, 0.0, 0, []
        super().__init__(*arguments, **options)

    def _generate_single_turn(self, *arguments, **options):
        started = time.process_time()
        try:
            return super()._generate_single_turn(*arguments, **options)
        finally:
            self.generated += time.process_time() - started

    def _generate_and_score_completions(self, inputs):
        started = time.process_time()
        output = super()._generate_and_score_completions(inputs)
        self.prepared += time.process_time() - started
        self.tokens += int(output["completion_mask"].sum())
        return output


class Steps(TrainerCallback):
    """One record a step; stops early where asked to."""

    def __init__(self, until):
        self.trainer, self.until, self.steps, self.mark = None, until, [], 0.0

    def on_step_begin(self, *_arguments, **_options):
        """The first batch is fetched before the first step begins: from then on a step ends where the next one does."""
        self.mark = self.mark or time.process_time()

    def on_step_end(self, _arguments, _state, control, **_options):
        """Close the record."""
        trainer, now = self.trainer, time.process_time()
        rewards, trainer.rewards = trainer.rewards, []
        record = {"tokens": trainer.tokens, "generate": trainer.generated, "prepare": trainer.prepared}
        self.steps.append({**record, "cpu_seconds": now - self.mark, "reward": sum(rewards) / max(1, len(rewards))})
        trainer.tokens, trainer.generated, trainer.prepared, self.mark = 0, 0.0, 0.0, now
        if self.until and len(self.steps) >= self.until["steps"]:
            last = self.steps[-self.until["steps"] :]
            control.should_training_stop |= sum(step["reward"] for step in last) / len(last) >= self.until["reward"]


def main() -> None:
    """Train as the specification says and print what it took."""
    spec = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(spec["model"])
    rows = [json.loads(line) for line in Path(spec["rows"]).read_text().splitlines()]
    rollouts = spec["prompts"] * spec["n"]
    micro_batch = spec["options"].get("per_device_train_batch_size", rollouts)
    generation = {"min_new_tokens": spec["max_tokens"]} if spec["exact_length"] else {}
    config = GRPOConfig(
        **{
            "output_dir": spec["output"],
            "per_device_train_batch_size": micro_batch,
            "gradient_accumulation_steps": rollouts // micro_batch,
            "num_generations": spec["n"],
            "max_completion_length": spec["max_tokens"],
            "generation_kwargs": generation or None,
            "temperature": 1.0,
            "top_k": 0,
            "beta": 0.0,  # no reference model, as ours
            "learning_rate": spec["learning_rate"],
            "lr_scheduler_type": "constant",
            "adam_beta2": 0.95,
            "weight_decay": 0.0,
            "max_grad_norm": 1.0,
            "max_steps": spec["steps"],
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": [],
            "use_cpu": True,
            "bf16": False,  # this machine computes bfloat16 slower than float32
            "gradient_checkpointing": False,
            "disable_tqdm": True,
            "seed": spec["seed"],
            **spec["options"],
        }
    )
    steps = Steps(spec.get("until"))
    trainer = TimedTrainer(
        model=AutoModelForCausalLM.from_pretrained(spec["model"], dtype=torch.float32, attn_implementation="sdpa"),
        reward_funcs=scoring(spec["scoring"], lambda rewards: trainer.rewards.extend(rewards)),
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
        callbacks=[steps],
    )
    steps.trainer = trainer
    trainer.train()
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    records = [{**step, "loss": loss} for step, loss in zip(steps.steps, losses, strict=False)]
    print(json.dumps({"steps": records, "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))


def scoring(kind, seen):
    """TRL's reward function: a coin, or the evaluator's own reading of an answer."""
    read = None if kind == "coin" else reader(Path(kind))

    def score(completions, ground_truth, **_):
        texts = [each if isinstance(each, str) else each[-1]["content"] for each in completions]
        if read is None:
            rewards = [float(number % 2) for number in range(len(texts))]
        else:
            rewards = [float(read(text) == read(truth)) for text, truth in zip(texts, ground_truth, strict=True)]
        seen(rewards)
        return rewards

    return score


def reader(path):
    """`answer_digits` of the evaluator's file, which this environment cannot import: it has no evaluation SDK."""
    wanted = {"ANSWER", "DIGITS", "answer_digits"}
    tree = ast.parse(path.read_text())
    tree.body = [
        node
        for node in tree.body
        if (isinstance(node, ast.FunctionDef) and node.name in wanted)
        or (isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) in wanted)
    ]
    space = {"re": re}
    exec(compile(tree, str(path), "exec"), space)
    return space["answer_digits"]


if __name__ == "__main__":
    main()
