"""What the learner's tests feed it: random tiny base models, run directories, and batches sampled from the model itself."""

from __future__ import annotations

import json
import random
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen3Config
from tunesmith.runs.batch import Batch, BatchHeader, BatchRollout, Sample
from tunesmith.runs.config import BaseModelRef, LearnerConfig
from tunesmith.runs.files import batch_path
from tunesmith.training.model import Policy, load_policy

VOCABULARY = 61


def write_base(folder: Path, family: str = "qwen3", **overrides: object) -> Path:
    """A randomly initialised model: grouped-query attention in both, qk-norm and tied embeddings in qwen3 only."""
    sizes = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 512,
        "initializer_range": 0.2,
        "tie_word_embeddings": family == "qwen3",
        "bos_token_id": None,
        "eos_token_id": 1,
        **overrides,
    }
    config = {"qwen3": Qwen3Config, "llama": LlamaConfig}[family](**sizes)  # pyright: ignore[reportArgumentType]
    torch.manual_seed(1)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def write_run(run_dir: Path, base: Path, *, seed: int = 0, **learner: object) -> Path:
    """A run directory with run.json; `learner` overrides its learner section."""
    run_dir.mkdir(parents=True, exist_ok=True)
    settings = {"learning_rate": 1e-2, "lora_rank": 4, **learner}
    content = {
        "job": "test",
        "seed": seed,
        "base_model": {"name": "accounts/local/models/random", "path": str(base)},
        "dataset": str(run_dir / "dataset.jsonl"),
        "gateway_url": "http://127.0.0.1:9",
        "host_socket": str(run_dir / "host.sock"),
        "learner": settings,
    }
    (run_dir / "run.json").write_text(json.dumps(content, default=str))
    return run_dir


def policy_of(base: Path, *, disturb: float = 0.0, **settings: object) -> Policy:
    """A policy; `disturb` > 0 gives both LoRA factors random values, so that the adapter has an effect."""
    config = LearnerConfig.model_validate({"lora_rank": 4, **settings})
    policy = load_policy(BaseModelRef(name="random", path=base), config, seed=0)
    if disturb:
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for parameter in policy.adapter.values():
                parameter.copy_(disturb * torch.randn(parameter.shape, generator=generator))
    return policy


def make_batch(
    policy: Policy,
    step: int = 0,
    *,
    groups: int = 3,
    n: int = 4,
    seed: int = 0,
    prompt: tuple[int, int] = (5, 12),
    completion: tuple[int, int] = (1, 9),
    temperature: float = 1.0,
    learning_rate: float = 1e-2,
    gaps: bool = False,
    noise: float = 0.0,
    scores: list[float] | None = None,
) -> Batch:
    """A batch as the orchestrator seals it: random texts, log-probabilities as `policy` gives them (+ `noise`).

    `prompt` and `completion` are ranges of lengths; `gaps` puts given tokens between sampled ones, like a second turn.
    """
    rng = random.Random(f"{seed}-{step}")
    rollouts, samples = [], []
    for group in range(groups):
        prompt_ids = [rng.randrange(policy.vocabulary) for _ in range(rng.randint(*prompt))]
        for k in range(n):
            sampled_ids = [rng.randrange(policy.vocabulary) for _ in range(rng.randint(*completion))]
            sampled = [0] * len(prompt_ids) + [1] * len(sampled_ids)
            if gaps and len(sampled_ids) > 4:
                sampled[len(prompt_ids) + 1 : len(prompt_ids) + 3] = [0, 0]
            ids = prompt_ids + sampled_ids
            logprobs = [0.0, *logprobs_at(policy, ids, temperature)]
            logprobs = [(v + rng.gauss(0, noise) if noise else v) * s for v, s in zip(logprobs, sampled, strict=True)]
            score = rng.choice([0.0, 0.5, 1.0]) if scores is None else scores[k]
            rollouts.append(
                BatchRollout(rollout_id=f"r{group}-{k}", row_index=group, group=group, score=score, version=step)
            )
            samples.append(Sample(ids, sampled, logprobs, len(samples)))
    header = BatchHeader(
        step=step,
        epoch=0,
        temperature=temperature,
        learning_rate=learning_rate,
        evaluator_version="1",
        rollouts=rollouts,
    )
    return Batch(header, samples)


@torch.no_grad()
def logprobs_at(policy: Policy, ids: list[int], temperature: float) -> list[float]:
    """Log-probabilities of all tokens but the first by the model's own forward (not the packed one)."""
    policy.base.set_attn_implementation("eager")
    try:
        logits = policy.base(input_ids=torch.tensor([ids]), use_cache=False).logits[0, :-1]
    finally:
        policy.base.set_attn_implementation("tunesmith_packed")
    return (logits / temperature).log_softmax(-1).gather(1, torch.tensor(ids[1:])[:, None])[:, 0].tolist()


def seal(run_dir: Path, *batches: Batch, end: bool = True) -> None:
    """Put batches in place, and END behind them."""
    for batch in batches:
        batch.write(batch_path(run_dir, batch.header.step))
    (run_dir / "batches").mkdir(exist_ok=True)
    if end:
        (run_dir / "batches" / "END").touch()


def published(run_dir: Path) -> dict[str, bytes]:
    """Every file of every published adapter."""
    folder = run_dir / "adapters"
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def metrics(run_dir: Path) -> list[dict]:
    """The metrics lines without what a clock decides."""
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("seconds", "cpu_seconds")} for line in lines]
