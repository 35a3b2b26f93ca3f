"""Learner and vLLM engine on a CUDA device: tokens a second, share of the device's floors and memory, at the shapes of real models.

A step is one RFT chunk: groups of 8 completions on a prompt, forced to differ in score, so that every completion is trained. The base
is random bfloat16 of the shape named; rates do not depend on what the weights say. Floors are measured in the same run: a large
bfloat16 matrix product, and a device-to-device copy counting bytes read and written.

    python benchmarks/bench_gpu.py [--shapes 0.6B 4B] [--prompt 512] [--completion 1024] [--groups 8] [--rank 16] [--out FILE]
                                   [--vllm-python PYTHON]     with the engine: the Python of an environment that has vLLM

MFU counts what a LoRA step cannot do without: 4 N operations a token (forward 2 N, gradients of the activations 2 N; the frozen weights
need none), N = parameters of the linear layers, and of the head at trained tokens; for attention 4 x layers x heads x head width
operations for each pair of tokens, forward, and twice that backward. A prompt that its group shares is counted once.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, Qwen3Config

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform" / "src"))

from tunesmith.runs.config import BaseModelRef, LearnerConfig
from tunesmith.training.losses import LossInput, two_policies
from tunesmith.training.model import Policy, load_policy
from tunesmith.training.packing import Sequence, Sharing, build_pack, plan_packs
from tunesmith.training.publish import write_adapter

from benchmarks import gpu_engine

SHAPES = {
    "0.6B": {"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16},
    "1.7B": {"hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 28, "num_attention_heads": 16},
    "4B": {"hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36, "num_attention_heads": 32},
}
"""Of Qwen3, from its published configurations; 8 key-value heads of width 128, tied embeddings, 151,936 ids in all three."""
K = 8
"""Completions of a prompt."""
ENGINE_HEAD = [
    "vLLM behind the Engine API, log-probabilities of every token included; floor: the formula of `benchmarks/gpu_engine.py`, with the "
    "bandwidth (copy) and the peak of this run. Memory is the whole device's: vLLM takes the share that it is given.",
    "",
    "| shape | adapter | sequences at once | tokens/s | floor, tokens/s | share of the floor | MFU | memory, GiB |",
    "|---|---|---|---|---|---|---|---|",
]


def main() -> None:
    """Measure every shape and print one table."""
    options = _options()
    if not torch.cuda.is_available():
        sys.exit(
            "bench_gpu: no CUDA device is at hand on this machine, so nothing was measured. "
            "What runs on the CPU: make bench, make bench-sft, make check-vllm."
        )
    torch.set_num_threads(2)
    peak, copy = _matrix_product(), _copy()
    lines = [
        f"{torch.cuda.get_device_name()}, torch {torch.__version__}; bfloat16 matrix product {peak / 1e12:.0f} TFLOP/s, "
        f"copy {copy / 1e12:.2f} TB/s, both measured in this run.",
        f"A step: {options.groups} prompts of {options.prompt} tokens, {K} completions of {options.completion} each, LoRA rank {options.rank}.",
        "",
        "| shape | way | budget, tokens | input tokens | s a step | input tokens/s | trained tokens/s | MFU | peak memory, GiB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for shape in options.shapes:
        lines += _shape(shape, options, peak)
    if options.vllm_python:
        lines += ["", *ENGINE_HEAD]
        for shape in options.shapes:
            lines += _engine(shape, options, peak, copy)
    else:
        lines += ["", "The engine was not measured: name an environment with vLLM by --vllm-python."]
    text = "\n".join(lines)
    print(text)
    if options.out:
        options.out.write_text(f"{text}\n")


def _shape(shape: str, options: argparse.Namespace, peak: float) -> list[str]:
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        _write_model(Path(folder), shape)
        policy = load_policy(BaseModelRef(name=shape, path=Path(folder)), LearnerConfig(lora_rank=options.rank), seed=0)
    sequences = _sequences(policy, options)
    trained = sum(len(s.targets) for s in sequences)
    for way, sharing in (("shared prompts", Sharing.ALWAYS), ("not shared", Sharing.NEVER)):
        for budget in options.budgets:
            gc.collect()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            try:
                packs = [build_pack(p, policy.device) for p in plan_packs(sequences, budget, policy.costs, sharing)]
                seconds = _median_seconds(partial(_step, policy, packs, trained, len(sequences)), options)
            except torch.cuda.OutOfMemoryError:
                policy.model.zero_grad(set_to_none=True)
                lines.append(f"| {shape} | {way} | {budget} | | out of memory | | | | |")
                continue
            tokens = sum(len(pack.token_ids_T) for pack in packs)
            useful = _useful(policy, sequences, tokens, trained, sharing)
            memory = torch.cuda.max_memory_allocated() / 2**30
            lines.append(
                f"| {shape} | {way} | {budget} | {tokens} | {seconds:.2f} | {tokens / seconds:,.0f} | {trained / seconds:,.0f} "
                f"| {useful / seconds / peak:.1%} | {memory:.1f} |"
            )
            print(lines[-1], file=sys.stderr, flush=True)
    return lines


def _engine(shape: str, options: argparse.Namespace, peak: float, copy: float) -> list[str]:
    """vLLM behind our Engine API, with and without an adapter, beside the floor of decoding."""
    lines = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "base"
        _write_model(folder, shape)
        gpu_engine.write_tokenizer(folder)
        policy = load_policy(BaseModelRef(name=shape, path=folder), LearnerConfig(lora_rank=options.rank), seed=0)
        (Path(name) / "adapter").mkdir()
        write_adapter(Path(name) / "adapter", policy, [])
        del policy
        gc.collect()
        torch.cuda.empty_cache()
        config = json.loads((folder / "config.json").read_text())
        decoder = gpu_engine.Decoder.of(config)
        context = options.prompt + options.completion
        with gpu_engine.engine(folder, options.vllm_python, context) as url:
            for batch in options.batches:
                for adapter in (None, Path(name) / "adapter"):
                    measured = gpu_engine.decode(
                        url, batch, options.prompt, options.completion, config["vocab_size"], adapter
                    )
                    floor = decoder.floor(batch, options.prompt + options.completion / 2, copy, peak)
                    free, total = torch.cuda.mem_get_info()
                    lines.append(
                        f"| {shape} | {f'rank {options.rank}' if adapter else 'none'} | {batch} | {measured.rate:,.0f} | {floor:,.0f} "
                        f"| {measured.rate / floor:.0%} | {2 * decoder.weights * measured.rate / peak:.1%} | {(total - free) / 2**30:.1f} |"
                    )
                    print(lines[-1], file=sys.stderr, flush=True)
    return lines


def _step(policy: Policy, packs: list, tokens: int, sequences: int) -> None:
    """What the learner does between a sealed batch and its update."""
    policy.model.zero_grad(set_to_none=True)
    for pack in packs:
        logp_K, _ = policy.logprobs(pack, 1.0)
        inputs = LossInput(logp_K, pack.mu_K, pack.advantage_K, pack.sequence_K, tokens, sequences)
        two_policies(inputs).loss.backward()


def _useful(policy: Policy, sequences: list[Sequence], tokens: int, trained: int, sharing: Sharing) -> float:
    """Operations that a step cannot do without."""
    config, costs = policy.base.config, policy.costs
    head = config.vocab_size * config.hidden_size
    length = len(sequences[0].token_ids)
    prompt = length - len(sequences[0].targets)
    groups = len(sequences) // K
    if sharing is Sharing.ALWAYS:
        completion = length - prompt
        pairs = groups * (prompt**2 / 2 + K * (completion * prompt + completion**2 / 2))
    else:
        pairs = len(sequences) * length**2 / 2
    # costs are multiply-adds of a forward pass: two operations each; the backward pass does as many again in linear layers, twice as many in attention.
    return 2 * costs.token * tokens * 2 + 2 * head * trained * 2 + 2 * costs.pair * pairs * 3


def _sequences(policy: Policy, options: argparse.Namespace) -> list[Sequence]:
    rng = random.Random(0)
    sequences = []
    for group in range(options.groups):
        prompt = [rng.randrange(policy.vocabulary) for _ in range(options.prompt)]
        for k in range(K):
            ids = prompt + [rng.randrange(policy.vocabulary) for _ in range(options.completion)]
            trained = list(range(len(prompt), len(ids)))
            mu = [-12.0] * len(trained)
            sequences.append(
                Sequence(
                    ids[:-1],
                    trained[0],
                    trained,
                    ids[len(prompt) :],
                    mu=mu,
                    advantage=1.0 if k % 2 else -1.0,
                    group=group,
                )
            )
    return sequences


def _write_model(folder: Path, shape: str) -> None:
    config = Qwen3Config(
        **SHAPES[shape], num_key_value_heads=8, head_dim=128, vocab_size=151_936, tie_word_embeddings=True,
        max_position_embeddings=40_960, rope_theta=1_000_000.0,
    )  # fmt: skip
    with torch.device("cuda"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    (folder / "shape.json").write_text(json.dumps(SHAPES[shape]))
    del model
    gc.collect()
    torch.cuda.empty_cache()


def _matrix_product(size: int = 8192) -> float:
    a, b = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    return 2 * size**3 / _event_seconds(lambda: a @ b)


def _copy(size: int = 2**30) -> float:
    source = torch.randint(0, 255, (size,), device="cuda", dtype=torch.uint8)
    target = torch.empty_like(source)
    return 2 * size / _event_seconds(lambda: target.copy_(source))


def _event_seconds(work: Callable[[], object], repeat: int = 20) -> float:
    for _ in range(3):
        work()
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    for _ in range(repeat):
        work()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1000 / repeat


def _median_seconds(work: Callable[[], None], options: argparse.Namespace) -> float:
    taken = []
    for turn in range(options.repeat + 1):
        torch.cuda.synchronize()
        started = time.perf_counter()
        work()
        torch.cuda.synchronize()
        if turn:
            taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", default=["0.6B", "4B"], choices=list(SHAPES))
    parser.add_argument("--groups", type=int, default=8, help=f"prompts, {K} completions each")
    parser.add_argument("--prompt", type=int, default=512, help="tokens")
    parser.add_argument("--completion", type=int, default=1024, help="tokens")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--budgets", type=int, nargs="+", default=[4096, 16384], help="tokens of one micro-batch")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument(
        "--vllm-python", type=Path, help="Python of an environment that has vLLM: measures the engine too"
    )
    parser.add_argument(
        "--batches", type=int, nargs="+", default=[1, 64, 256], help="sequences that the engine decodes at once"
    )
    parser.add_argument("--out", type=Path, help="also write the table there")
    return parser.parse_args()


if __name__ == "__main__":
    main()
