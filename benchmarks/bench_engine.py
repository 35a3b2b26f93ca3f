"""Tokens per CPU-second of the built-in engine beside Hugging Face `generate`, in one run, as a ratio.

The workload of one RFT chunk: 10 prompts of about 60 tokens, 8 single calls each, about 50 new tokens, temperature 1, one
thread. The engine is its own process and its CPU time is read from the kernel, HTTP included; the client's is not counted.
`generate` gets each prompt with num_return_sequences=8, which is its best case (one batch per prompt, equal lengths).

    python benchmarks/bench_engine.py [--model FOLDER] [--sequences 80] [--tokens 50] [--repeat 3] [--stream]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp

REPOSITORY = Path(__file__).resolve().parents[1]
DEFAULT_MODEL = REPOSITORY / "platform/src/tunesmith/catalog/models/tiny-math-v1"
KEY = "bench"


def main() -> None:
    """Measure both and print one table."""
    options = _options()
    rng = random.Random(0)
    vocabulary = json.loads((options.model / "config.json").read_text())["vocab_size"]
    prompts = [[rng.randrange(vocabulary - 16) for _ in range(rng.randint(50, 70))] for _ in range(options.prompts)]
    ours = asyncio.run(_measure_engine(options, prompts))
    theirs = _measure_generate(options, prompts)
    print(f"{'':22}{'tokens':>8}{'CPU s':>8}{'tokens / CPU s':>16}")
    for label, (tokens, seconds) in (("engine", ours), ("transformers generate", theirs)):
        print(f"{label:22}{tokens:8}{seconds:8.2f}{tokens / seconds:16.0f}")
    print(f"ratio{ours[0] / ours[1] / (theirs[0] / theirs[1]):41.2f}x")


async def _measure_engine(options: argparse.Namespace, prompts: list[list[int]]) -> tuple[int, float]:
    with tempfile.TemporaryDirectory() as folder:
        port_file, key_file = Path(folder, "port"), Path(folder, "key")
        key_file.write_text(KEY)
        command = [
            sys.executable,
            "-m",
            "tunesmith.engines",
            "--model",
            str(options.model),
            "--name",
            "bench",
            "--port",
            "0",
        ]
        command += ["--key-file", str(key_file), "--port-file", str(port_file), "--threads", "1"]
        process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)
        try:
            while not port_file.exists():
                if process.poll() is not None:
                    raise SystemExit("The engine did not start; run it by hand to see why.")
                await asyncio.sleep(0.05)
            url = f"http://127.0.0.1:{port_file.read_text().strip()}/generate"
            best = (0, float("inf"))
            for turn in range(options.repeat + 1):
                before = _cpu_seconds(process.pid)
                tokens = await _send_all(url, prompts, options, turn)
                seconds = _cpu_seconds(process.pid) - before
                if turn and tokens / seconds > best[0] / best[1]:  # the first turn warms up
                    best = tokens, seconds
            return best
        finally:
            process.terminate()
            process.wait()


async def _send_all(url: str, prompts: list[list[int]], options: argparse.Namespace, turn: int) -> int:
    headers = {"Authorization": f"Bearer {KEY}"}
    async with aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(limit=0)) as session:

        async def call(number: int) -> int:
            # The first id differs from turn to turn, so that no turn finds its prompts prefilled.
            prompt = [turn, *prompts[number % len(prompts)]]
            body = {
                "prompt_ids": prompt,
                "max_tokens": options.tokens,
                "temperature": 1.0,
                "seed": number,
                "stream": False,
            }
            async with session.post(url, json=body) as response:
                response.raise_for_status()
                return sum([len(json.loads(line)["token_ids"]) async for line in response.content])

        return sum(await asyncio.gather(*(call(number) for number in range(options.sequences))))


def _measure_generate(options: argparse.Namespace, prompts: list[list[int]]) -> tuple[int, float]:
    import torch  # noqa: PLC0415 - the engine's process must not pay for this one's memory
    from transformers import AutoModelForCausalLM  # noqa: PLC0415 - as above

    torch.set_num_threads(1)
    model: Any = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32).eval()
    copies = options.sequences // len(prompts)
    best = (0, float("inf"))
    for _ in range(options.repeat):
        tokens, before = 0, time.process_time()
        for prompt in prompts:
            ids = torch.tensor([prompt])
            output = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=True,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                num_return_sequences=copies,
                max_new_tokens=options.tokens,
            )
            new = output[:, len(prompt) :]
            pad = model.generation_config.pad_token_id
            tokens += int((new != pad).sum()) if pad is not None else new.numel()
        seconds = time.process_time() - before
        if tokens / seconds > best[0] / best[1]:
            best = tokens, seconds
    return best


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL)
    parser.add_argument("--sequences", type=int, default=80)
    parser.add_argument("--prompts", type=int, default=10)
    parser.add_argument("--tokens", type=int, default=50)
    parser.add_argument("--stream", action="store_true", help="ask the engine for an event per token")
    parser.add_argument("--repeat", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()
