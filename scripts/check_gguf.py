"""GGUF exports run by llama.cpp itself, beside transformers: `make check-gguf`.

Each line: what was exported, the largest difference of the greedy answer's log-probabilities in nats, pass or fail. An answer whose ids
differ fails. llama.cpp is that of the `xllamacpp` wheel, in an environment of its own (`scripts/check_gguf.sh`).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from transformers.utils.logging import disable_progress_bar
from tunesmith.catalog import resolve
from tunesmith.training.export import export, merged_model

from tests.engines.makers import write_adapter
from tests.training.test_export import FAMILIES, NAMES, make

PYTHON = Path(".tools/llamacpp/bin/python")
BUNDLED = "accounts/tunesmith/models/tiny-math-v1"
TOKENS = 24
MOST = {"f32": 1e-4, "f16": 2e-2, "q8_0": 0.5}
"""Nats."""
CLOSE = 0.1
"""Nats: of two tokens that are nearer to each other, either may come first."""
RUN = """
import json, sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.n_parallel, params.warmup, params.cpuparams.n_threads = sys.argv[1], 512, 1, False, 1
params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
server = xllamacpp.Server(params)
said = []
for prompt in json.loads(sys.argv[2]):  # one token each: the server leaves out tokens that are no whole characters
    answer = server.handle_completions({"prompt": prompt, "max_tokens": 1, "temperature": 0, "top_k": 1, "logprobs": 1})
    entry = (answer["choices"][0]["logprobs"] or {}).get("content")
    said.append([entry[0]["id"], entry[0]["logprob"]] if entry else None)
print(json.dumps(said))
"""


def answers(file: Path, prompts: list[list[int]]) -> list[tuple[int, float] | None]:
    """llama.cpp's likeliest next token of each prompt, with its log-probability."""
    done = subprocess.run(
        [str(PYTHON), "-c", RUN, str(file), json.dumps(prompts)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"check-gguf: llama.cpp could not run {file.name}:\n{done.stderr[-2000:]}")
    return [entry and (entry[0], entry[1]) for entry in json.loads(done.stdout.splitlines()[-1])]


def difference(base: Path, adapter: Path, file: Path, prompt: list[int]) -> float:
    """Largest difference of log-probabilities along the greedy answer; infinite where llama.cpp would have said something else."""
    model = merged_model(base, adapter).eval()
    with torch.no_grad():
        ids = list(prompt)
        for _ in range(TOKENS):
            ids.append(int(model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
        expected = model(torch.tensor([ids]), use_cache=False).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
    said = answers(file, [ids[: len(prompt) + index] for index in range(TOKENS)])
    compared = [(entry, row) for entry, row in zip(said, expected, strict=True) if entry is not None]
    if len(compared) < TOKENS // 2 or any(float(row.max() - row[entry[0]]) > CLOSE for entry, row in compared):
        return float("inf")
    return max(abs(entry[1] - float(row[entry[0]])) for entry, row in compared)


def main() -> int:
    """Run every check; exit status 1 when one fails."""
    disable_progress_bar()
    failed = 0
    with tempfile.TemporaryDirectory() as work:
        bundled = resolve(BUNDLED, models_dir=Path(work)).path
        cases = [("bundled", bundled, write_adapter(Path(work, "bundled"), bundled, size=0.02), form) for form in MOST]
        for name, config in zip(NAMES, FAMILIES, strict=True):
            cases.append((name, *make(Path(work, f"m-{name}"), config), "f32"))
        for name, base, adapter, quantization in cases:
            folder = Path(work, f"{name}-{quantization}")
            export(base, adapter, folder, "gguf", quantization=quantization)
            prompt = [1016, 484, 198, 866, 83, 307] if name == "bundled" else [index * 13 % 250 for index in range(40)]
            found = difference(base, adapter, folder / "model.gguf", prompt)
            passed = found <= MOST[quantization]
            failed += not passed
            print(f"{name:<10} {quantization:<5} {found:9.2g} nats  {'pass' if passed else 'FAIL'}", flush=True)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
