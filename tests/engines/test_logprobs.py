"""What the engine records is what a plain transformers + peft forward, adapter not merged, gives for the same ids.

This is the equality that the learner builds on: importance ratios start at 1. Bound: 3e-5 in fp32.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
from tunesmith import catalog
from tunesmith.engines.builtin import BuiltinEngine
from tunesmith.engines.wire import GenerateRequest

from tests.engines.drive import finals
from tests.engines.makers import CONTEXT, STOP_IDS, peft_may_warn, write_adapter

BOUND = 3e-5
TEMPERATURES = pytest.mark.parametrize("temperature", [0.7, 1.0])
PROMPT = list(range(20, 57))


class Reference:
    """A plain forward of the base, or of the base with an adapter, without any cache."""

    def __init__(self, model: Path, adapter: Path | None = None) -> None:
        base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
        with peft_may_warn():
            self._module: Any = base if adapter is None else PeftModel.from_pretrained(base, str(adapter)).eval()

    @torch.no_grad()
    def logprobs(self, prompt: list[int], sampled: list[int], temperature: float) -> torch.Tensor:
        """Log-probabilities of the sampled ids."""
        logits = self._module(torch.tensor([prompt + sampled]), use_cache=False).logits[0, len(prompt) - 1 : -1]
        return torch.log_softmax(logits.double() / temperature, -1).gather(1, torch.tensor(sampled)[:, None])[:, 0]

    @torch.no_grad()
    def best(self, prompt: list[int], sampled: list[int]) -> list[int]:
        """The likeliest id at each place of `sampled`."""
        logits = self._module(torch.tensor([prompt + sampled]), use_cache=False).logits[0, len(prompt) - 1 : -1]
        return logits.argmax(-1).tolist()


async def compare(engine: BuiltinEngine, reference: Reference, **fields: Any) -> list[list[int]]:
    """Generate, compare every recorded number, and return the sampled ids of each candidate."""
    fields = {"prompt_ids": PROMPT, "max_tokens": 40, "temperature": 1.0, "seed": 1, "stream": False, **fields}
    request = GenerateRequest(**fields)
    events = await finals(engine, request)
    for event in events:
        for recorded, temperature in ((event.logprobs, request.temperature), (event.model_logprobs, 1.0)):
            expected = reference.logprobs(request.prompt_ids, event.token_ids, temperature)
            assert (torch.tensor(recorded) - expected).abs().max().item() <= BOUND
    return [event.token_ids for event in events]


@TEMPERATURES
async def test_base_at_the_end_token(builtin: BuiltinEngine, ending_model: Path, temperature: float) -> None:
    sampled = await compare(builtin, Reference(ending_model), temperature=temperature, n=24)
    ended = [ids for ids in sampled if ids[-1] in STOP_IDS]
    assert len(ended) >= 3
    assert all(not set(ids[:-1]) & set(STOP_IDS) for ids in sampled)


@TEMPERATURES
async def test_with_stop_strings(builtin: BuiltinEngine, ending_model: Path, temperature: float) -> None:
    reference = Reference(ending_model)
    sampled = await compare(
        builtin, reference, temperature=temperature, n=16, stop=["a", "e", "12", "o"], max_tokens=60
    )
    assert len({len(ids) for ids in sampled}) > 3


@TEMPERATURES
async def test_with_the_twentieth_adapter_under_shared_prefill(
    builtin: BuiltinEngine, ending_model: Path, adapters: list[Path], temperature: float
) -> None:
    for k, path in enumerate(adapters):
        await builtin.load(f"v{k}", str(path))
    reference = Reference(ending_model, adapters[19])
    # The others decode at the same time; single calls of one prompt share its prefill with a request of n = 3.
    others = [compare(builtin, Reference(ending_model, adapters[k]), model=f"v{k}", seed=k) for k in (0, 7)]
    singles = [compare(builtin, reference, model="v19", temperature=temperature, seed=seed) for seed in range(5)]
    await asyncio.gather(
        *others, *singles, compare(builtin, reference, model="v19", temperature=temperature, n=3, seed=9)
    )
    usage = (await finals(builtin, GenerateRequest(prompt_ids=PROMPT, max_tokens=1, model="v19")))[0].usage
    assert usage is not None
    assert usage.cached_tokens == len(PROMPT)


@TEMPERATURES
async def test_near_the_end_of_the_context(long_winded: BuiltinEngine, model: Path, temperature: float) -> None:
    prompt = [20 + i * i % 200 for i in range(CONTEXT - 40)]
    sampled = await compare(
        long_winded, Reference(model), prompt_ids=prompt, max_tokens=100, n=4, temperature=temperature
    )
    assert max(len(ids) for ids in sampled) == 40


async def test_score(builtin: BuiltinEngine, ending_model: Path, adapters: list[Path]) -> None:
    await builtin.load("v1", str(adapters[1]))
    ids = [20 + i * 7 % 200 for i in range(300)]
    scored = torch.tensor(await builtin.score("v1", ids))
    expected = Reference(ending_model, adapters[1]).logprobs(ids[:1], ids[1:], 1.0)
    assert (scored - expected).abs().max().item() <= BOUND


@TEMPERATURES
async def test_every_bundled_model(tmp_path: Path, temperature: float) -> None:
    folders = sorted(folder for folder in (Path(catalog.__file__).parent / "models").iterdir() if folder.is_dir())
    assert folders
    for folder in folders:
        adapter = write_adapter(tmp_path / folder.name, folder, r=16, lora_alpha=32, size=0.03)
        engine = BuiltinEngine(folder, folder.name)
        try:
            await engine.load("v1", str(adapter))
            config = json.loads((folder / "config.json").read_text())
            prompt = [i * 31 % (config["vocab_size"] - 30) for i in range(70)]
            reference = Reference(folder, adapter)
            await compare(engine, reference, model="v1", prompt_ids=prompt, n=8, temperature=temperature)
            context = config["max_position_embeddings"]
            long = [i * 17 % (config["vocab_size"] - 30) for i in range(context - 40)]
            await compare(engine, reference, model="v1", prompt_ids=long, max_tokens=64, temperature=temperature)
        finally:
            engine.close()
