"""Tokens per CPU-second of the built-in engine beside transformers' `generate`, in one run, as ratios.

64 requests of 64 tokens at temperature 1: 8 to each of 8 prompts, and one to each of 64 prompts (50 to 70 tokens). All sides run on one
thread and in turn in every round, and nobody stops early. The engine is its own process: single calls over HTTP, its CPU time read from
the kernel. `generate` gets one batch. Of every side the fastest round counts. The floor is the model's matrix products alone.

    python -m benchmarks.bench_engine [--rounds 5] [--models tiny-math-v1 qwen3-25m] [--check]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.engine import peer

REPO = Path(__file__).resolve().parents[1]
TINY = REPO / "platform/src/tunesmith/catalog/models/tiny-math-v1"
RESULTS = REPO / "benchmarks/results/bench_engine.md"
KEY = "bench"
MODELS = {"tiny-math-v1": "the bundled model, 1.4 million parameters", "qwen3-25m": "random, hidden 512, 8 layers"}
REQUESTS, TOKENS = 64, 64
ENGINE, DEPENDENT, GENERATE, FLOOR = "engine", "engine, neighbours may change bits", "transformers generate", "floor"


@dataclass(frozen=True)
class Workload:
    """What is asked for."""

    label: str
    prompts: int
    bound: float
    """Least ratio to `generate` on the bundled model."""

    def prompt_ids(self, vocabulary: int, turn: int) -> list[list[int]]:
        """The prompts of one round; no round finds its prompts prefilled."""
        rng = random.Random(f"{self.prompts}-{turn}")
        return [[rng.randrange(vocabulary) for _ in range(rng.randint(50, 70))] for _ in range(self.prompts)]


WORKLOADS = (Workload("8 prompts, 8 requests each", 8, 2.0), Workload("64 prompts", 64, 1.2))


def main() -> None:
    """Measure, print the tables, write them. With `--check`, exit 1 when a target is missed."""
    options = _options()
    folder = Path(tempfile.mkdtemp(prefix="bench-engine-"))
    lines = [
        "# What generation costs", "", "`make bench-engine` wrote this.", "",
        f"{options.rounds} round(s), all sides in turn, one thread each, the fastest round of each counts; Python "
        f"{platform.python_version()}, {platform.machine()}, float32.",
        f"{REQUESTS} requests of {TOKENS} tokens at temperature 1, prompts of 50 to 70 tokens, nobody stops early. The engine answers",
        "single calls over HTTP (its CPU time includes that); `generate` gets one batch. The floor is every linear layer's matrix product",
        "at the same sizes, and nothing else. \"Neighbours may change bits\": the same engine without strict reproducibility of the matrix",
        "library and without padding rows, so the difference is what independence of the neighbours costs.",
    ]  # fmt: skip
    missed = []
    try:
        for name in options.models:
            model = _model_folder(name, folder / name)
            lines += ["", f"## {name}: {MODELS[name]}"]
            for workload in WORKLOADS:
                found, memory = asyncio.run(_measure(model, workload, options.rounds))
                lines += _table(workload, found, memory)
                ratio = found[GENERATE][1] / found[ENGINE][1]
                if ratio < workload.bound and name == "tiny-math-v1":
                    missed.append(f"{name}, {workload.label}: {ratio:.2f} is below {workload.bound}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print("\n".join(lines))
    if options.write:
        RESULTS.write_text("\n".join(lines) + "\n")
    if missed:
        print("\nmissed: " + "; ".join(missed))
        sys.exit(1 if options.check else 0)


async def _measure(
    model: Path, workload: Workload, rounds: int
) -> tuple[dict[str, tuple[int, float]], dict[str, float]]:
    """The fastest (tokens, CPU-seconds) and the peak memory in MB of each side."""
    vocabulary = json.loads((model / "config.json").read_text())["vocab_size"] - 16
    copies = REQUESTS // workload.prompts
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=peer.serve, args=(theirs, model))
    process.start()
    found: dict[str, tuple[int, float]] = {}
    memory: dict[str, float] = {}
    try:
        with _engine(model) as engine, _engine(model, dependent=True) as dependent:
            for turn in range(rounds + 1):
                prompts = workload.prompt_ids(vocabulary, turn)
                measured = {}
                for name, (url, pid) in ((ENGINE, engine), (DEPENDENT, dependent)):
                    before = _cpu_seconds(pid)
                    tokens = await _send_all(url, prompts, copies)
                    measured[name] = tokens, _cpu_seconds(pid) - before
                    memory[name] = _peak_bytes(pid) / 1e6
                for name in (GENERATE, FLOOR):
                    ours.send((name.split()[-1], prompts, copies, TOKENS))
                    measured[name] = ours.recv()
                if turn:  # the first round warms up
                    for name, value in measured.items():
                        assert value[0] == REQUESTS * TOKENS, (name, value)
                        found[name] = min(found.get(name, value), value, key=lambda each: each[1])
        ours.send("memory")
        memory[GENERATE] = ours.recv() / 1e6
        ours.send(None)
        process.join()
    finally:
        process.kill()
    return found, memory


def _table(workload: Workload, found: dict[str, tuple[int, float]], memory: dict[str, float]) -> list[str]:
    lines = ["", f"### {workload.label}", ""]
    lines += [
        "| side | tokens a CPU second | of `generate` | share of the floor | peak memory MB |",
        "|---|---|---|---|---|",
    ]
    for name, (tokens, seconds) in found.items():
        ratio, share = found[GENERATE][1] / seconds, found[FLOOR][1] / seconds
        used = f"{memory[name]:.0f}" if name in memory else ""
        lines.append(f"| {name} | {tokens / seconds:.0f} | {ratio:.2f} | {share:.0%} | {used} |")
    cost = found[ENGINE][1] / found[DEPENDENT][1] - 1
    return [*lines, "", f"Independence of the neighbours costs {cost:+.0%} of CPU time."]


def _model_folder(name: str, folder: Path) -> Path:
    """The model without ids that end an answer; a random one with the bundled tokenizer."""
    shutil.copytree(TINY, folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    config: dict[str, Any] = json.loads((folder / "config.json").read_text()) | {"eos_token_id": None}
    if name != "tiny-math-v1":
        layers = 8
        config |= {
            "hidden_size": 512, "num_hidden_layers": layers, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 64,
            "intermediate_size": 1408, "layer_types": ["full_attention"] * layers, "initializer_range": 0.05,
        }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    if name != "tiny-math-v1":
        make = (
            "import sys, torch, transformers as t; torch.manual_seed(0); "
            "t.AutoModelForCausalLM.from_config(t.AutoConfig.from_pretrained(sys.argv[1])).save_pretrained(sys.argv[1])"
        )
        subprocess.run([sys.executable, "-c", make, folder], check=True)
        (folder / "generation_config.json").unlink(missing_ok=True)
    return folder


@contextmanager
def _engine(model: Path, dependent: bool = False) -> Iterator[tuple[str, int]]:
    """URL and pid of a running engine."""
    with tempfile.TemporaryDirectory() as folder:
        port_file, key_file = Path(folder, "port"), Path(folder, "key")
        key_file.write_text(KEY)
        program = "benchmarks.engine.dependent" if dependent else "tunesmith.engines"
        command = [sys.executable, "-m", program, "--model", model, "--name", "bench", "--port", "0", "--threads", "1"]
        command += ["--key-file", key_file, "--port-file", port_file]
        environment = os.environ | {"OMP_NUM_THREADS": "1"} | ({"MKL_CBWR": "AUTO"} if dependent else {})
        with open(Path(folder, "log"), "w+") as log:
            process = subprocess.Popen(command, env=environment, stderr=log, cwd=REPO)
            try:
                while not port_file.exists():
                    if process.poll() is not None:
                        raise SystemExit(f"The engine did not start:\n{Path(folder, 'log').read_text()}")
                    time.sleep(0.05)
                yield f"http://127.0.0.1:{port_file.read_text().strip()}/generate", process.pid
            finally:
                process.terminate()
                process.wait()


async def _send_all(url: str, prompts: list[list[int]], copies: int) -> int:
    headers = {"Authorization": f"Bearer {KEY}"}
    async with aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(limit=0)) as session:

        async def call(number: int) -> int:
            body = {
                "prompt_ids": prompts[number // copies], "max_tokens": TOKENS, "temperature": 1.0, "seed": number, "stream": False,
            }  # fmt: skip
            async with session.post(url, json=body) as response:
                response.raise_for_status()
                return sum([len(json.loads(line)["token_ids"]) async for line in response.content])

        return sum(await asyncio.gather(*(call(number) for number in range(REQUESTS))))


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _peak_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    parser.add_argument("--no-write", dest="write", action="store_false", help="print only")
    return parser.parse_args()


if __name__ == "__main__":
    main()
