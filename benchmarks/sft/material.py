"""What both contenders train: a model, the rows as messages and as token ids in one order, and one adapter to start from.

    python -m benchmarks.sft.material SPEC.json

SPEC: {"folder", "model" (a folder, or null for a random Qwen3-shaped one of 31 million parameters), "rows", "batch", "rank", "run" (fields
of our run.json)}. A process of its own, so that what it loads does not count for anybody.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, Qwen3Config
from transformers.utils.logging import disable_progress_bar
from tunesmith.rendering.examples import ExampleRenderer
from tunesmith.rendering.pairs import PairRenderer
from tunesmith.rendering.renderer import Renderer
from tunesmith.runs.tuning import TuningConfig, TuningLoss
from tunesmith.training.preferences import PairInput, orpo
from tunesmith.training.publish import canary, write_adapter
from tunesmith.training.schedules import Order
from tunesmith.training.tuning import TuningRun

TINY = Path(__file__).resolve().parents[2] / "platform/src/tunesmith/catalog/models/tiny-math-v1"
TOKENS = (100, 300)
"""Of a row, about."""
PAIRS, PAIRS_BATCH = 32, 8
WORDS = [
    "the",
    "sum",
    "of",
    "two",
    "and",
    "three",
    "apples",
    "is",
    "five",
    "because",
    "each",
    "box",
    "holds",
    "12",
    "or",
    "34",
    "items,",
    "so",
    "we",
    "add",
    "7",
    "-",
    "2",
    "+",
    "15",
    "=",
    "20",
    "first",
]


def main() -> None:
    """Write everything into the folder of the specification."""
    spec = json.loads(Path(sys.argv[1]).read_text())
    disable_progress_bar()
    folder = Path(spec["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    model = Path(spec["model"]) if spec["model"] else _random_model(folder / "model")
    renderer = Renderer.load(model)
    rows = _rows(spec["rows"], renderer)
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = TuningConfig.model_validate(
        {
            "job": "bench",
            "base_model": {"name": "bench", "path": str(model)},
            "dataset": str(folder / "rows.jsonl"),
            "lora_rank": spec["rank"],
            "batch_size_samples": spec["batch"],
            **spec["run"],
        }
    )
    policy = TuningRun(folder, config).load_policy()
    (folder / "adapter").mkdir(exist_ok=True)
    write_adapter(folder / "adapter", policy, canary(policy))
    config = config.model_copy(update={"warm_start": folder / "adapter"})
    (folder / "run.json").write_text(config.model_dump_json())

    # TRL reads its rows one after another: they lie in the order in which our batches take them.
    reader = ExampleRenderer(renderer)
    examples = [example for row in rows for example in reader.examples(row)]
    order = Order(len(examples), spec["batch"], config.epochs, config.seed)
    with open(folder / "tokens.jsonl", "w") as file:
        for number in (number for step in range(order.steps) for number in order.batch(step)):
            ids, weights = examples[number].token_ids, examples[number].weights
            labels = [token if weight else -100 for token, weight in zip(ids, weights, strict=True)]
            file.write(json.dumps({"input_ids": ids, "labels": labels}) + "\n")
    _write_pairs(folder, config, renderer)
    parameters = sum(parameter.numel() for parameter in policy.base.parameters() if not parameter.requires_grad)
    print(
        json.dumps(
            {"model": str(model), "parameters": parameters, "tokens": sum(len(one.token_ids) for one in examples)}
        )
    )


def _write_pairs(folder: Path, config: TuningConfig, renderer: Renderer) -> None:
    """Preference rows for a few steps of DPO, and fixed numbers for ORPO with what our loss says of them."""
    rng = random.Random(1)
    rows = []
    for _ in range(PAIRS):
        asked, chosen, rejected = (_text(rng.randint(8, 40), rng, renderer) for _ in range(3))
        rows.append(
            {
                "input": {"messages": [{"role": "user", "content": asked}]},
                "preferred_output": [{"role": "assistant", "content": chosen}],
                "non_preferred_output": [{"role": "assistant", "content": rejected}],
            }
        )
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    changes = {"loss": TuningLoss.DPO, "dataset": folder / "pairs.jsonl", "batch_size_samples": PAIRS_BATCH}
    config = config.model_copy(update=changes)
    (folder / "pairs-run.json").write_text(config.model_dump_json())
    reader, order = PairRenderer(renderer), Order(PAIRS, PAIRS_BATCH, config.epochs, config.seed)
    lines = []
    for number in (number for step in range(order.steps) for number in order.batch(step)):
        chosen, rejected = reader.examples(rows[number])
        prompt = chosen.weights.index(1.0)
        ids = {"prompt_ids": chosen.token_ids[:prompt]}
        ids |= {"chosen_ids": chosen.token_ids[prompt:], "rejected_ids": rejected.token_ids[prompt:]}
        lines.append(json.dumps(ids) + "\n")
    (folder / "pair-tokens.jsonl").write_text("".join(lines))
    means = {"chosen": [-0.01, -0.5, -1.5, -4.0, -12.0], "rejected": [-0.02, -0.25, -3.0, -4.0, -2.0], "weight": 0.25}
    chosen_P, rejected_P, one_P = torch.tensor(means["chosen"]), torch.tensor(means["rejected"]), torch.ones(5)
    said = orpo(PairInput(chosen_P, rejected_P, one_P, one_P, batch_pairs=5), means["weight"])
    (folder / "orpo.json").write_text(json.dumps({**means, "ours": (-said.loss_P - chosen_P).tolist()}))


def _random_model(folder: Path) -> Path:
    """Qwen3's shape with 31 million parameters; its tokenizer is the tiny model's."""
    config = Qwen3Config(
        vocab_size=32_768,
        hidden_size=384,
        intermediate_size=1024,
        num_hidden_layers=12,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=json.loads((TINY / "config.json").read_text())["eos_token_id"],
    )
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(TINY / name, folder / name)
    return folder


def _rows(count: int, renderer: Renderer) -> list[dict[str, Any]]:
    """Conversations of one turn, a third to two thirds of their tokens in the answer."""
    rng = random.Random(0)
    rows = []
    for _ in range(count):
        tokens = rng.randint(*TOKENS)
        asked = int(tokens * rng.uniform(1 / 3, 2 / 3))
        messages = [
            {"role": role, "content": _text(length, rng, renderer)}
            for role, length in (("user", asked), ("assistant", tokens - asked))
        ]
        rows.append({"messages": messages})
    return rows


def _text(tokens: int, rng: random.Random, renderer: Renderer) -> str:
    words: list[str] = []
    while len(renderer.encode(" ".join(words))) < tokens:
        words += rng.choices(WORDS, k=max(1, tokens // 12))
    return " ".join(words)


if __name__ == "__main__":
    main()
