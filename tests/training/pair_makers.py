"""What the tests of preference tuning train: a random tiny base that can chat, and pairs that can be learned."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

from tunesmith.runs.tuning import TuningConfig

from tests.fakes.model_folder import EOS, make_model_folder
from tests.training.makers import write_base


def write_chat_base(folder: Path) -> Path:
    """Random weights, a byte-level tokenizer and a chat template."""
    write_base(folder, vocab_size=260, eos_token_id=EOS, initializer_range=0.05)
    words = make_model_folder(folder.with_name(f"{folder.name}-words"))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(words / name, folder / name)
    return folder


def pair_row(question: str, chosen: str, rejected: str) -> dict[str, Any]:
    """One row of preference data."""
    return {
        "input": {"messages": [{"role": "user", "content": question}], "tools": []},
        "preferred_output": [{"role": "assistant", "content": chosen}],
        "non_preferred_output": [{"role": "assistant", "content": rejected}],
    }


def polite_rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """A preference with a rule: the polite answer wins, whatever is asked."""
    rng = random.Random(seed)
    rows = []
    for _ in range(count):
        question = "".join(rng.choice("abcdefgh ") for _ in range(rng.randint(3, 20)))
        word = "".join(rng.choice("stuvw") for _ in range(rng.randint(1, 6)))
        rows.append(pair_row(question, f"{word} please", f"{word} now"))
    return rows


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_pair_run(
    run_dir: Path, base: Path, rows: list[dict[str, Any]], held_out: list[dict[str, Any]] | None = None, **settings: Any
) -> TuningConfig:
    """A run directory with run.json and data; `settings` override its fields."""
    content = {
        "job": "test",
        "loss": "DPO",
        "base_model": {"name": "accounts/local/models/random", "path": str(base)},
        "dataset": str(write_rows(run_dir / "data" / "train.jsonl", rows)),
        "lora_rank": 4,
        "learning_rate": 5e-3,
        "batch_size_samples": 8,
        **settings,
    }
    if held_out is not None:
        content["evaluation_dataset"] = str(write_rows(run_dir / "data" / "evaluation.jsonl", held_out))
    (run_dir / "run.json").write_text(TuningConfig.model_validate({"kind": "tuning", **content}).model_dump_json())
    return TuningConfig.read(run_dir)


def lines(run_dir: Path) -> list[dict[str, Any]]:
    """The metrics lines without what a clock decides."""
    found = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [
        {k: v for k, v in line.items() if k not in ("seconds", "cpu_seconds", "tokens_per_second")} for line in found
    ]


def left_behind(run_dir: Path) -> dict[str, bytes]:
    """Every file that must be the same however often the run was killed."""
    folders = ("output", "evaluation")
    found = {
        str(path.relative_to(run_dir)): path.read_bytes()
        for name in folders
        for path in sorted((run_dir / name).rglob("*"))
        if path.is_file()
    }
    reference = run_dir / "reference.safetensors"
    return found | ({"reference": reference.read_bytes()} if reference.exists() else {})
