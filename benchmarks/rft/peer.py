"""TRL in an environment of its own, and what both contenders are given: the example's rows, its model, one adapter shape."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.bench_sft import TRL

REPO = Path(__file__).resolve().parents[2]
MODEL = REPO / "platform/src/tunesmith/catalog/models/tiny-math-v1"
EXAMPLE = REPO / "examples/gsm8k"
PROMPTS, N = 10, 8
"""Of a step: the defaults of the bundled model."""
MICRO_BATCHES = (80, 40, 16, 8)
"""Rollouts in one forward pass of TRL, the layouts that were tried."""
ONE_THREAD = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}


def rows(path: Path = EXAMPLE / "gsm8k_sample.jsonl") -> list[dict[str, Any]]:
    """The example's rows as both are given them: messages without the answer, and the ground truth."""
    read = (json.loads(line) for line in path.read_text().splitlines())
    return [{"prompt": row["messages"][:-1], "ground_truth": row["ground_truth"]} for row in read]


def trl(folder: Path, **spec: Any) -> dict[str, Any]:
    """One run of GRPOTrainer (`trl_contender.py` says what may be in `spec`); what it printed, and "process_cpu_seconds" of all of it.

    Raises SystemExit with its last words when it fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    data, file = folder / "rows.jsonl", folder / "trl.json"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows()))
    given = {"model": str(MODEL), "rows": str(data), "output": str(folder / "out"), "prompts": PROMPTS, "n": N}
    file.write_text(json.dumps({**given, "exact_length": False, "seed": 0, "options": {}, **spec}))
    command = [str(TRL / "bin" / "python"), str(REPO / "benchmarks/rft/trl_contender.py"), str(file)]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(command, cwd=REPO, env={**os.environ, **ONE_THREAD}, stdout=out, stderr=err)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        for each in (out, err):
            each.seek(0)
        if process.returncode:
            raise SystemExit(f"bench-rft: {' '.join(command)} failed:\n{err.read()[-2000:]}")
        printed = json.loads(out.read().splitlines()[-1])
    return {**printed, "process_cpu_seconds": usage.ru_utime + usage.ru_stime}


def middle(steps: Sequence[Mapping[str, float]], name: str) -> float:
    """Median of a figure over the steps, the first left out: it warms up."""
    return median(step[name] for step in steps[1:])
