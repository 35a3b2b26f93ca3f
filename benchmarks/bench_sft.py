"""Supervised fine-tuning beside TRL's SFTTrainer, in one run: CPU-seconds per token, peak memory, and whether both compute the same.

Every contender trains the same rows in the same order from the same adapter, in a process of its own on one thread; all run in turn in
every round. A step costs the CPU time of everything in it, the first step left out; speed is trained tokens by CPU-seconds, judged as
ratios within a round, and their median counts. TRL gets an environment of its own under `.tools/trl`.

    python -m benchmarks.bench_sft [--rounds 2] [--models tiny-math-v1 qwen3-31m] [--check]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.sft.report import Figures, Preferences, Run, report

REPO = Path(__file__).resolve().parents[1]
TRL = REPO / ".tools" / "trl"
PIN = "trl==1.16.0"
TORCH = "torch==2.13.0"
RANK = 16
RUN = {"learning_rate": 1e-3, "weight_decay": 0.01, "epochs": 1.0}
TINY = REPO / "platform/src/tunesmith/catalog/models/tiny-math-v1"


@dataclass(frozen=True)
class Load:
    """What is trained on a model."""

    folder: Path | None
    """None: made from random numbers."""
    rows: int
    batch: int
    """Rows of an optimizer step; where TRL packs, as many packs as hold about so many."""


MODELS = {"tiny-math-v1": Load(TINY, rows=192, batch=32), "qwen3-31m": Load(None, rows=32, batch=16)}
PACKED = (384, 512)
"""Lengths of TRL's packs, in tokens, one a forward; the best of them counts. Longer packs are slower on a CPU (1024: by a fifth), where
its attention over a pack grows with the square of its length; shorter ones would cut rows."""


def main() -> None:
    """Measure, print the tables, write them. With `--check`, exit 1 when a target is missed."""
    options = _options()
    install(TRL)
    folder = Path(tempfile.mkdtemp(prefix="bench-sft-"))
    try:
        figures = [_measure(name, folder / name, options.rounds) for name in options.models]
        figures[0].preferences = _preferences(folder / options.models[0])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    passed = report(figures, options.rounds, write=set(options.models) == set(MODELS))
    sys.exit(1 if options.check and not passed else 0)


def install(environment: Path) -> None:
    """TRL's environment, unless it is there; the same torch, transformers and peft as ours. Downloads about 100 MB."""
    done = environment / PIN
    if done.exists():
        return
    print(f"bench-sft: installing {PIN} into {environment} (about 100 MB, and torch)", flush=True)
    shutil.rmtree(environment, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    command = [str(environment / "bin" / "pip"), "install", "-q", "-c", str(REPO / "constraints.txt")]
    subprocess.run([*command, TORCH, PIN, "transformers", "peft"], check=True)
    done.touch()


def _measure(name: str, folder: Path, rounds: int) -> Figures:
    load = MODELS[name]
    spec = {"folder": str(folder), "model": load.folder and str(load.folder), "rows": load.rows, "batch": load.batch}
    folder.mkdir(parents=True)
    (folder / "material.json").write_text(json.dumps({**spec, "rank": RANK, "run": RUN}))
    material = _run([sys.executable, "-m", "benchmarks.sft.material", str(folder / "material.json")])
    made = json.loads(material.output.splitlines()[-1])
    figures = Figures(name, made["parameters"], load.rows, load.batch, made["tokens"])
    mean = made["tokens"] / load.rows
    plain = {"gradient_checkpointing": False, "train_sampling_strategy": "group_by_length"}
    peers: dict[str, dict[str, Any]] = {
        "TRL, its defaults": {"train_sampling_strategy": "sequential"},
        "TRL, sorted by length, no checkpointing": plain,
    }
    for length in PACKED:
        packs = max(1, round(load.batch * mean / length))
        peers[f"TRL, packed to {length}, no checkpointing"] = {
            "packing": True,
            "max_length": length,
            "per_device_train_batch_size": 1,
            "gradient_accumulation_steps": packs,
            "gradient_checkpointing": False,
        }
    for number in range(rounds):
        print(f"bench-sft: {name}, round {number + 1} of {rounds}", flush=True)
        figures.add("ours", _ours(folder))
        for peer, settings in peers.items():
            figures.add(peer, _theirs(folder, load.batch, settings))
    return figures


def _ours(folder: Path, config: str = "run.json") -> Run:
    """The learner's process on a fresh run directory."""
    run_dir = folder / "run"
    shutil.rmtree(run_dir, ignore_errors=True)
    run_dir.mkdir()
    shutil.copyfile(folder / config, run_dir / "run.json")
    ended = _run([sys.executable, "-m", "tunesmith.training", str(run_dir)])
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    steps = [{**line, "tokens": line["trained_tokens"]} for line in lines if "loss" in line]
    return Run.of(steps, ended.peak_bytes, ended.cpu_seconds)


def _theirs(folder: Path, batch: int, settings: dict[str, Any]) -> Run:
    ended = _run_trl("trl_contender.py", folder, rows="tokens.jsonl", batch=batch, options=settings)
    return Run.of(json.loads(ended.output.splitlines()[-1])["steps"], ended.peak_bytes, ended.cpu_seconds)


def _preferences(folder: Path) -> Preferences:
    """The same pairs, from the same adapter, with both DPOs; and both odds ratios of fixed numbers."""
    config = json.loads((folder / "pairs-run.json").read_text())
    orpo = json.loads((folder / "orpo.json").read_text())
    ours = _ours(folder, "pairs-run.json")
    batch = config["batch_size_samples"]
    ended = _run_trl("trl_pairs.py", folder, rows="pair-tokens.jsonl", batch=batch, beta=config["beta"], orpo=orpo)
    theirs = json.loads(ended.output.splitlines()[-1])
    return Preferences(ours.losses, theirs["dpo"], orpo["ours"], theirs["orpo"])


def _run_trl(script: str, folder: Path, rows: str, **more: Any) -> _Ended:
    paths = {
        "model": json.loads((folder / "run.json").read_text())["base_model"]["path"],
        "adapter": str(folder / "adapter"),
        "rows": str(folder / rows),
        "output": str(folder / "trl"),
    }
    (folder / "trl.json").write_text(json.dumps({**paths, **RUN, **more}))
    return _run([str(TRL / "bin" / "python"), str(REPO / "benchmarks" / "sft" / script), str(folder / "trl.json")])


class _Ended:
    """A process that has ended well."""

    def __init__(self, output: str, usage: Any) -> None:
        self.output = output
        self.peak_bytes = usage.ru_maxrss * 1024
        self.cpu_seconds = usage.ru_utime + usage.ru_stime


def _run(command: list[str]) -> _Ended:
    """Run to the end on one thread; what it used is what the kernel counted. Raises SystemExit with its last words when it fails."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(command, cwd=REPO, env=environment, stdout=out, stderr=err)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        for file in (out, err):
            file.seek(0)
        if process.returncode:
            raise SystemExit(f"bench-sft: {' '.join(command)} failed:\n{err.read()[-2000:]}")
        return _Ended(out.read(), usage)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    return parser.parse_args()


if __name__ == "__main__":
    main()
