"""Random agents, end to end: what a model sampled is trained once, in order, with the log-probabilities that it was sampled with, and
the learner's own forward pass computes the same ones.

The model is small and random; some answers are its own, others are put into its mouth (tool calls, reasoning, broken text) and scored
by it. TUNESMITH_PROPERTY_EXAMPLES (8) sets how many conversations are tried; above the default they are drawn anew on each run.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.routing import Mount
from tunesmith.engines.app import create_app
from tunesmith.engines.builtin import BuiltinEngine
from tunesmith.engines.engine import FinishReason
from tunesmith.gateway import GatewayState
from tunesmith.orchestrator.gateway import Gateway as GatewayClient
from tunesmith.orchestrator.samples import Completion, TokenSequence, merge
from tunesmith.rendering import Renderer
from tunesmith.rendering.families import FamilyFormat
from tunesmith.runs.batch import Batch, BatchHeader, BatchRollout, Sample
from tunesmith.runs.config import BaseModelRef, LearnerConfig
from tunesmith.settings import Settings
from tunesmith.storage.keys import load_keys
from tunesmith.training.model import Policy, load_policy
from tunesmith.training.packing import Sharing, build_pack, plan_packs, sequences_of

from tests.engines.makers import write_adapter, write_model
from tests.fakes.engine import FakeSupervisor
from tests.fakes.model_folder import TEMPLATE
from tests.fakes.scripted_engine import Script, ScriptedEngine
from tests.gateway.conftest import FIVE, Gateway, make_keys, serve, serve_app
from tests.rendering.family_folders import QWEN3, make_family_folder

EXAMPLES = int(os.environ.get("TUNESMITH_PROPERTY_EXAMPLES", "8"))
TOLERANCE = 1e-4
"""Largest difference between engine and learner, in nats; both compute in fp32."""
MAX_TOKENS = 24
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]


# What agents do, and what is put into the model's mouth.


@dataclass(frozen=True)
class Answer:
    text: str
    by_letters: bool
    """Spelled with one id a character, as a model may sample it, instead of the tokenizer's own choice."""
    end: FinishReason


@dataclass(frozen=True)
class Step:
    kind: str
    text: str = ""
    answer: Answer | None = None
    """None: the model samples."""
    place: int = 0
    rewrite: bool = False
    """The client writes the tool calls of its history anew and leaves out the reasoning."""


PIECES = ["a", " b", "é漢🙂", "\n", "<think>", "</think>", "<|im_end|>", "<|end|>", "<tool_call>", "</tool_call>", "{"]
CALLS = [
    '<tool_call>{"name":"f","arguments":{"x":1}}</tool_call>',
    '<tool_call>\n{"name": "f", "arguments": {"b": [true, "ä"], "a": 0.50}}\n</tool_call>',
]
texts = st.lists(st.sampled_from(PIECES), max_size=4).map("".join)
spoken = st.one_of(
    texts,
    st.tuples(texts, st.lists(st.sampled_from(CALLS), min_size=1, max_size=2)).map(lambda t: t[0] + "\n".join(t[1])),
    st.tuples(texts, st.one_of(texts, st.sampled_from(CALLS))).map(lambda t: f"<think>\n{t[0]}\n</think>\n\n{t[1]}"),
)
ends = st.sampled_from([FinishReason.STOP] * 4 + [FinishReason.LENGTH, FinishReason.ABORT])
answers = st.none() | st.builds(Answer, spoken, st.booleans(), ends)
KINDS = ["say"] * 4 + ["results"] * 3 + ["again_first", "again_last", "edit", "cut", "judge"]
steps = st.builds(Step, st.sampled_from(KINDS), texts, answers, st.integers(0, 5), st.booleans())


@dataclass
class World:
    """A gateway before a real engine, and the learner's view of the same policy."""

    gateway: Gateway
    engine: ScriptedEngine
    renderer: Renderer
    learner: Policy
    policy: str
    rollouts: Counter[str] = field(default_factory=Counter)
    seen: Counter[str] = field(default_factory=Counter)


class Agent:
    """Carries steps out in one rollout."""

    def __init__(self, world: World, rollout: str, system: str, tools: bool) -> None:
        self._world = world
        self._path = "/" + FIVE.format(r=rollout) + "/chat/completions"
        self._tools = TOOLS if tools else None
        self._history: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
        self._asked: list[dict[str, Any]] = []

    async def do(self, step: Step) -> None:
        if step.kind == "edit" and self._history:
            message = self._history[step.place % len(self._history)]
            message["content"] = (message["content"] or "") + step.text + "!"
        elif step.kind == "cut":
            del self._history[step.place % (len(self._history) + 1) :]
        elif step.kind.startswith("again") and self._asked:
            before = self._history
            self._history = [*self._asked]
            await self._ask(step)
            if step.kind == "again_first":
                self._history = before
            return
        calls = self._history[-1].get("tool_calls") if self._history else None
        if step.kind == "results" and calls:
            self._history += [{"role": "tool", "tool_call_id": call["id"], "content": step.text} for call in calls]
        else:
            self._history.append({"role": "user", "content": step.text})
        await self._ask(step)

    async def _ask(self, step: Step) -> None:
        world = self._world
        if step.rewrite:
            self._history = [_rewritten(message) for message in self._history]
        if step.answer is not None:
            world.engine.scripts.append(_script(step.answer, world.renderer))
        self._asked = [*self._history]
        model = world.gateway.base if step.kind == "judge" else world.policy
        body = {"model": model, "messages": self._history, "tools": self._tools, "max_tokens": MAX_TOKENS}
        reply = await world.gateway.call("POST", self._path, "rollout", json=body)
        world.seen[f"{step.kind} {reply.status}"] += 1
        world.engine.scripts.clear()
        if reply.status == 503:
            assert step.answer is not None
            assert step.answer.end is FinishReason.ABORT
            return
        assert reply.status == 200, reply.body
        self._history.append(reply.body["choices"][0]["message"])


def _script(answer: Answer, renderer: Renderer) -> Script:
    pieces = list(answer.text) if answer.by_letters else [answer.text]
    ids = [id for piece in pieces for id in renderer.encode(piece)] or renderer.encode("x")
    if answer.end is FinishReason.STOP:
        return Script([*ids, renderer.eos_ids[0]], renderer.decode(ids), answer.end)
    return Script(ids, renderer.decode(ids), answer.end)


def _rewritten(message: dict[str, Any]) -> dict[str, Any]:
    message = {key: value for key, value in message.items() if key != "reasoning_content"}
    calls = []
    for call in message.get("tool_calls") or []:
        arguments = json.dumps(json.loads(call["function"]["arguments"]), sort_keys=True, indent=1)
        calls.append({**call, "function": {**call["function"], "arguments": arguments}})
    return {**message, "tool_calls": calls} if calls else message


# What must hold.


def trained_calls(completions: list[Completion], policy: str) -> list[Completion]:
    """The calls that must be trained, by the plain words of the rule: complete, of the policy, and no retry that was given up."""
    calls = [c for c in completions if c.model == policy and c.status == "complete"]
    kept: dict[tuple[tuple[int, ...], tuple[int, ...]], Completion] = {}
    for call in calls:
        retries = [other for other in calls if other.prompt_ids == call.prompt_ids]
        used = [
            retry
            for retry in retries
            if any(c.prompt_ids[: len(w := [*retry.prompt_ids, *retry.sampled_ids])] == w for c in completions)
        ]
        if call in used or (not used and call is max(retries, key=lambda retry: retry.turn)):
            kept[tuple(call.prompt_ids), tuple(call.sampled_ids)] = call  # the same answer twice is one answer
    return [*kept.values()]


def check_sequences(sequences: list[TokenSequence], calls: list[Completion]) -> None:
    """Each call's ids stand behind its very prompt, with its log-probabilities, in one sequence; nothing else is trained."""
    for sequence in sequences:
        assert len(sequence.token_ids) == len(sequence.sampled) == len(sequence.logprobs)
    for call in calls:
        start, end = len(call.prompt_ids), len(call.prompt_ids) + len(call.sampled_ids)
        holding = [
            sequence
            for sequence in sequences
            if sequence.token_ids[:end] == [*call.prompt_ids, *call.sampled_ids] and all(sequence.sampled[start:end])
        ]
        assert len(holding) == 1
        assert holding[0].logprobs[start:end] == call.logprobs
    assert sum(sum(s.sampled) for s in sequences) == sum(len(call.sampled_ids) for call in calls)
    assert all(lp == 0.0 for s in sequences for lp, m in zip(s.logprobs, s.sampled, strict=True) if not m)


def check_record(world: World, rollout: str) -> None:
    """What is stored is what the engine was asked and answered."""
    for stored in world.gateway.state.store.of_rollout(rollout):
        answered = world.engine.answered[stored.id.rpartition("-")[0]]
        assert (stored.prompt_ids, stored.sampled_ids) == (answered.prompt_ids, answered.token_ids)
        assert stored.logprobs == answered.logprobs


def check_learner(world: World, sequences: list[TokenSequence], sharing: Sharing) -> None:
    """The learner, packing and all, gives every trained token the log-probability that was recorded."""
    samples = [Sample(s.token_ids, s.sampled, s.logprobs, number) for number, s in enumerate(sequences)]
    rollouts = [
        BatchRollout(rollout_id=str(n), row_index=0, group=0, score=n % 2, version=0) for n in range(len(samples))
    ]
    header = BatchHeader(step=0, epoch=0, temperature=1.0, learning_rate=1e-3, evaluator_version="", rollouts=rollouts)
    trainable = sequences_of(Batch(header, samples), [1.0] * len(samples), world.learner.vocabulary)
    compared = 0
    for plans in plan_packs(trainable, 600, world.learner.costs, sharing):
        pack = build_pack(plans)
        with torch.no_grad():
            logp_K, _ = world.learner.logprobs(pack, 1.0)
        assert float((logp_K - pack.mu_K).abs().max()) <= TOLERANCE
        compared += len(logp_K)
    assert compared == sum(sum(s.sampled) for s in sequences)


async def roll_out(
    world: World, rollout: str, plan: list[Step], system: str, tools: bool, sharing: Sharing
) -> tuple[list[Completion], list[TokenSequence]]:
    """Have an agent carry out a plan, merge what was recorded, and check all of it."""
    agent = Agent(world, rollout, system, tools)
    for step in plan:
        await agent.do(step)
    async with GatewayClient(world.gateway.url, world.gateway.keys["run"], patience=5) as client:
        completions = (await client.completions([rollout]))[rollout]
    check_record(world, rollout)
    sequences = merge(completions, world.policy)
    calls = trained_calls(completions, world.policy)
    check_sequences(sequences, calls)
    if calls:
        check_learner(world, sequences, sharing)
    return completions, sequences


# Two worlds: a model with a chat template of its own, and one of a family with reasoning.


@pytest.fixture(scope="module", params=["own template", "qwen3"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    folder = tmp_path_factory.mktemp("model")
    if request.param == "own template":
        write_model(folder)
        tokens = {"bos_token": "<|start|>", "eos_token": "<|end|>"}
        (folder / "tokenizer_config.json").write_text(json.dumps({**tokens, "chat_template": TEMPLATE}))
        return folder
    family = make_family_folder(tmp_path_factory.mktemp("family") / "q", "qwen3", QWEN3)
    end, size = Renderer.load(family).eos_ids[0], Renderer.load(family).vocab_size
    config = transformers.Qwen3Config(
        vocab_size=size,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=2048,
        eos_token_id=end,
        tie_word_embeddings=True,
    )
    write_model(folder, config, stop_ids=end)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(family / name, folder / name)
    return folder


@pytest.fixture
async def world(model: Path, data_dir: Path) -> AsyncIterator[World]:
    config = Settings(data_dir=data_dir)
    state = GatewayState(config)
    builtin = BuiltinEngine(model, str(model))
    engine = ScriptedEngine(builtin)
    app = Starlette(routes=[Mount("/", create_app(engine, load_keys(config).engine))])
    engine_server, engine_task, engine_url = await serve_app(app)
    served: Any = type("Served", (), {"url": engine_url})
    supervisor = FakeSupervisor(data_dir / "supervisor.sock", {str(model): served})
    await supervisor.start()
    server, task, url = await serve(state)
    adapter = write_adapter(data_dir / "runs" / "job1" / "adapters" / "v000000", model, seed=3)
    learner = load_policy(
        BaseModelRef(name=str(model), path=model), LearnerConfig(lora_rank=4, lora_alpha=8, warm_start=adapter), 0
    )
    async with aiohttp.ClientSession() as session:
        gateway = Gateway(state, served, supervisor, str(model), url, make_keys(config, state), session)
        body = gateway.policy(sampling={"temperature": 1.0, "max_tokens": MAX_TOKENS, "stop": []})
        shutil.rmtree(adapter)
        write_adapter(adapter, model, seed=3)  # `policy` wrote a placeholder over it
        body["sha256"] = await builtin.load("probe", str(adapter))
        answer = await gateway.call("PUT", "/internal/policies", "run", json=body)
        assert answer.status == 200, answer.body
        renderer = Renderer.load(model)
        yield World(gateway, engine, renderer, learner, body["name"])
    for uvicorn, running in ((server, task), (engine_server, engine_task)):
        uvicorn.should_exit = True
        await running
    await supervisor.stop()
    builtin.close()


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=EXAMPLES <= 8,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    plan=st.lists(steps, min_size=2, max_size=9),
    system=texts,
    tools=st.sampled_from([True, True, False]),
    sharing=st.sampled_from([Sharing.AUTO, Sharing.ALWAYS]),
)
async def test_every_sampled_id_is_trained_once_as_it_was_sampled(
    world: World, plan: list[Step], system: str, tools: bool, sharing: Sharing
) -> None:
    world.rollouts["all"] += 1
    completions, sequences = await roll_out(world, f"r{world.rollouts['all']}-a0", plan, system, tools, sharing)
    plain = all(step.kind in ("say", "results") and not (step.answer and step.answer.end == "abort") for step in plan)
    if plain and not isinstance(world.renderer.chat_format, FamilyFormat):
        assert len(sequences) == 1, "nothing was edited or repeated, so nothing may be tokenized again"
        for before, after in pairwise(completions):
            assert after.prompt_ids[: len(w := [*before.prompt_ids, *before.sampled_ids])] == w


async def test_a_cycle_of_parallel_tool_calls_with_reasoning_is_one_sequence(world: World) -> None:
    spoken = f"<think>\nadd them\n</think>\n\n{CALLS[0]}\n{CALLS[1]}"
    stop, letters = FinishReason.STOP, not isinstance(world.renderer.chat_format, FamilyFormat)
    plan = [
        Step("say", "go", Answer(spoken, letters, stop)),
        Step("results", "7", Answer(spoken, letters, stop), rewrite=True),
        Step("results", "8", Answer(f"<think>{CALLS[0]}", letters, stop), rewrite=True),
        Step("results", "<|im_end|>", None, rewrite=True),
    ]
    completions, (sequence,) = await roll_out(world, "cycle-a0", plan, "Use f.", True, Sharing.AUTO)
    assert len(completions) == 4
    assert sum(sequence.sampled) == sum(len(completion.sampled_ids) for completion in completions)
