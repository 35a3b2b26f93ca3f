"""vLLM behind the Engine API on a CUDA device: tokens a second beside what the device's memory and arithmetic allow.

Part of `bench_gpu.py`. Requests go through our own engine process over HTTP, as a job's do, with log-probabilities of every token.

Floor of one decoding step of B sequences of L tokens on average: the weights and every sequence's keys and values are read once, and each token
costs two operations a weight:

    seconds >= max((weight bytes + B * L * KV bytes) / bandwidth, 2 * N * B / peak)        KV bytes = 2 * layers * KV heads * width * 2

N = parameters without the embedding, and with the head. Prefill is not in the floor; it is a few per cent at the lengths used.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from tokenizers import Tokenizer, decoders, models

KEY = "bench"
START_SECONDS = 900.0


@dataclass(frozen=True)
class Decoder:
    """What a decoding step reads and computes."""

    weights: int
    """Parameters that a token uses: layers and head."""
    kv_bytes: int
    """Of one token, two bytes a number."""

    @classmethod
    def of(cls, config: Mapping[str, int]) -> Decoder:
        """From a Qwen3 configuration (hidden_size, intermediate_size, num_hidden_layers, heads, head_dim, vocab_size)."""
        hidden, heads, kv_heads = config["hidden_size"], config["num_attention_heads"], config["num_key_value_heads"]
        width = config["head_dim"]
        attention = 2 * hidden * heads * width + 2 * hidden * kv_heads * width
        layer = attention + 3 * hidden * config["intermediate_size"]
        layers = config["num_hidden_layers"]
        return cls(layers * layer + config["vocab_size"] * hidden, 2 * layers * kv_heads * width * 2)

    def floor(self, batch: int, length: float, bandwidth: float, peak: float) -> float:
        """Most tokens a second that the device allows: bandwidth in bytes/s, peak in operations/s, bfloat16 weights."""
        read = (2 * self.weights + batch * length * self.kv_bytes) / bandwidth
        computed = 2 * self.weights * batch / peak
        return batch / max(read, computed)


@dataclass(frozen=True)
class Measured:
    """One batch of requests."""

    tokens: int
    seconds: float

    @property
    def rate(self) -> float:
        """Tokens a second."""
        return self.tokens / self.seconds


def write_tokenizer(folder: Path) -> None:
    """A tokenizer of 256 bytes: ids above it have no text, which costs the engine nothing and changes no rate."""
    tokenizer = Tokenizer(models.BPE(vocab={f"<0x{b:02X}>": b for b in range(256)}, merges=[], byte_fallback=True))
    tokenizer.decoder = decoders.ByteFallback()
    tokenizer.save(str(folder / "tokenizer.json"))


@contextmanager
def engine(model: Path, python: Path, context: int, arguments: tuple[str, ...] = ()) -> Iterator[str]:
    """A running engine of a model folder; yields its URL. Exits with vLLM's reason when it does not start."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "key").write_text(KEY)
        argv = [sys.executable, "-m", "tunesmith.engines.vllm", "--model", str(model), "--name", "bench", "--port", "0"]
        argv += ["--key-file", str(folder / "key"), "--port-file", str(folder / "port"), "--vllm-python", str(python)]
        argv += ["--max-loras", "2", "--max-lora-rank", "16", "--", "--max-model-len", str(context), *arguments]
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1] / "platform" / "src")}
        with open(folder / "log", "wb") as log:
            process = subprocess.Popen(argv, stdout=log, stderr=log, env=environment)
        try:
            deadline = time.monotonic() + START_SECONDS
            while not (folder / "port").exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    sys.exit(f"The vLLM engine did not start:\n{(folder / 'log').read_text()[-2000:]}")
                time.sleep(0.2)
            yield f"http://127.0.0.1:{(folder / 'port').read_text().strip()}"
        finally:
            process.terminate()
            process.wait(60)


def decode(
    url: str, batch: int, prompt: int, completion: int, vocabulary: int, adapter: Path | None = None
) -> Measured:
    """Ask for `batch` answers of `completion` tokens to different prompts at one time; a first, short round warms up."""
    return asyncio.run(_decode(url, batch, prompt, completion, vocabulary, adapter))


async def _decode(
    url: str, batch: int, prompt: int, completion: int, vocabulary: int, adapter: Path | None
) -> Measured:
    connector = aiohttp.TCPConnector(limit=0)
    headers = {"Authorization": f"Bearer {KEY}"}
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(url, headers=headers, connector=connector, timeout=timeout) as session:
        name = "adapter" if adapter else None
        if adapter:
            async with session.post("/load", json={"name": name, "path": str(adapter)}) as answer:
                answer.raise_for_status()
        rng = random.Random(batch)

        async def one(tokens: int) -> int:
            ids = [rng.randrange(vocabulary) for _ in range(prompt)]
            body = {"model": name, "prompt_ids": ids, "max_tokens": tokens, "temperature": 1.0, "stream": False}
            async with session.post("/generate", json=body) as answer:
                answer.raise_for_status()
                return len(json.loads(await answer.text())["token_ids"])

        await asyncio.gather(*(one(8) for _ in range(batch)))
        begun = time.perf_counter()
        tokens = sum(await asyncio.gather(*(one(completion) for _ in range(batch))))
        measured = Measured(tokens, time.perf_counter() - begun)
        if adapter:
            await session.post("/unload", json={"name": name})
        return measured
