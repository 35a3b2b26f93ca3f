"""What the tests of SFT and DPO runs feed them: a tiny model with a tokenizer and a chat template, rows, run directories."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from tunesmith.runs.tuning import TuningConfig

from tests.fakes.model_folder import make_model_folder
from tests.training.makers import write_base


def write_chat_base(folder: Path) -> Path:
    """A randomly initialised model (tied embeddings) that speaks bytes."""
    make_model_folder(folder)
    (folder / "model.safetensors").unlink()
    return write_base(folder, vocab_size=260, eos_token_id=257)


def make_rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Questions of one sum; answers of several lengths, one row in five with two turns."""
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        messages = []
        for _ in range(2 if number % 5 == 4 else 1):
            a, b = rng.randint(0, 9), rng.randint(0, 9)
            messages.append({"role": "user", "content": f"{a}+{b}?" + " please" * rng.randint(0, 3)})
            messages.append({"role": "assistant", "content": str(a + b) + "!" * rng.randint(0, 6)})
        rows.append({"messages": messages})
    return rows


def write_tuning(
    run_dir: Path, base: Path, rows: list[Any], held_out: list[Any] | None = None, **settings: Any
) -> TuningConfig:
    """A run directory with run.json and data; its config. `settings` override the tests' own."""
    (run_dir / "data").mkdir(parents=True)
    for name, content in (("train", rows), ("evaluation", held_out)):
        if content is not None:
            lines = (line if isinstance(line, str) else json.dumps(line) for line in content)
            (run_dir / "data" / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in lines))
    content = {
        "kind": "tuning",
        "job": "test",
        "base_model": {"name": "accounts/local/models/random", "path": str(base)},
        "dataset": str(run_dir / "data" / "train.jsonl"),
        "evaluation_dataset": str(run_dir / "data" / "evaluation.jsonl") if held_out is not None else None,
        "batch_size_samples": 4,
        "learning_rate": 1e-2,
        "lora_rank": 4,
        "evaluations": 3,
        **settings,
    }
    (run_dir / "run.json").write_text(json.dumps(content))
    return TuningConfig.read(run_dir)


def lines(run_dir: Path) -> list[dict[str, Any]]:
    """The metrics lines without what a clock decides."""
    clock = ("seconds", "cpu_seconds", "tokens_per_second")
    found = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in clock} for line in found]


def status(run_dir: Path) -> dict[str, Any]:
    return json.loads((run_dir / "status.json").read_text())


def left(run_dir: Path) -> dict[str, bytes]:
    """Every file that a run's result consists of, by its name."""
    files = [path for folder in ("output", "evaluation", "data") for path in sorted((run_dir / folder).rglob("*"))]
    return {
        str(path.relative_to(run_dir)): path.read_bytes()
        for path in [*files, run_dir / "render_samples.jsonl"]
        if path.is_file()
    }
