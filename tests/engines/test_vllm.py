"""What our side makes of vLLM's answers, with a stand-in at vLLM's HTTP. The real one: `make check-vllm`."""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tunesmith.engines.engine import AdapterNotLoaded, CandidateEvent
from tunesmith.engines.vllm.candidate import candidate_seed
from tunesmith.engines.vllm.client import VllmClient
from tunesmith.engines.vllm.engine import VllmEngine
from tunesmith.engines.vllm.environment import Environment, find_vllm
from tunesmith.engines.vllm.server import ServerOptions, VllmServer, server_arguments, server_environment
from tunesmith.engines.wire import GenerateRequest
from tunesmith.errors import FailedPrecondition, Internal, InvalidArgument, Unavailable

from tests.engines.makers import write_adapter
from tests.fakes.vllm_server import NORMALISER, FakeVllm


class FakeServer(VllmServer):
    """Starts the stand-in in this process."""

    def __init__(self, options: ServerOptions, fake: FakeVllm) -> None:
        super().__init__(options)
        self.fake = fake

    async def start(self) -> VllmClient:
        socket = self.folder / "vllm.sock"
        self.runner = await self.fake.start(socket)
        return VllmClient(socket)

    async def stop(self) -> None:
        await self.runner.cleanup()
        await super().stop()


def options(model: Path, **changes: object) -> ServerOptions:
    values = {
        "environment": Environment(Path("/opt/vllm/bin/python"), "0.32.0", cpu=True), "folder": model, "name": "base",
        "threads": 2, "max_loras": 10, "max_lora_rank": 8, "arguments": ("--max-model-len", "64"), "log_path": None,
    }  # fmt: skip
    return ServerOptions(**{**values, **changes})  # pyright: ignore[reportArgumentType]


@pytest.fixture
def fake() -> FakeVllm:
    return FakeVllm([ord(character) - 33 for character in "seven~apples~and~more"])


@pytest.fixture
async def engine(model: Path, fake: FakeVllm) -> AsyncIterator[VllmEngine]:
    engine = await VllmEngine.start(FakeServer(options(model), fake))
    fake.requests.clear()
    yield engine
    await engine.close()


async def events(engine: VllmEngine, **body: object) -> list[CandidateEvent]:
    request = GenerateRequest.model_validate({"prompt_ids": [20, 21], "max_tokens": 30, **body})
    generation = engine.generate(request)
    found: list[CandidateEvent] = []
    while came := await generation.next_events():
        found += came
    return found


async def test_ids_text_and_both_logprobs(engine: VllmEngine, fake: FakeVllm) -> None:
    (event,) = await events(engine, temperature=0.5, top_logprobs=2, stream=False)
    assert event.text == "seven~apples~and~more"
    assert event.token_ids == fake.answer
    assert event.model_logprobs == [-1.0] * len(fake.answer)
    assert event.logprobs == [-1.0 / 0.5 - NORMALISER] * len(fake.answer)
    assert event.top_logprobs == [[(90, -0.5), (token, -1.0)] for token in fake.answer]
    assert event.finish_reason == "length"
    assert event.usage is not None
    assert (event.usage.prompt_tokens, event.usage.cached_tokens, event.usage.completion_tokens) == (2, 3, 21)


async def test_at_temperature_1_and_greedy_both_logprobs_are_vllms(engine: VllmEngine) -> None:
    for temperature in (0.0, 1.0):
        (event,) = await events(engine, temperature=temperature, stream=False)
        assert event.logprobs == event.model_logprobs == [-1.0] * 21


async def test_other_temperatures_are_refused_where_vllm_sends_no_normaliser(model: Path, fake: FakeVllm) -> None:
    fake.normalisers = False
    engine = await VllmEngine.start(FakeServer(options(model), fake))
    try:
        with pytest.raises(InvalidArgument, match="temperature = 0.5"):
            await events(engine, temperature=0.5)
        assert await events(engine, temperature=1.0)
    finally:
        await engine.close()


async def test_a_stop_string_ends_with_the_ids_that_spell_it_and_aborts_vllm(
    engine: VllmEngine, fake: FakeVllm
) -> None:
    for stream in (True, False):
        fake.aborted.clear()
        found = await events(engine, stop=["apples"], stream=stream)
        assert "".join(event.text for event in found) == "seven~"
        assert [token for event in found for token in event.token_ids] == fake.answer[: len("seven~apples")]
        assert found[-1].finish_reason == "stop"


async def test_a_stop_id_is_among_the_ids_and_not_in_the_text(engine: VllmEngine, fake: FakeVllm) -> None:
    fake.answer[5:6] = [257]
    (event,) = await events(engine, stream=False)
    assert event.token_ids == fake.answer[:6]
    assert (event.text, event.finish_reason) == ("seven", "stop")


async def test_each_candidate_is_a_request_with_a_seed_of_its_own(engine: VllmEngine, fake: FakeVllm) -> None:
    found = await events(engine, n=3, seed=2**64 - 1, stream=False)
    assert sorted(event.index for event in found) == [0, 1, 2]
    seeds = [request["sampling_params"]["seed"] for request in fake.requests]
    assert seeds == [candidate_seed(2**64 - 1, index) for index in range(3)]
    assert len({candidate_seed(seed, index) for seed in range(50) for index in range(50)}) == 2500
    assert max(seeds) < 2**63, "vLLM's seeds are signed"


async def test_abort_ends_every_candidate_and_reaches_vllm(engine: VllmEngine, fake: FakeVllm) -> None:
    fake.hold.clear()
    request = GenerateRequest(prompt_ids=[20], max_tokens=30, n=2, request_id="one")
    generation = engine.generate(request)
    found = list(await generation.next_events())
    engine.abort("one")
    while came := await generation.next_events():
        found += came
    assert [event.finish_reason for event in found].count("abort") == 2
    await asyncio.wait_for(fake.aborted.wait(), 10)


async def test_a_failure_in_the_middle_ends_the_request_with_its_reason(engine: VllmEngine, fake: FakeVllm) -> None:
    fake.fail_after_first = True
    with pytest.raises(Unavailable, match="EngineCore died"):
        await events(engine)


async def test_an_answer_without_what_was_asked_for_is_an_error_and_no_guess(
    engine: VllmEngine, fake: FakeVllm
) -> None:
    fake.normalisers = False
    with pytest.raises(Internal, match="without its normaliser"):
        await events(engine, temperature=0.5, n=2)
    assert await events(engine, temperature=1.0)


async def test_an_adapter_is_served_from_a_copy_under_a_name_used_once(
    engine: VllmEngine, fake: FakeVllm, adapters: list[Path], model: Path, tmp_path: Path
) -> None:
    folder = write_adapter(tmp_path / "v1", model, seed=1)
    sha256 = hashlib.sha256((folder / "adapter_model.safetensors").read_bytes()).hexdigest()
    assert await engine.load("job-v1", str(folder)) == sha256
    (first,) = fake.adapters
    assert Path(fake.adapters[first]) != folder
    assert (await events(engine, model="job-v1"))[-1].finish_reason == "length"
    fake.hold.clear()
    generation = engine.generate(GenerateRequest(prompt_ids=[20], max_tokens=9, model="job-v1"))
    await generation.next_events()
    await engine.unload("job-v1")
    assert not fake.unloaded, "a request still runs on it"
    with pytest.raises(AdapterNotLoaded):
        engine.generate(GenerateRequest(prompt_ids=[20], max_tokens=9, model="job-v1"))
    copy = Path(fake.adapters[first])
    fake.hold.set()
    while await generation.next_events():
        pass
    async with asyncio.timeout(10):
        while copy.exists():
            await asyncio.sleep(0.01)
    assert fake.unloaded == [first]
    await engine.load("job-v1", str(folder))
    assert set(fake.adapters).isdisjoint({first}), "vLLM keeps prefixes by name"


async def test_a_rank_above_the_limit_is_refused_before_vllm_sees_it(
    engine: VllmEngine, fake: FakeVllm, model: Path, tmp_path: Path
) -> None:
    with pytest.raises(InvalidArgument, match="rank 9 is above 8"):
        await engine.load("wide", str(write_adapter(tmp_path / "wide", model, r=9)))
    damaged = write_adapter(tmp_path / "cut", model)
    weights = damaged / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(InvalidArgument, match="damaged"):
        await engine.load("cut", str(damaged))
    assert not fake.adapters


async def test_score_reads_the_prompt_logprobs(engine: VllmEngine) -> None:
    assert await engine.score(None, [20, 21, 22]) == [-21.0, -22.0]
    with pytest.raises(InvalidArgument, match="64"):
        await engine.score(None, [20] * 64)


def test_the_callers_arguments_come_last_and_our_packages_stay_out(model: Path) -> None:
    argv = server_arguments(options(model), Path("/s"))
    assert argv[-2:] == ["--max-model-len", "64"]
    assert argv[argv.index("--max-loras") + 1] == "10"
    assert "--enforce-eager" in argv
    ours = {"PYTHONPATH": "/ours", "VIRTUAL_ENV": "/v", "VLLM_CPU_KVCACHE_SPACE": "9", "VLLM_USE_V2_MODEL_RUNNER": "1"}
    given = server_environment(options(model), Path("/plugins"), ours)
    assert given["PYTHONPATH"] == "/plugins"
    assert "VIRTUAL_ENV" not in given
    assert given["VLLM_CPU_KVCACHE_SPACE"] == "9"
    assert given["VLLM_USE_V2_MODEL_RUNNER"] == "0"


@pytest.mark.parametrize(
    ("python", "said"),
    [(None, "vllm_python"), (Path("/nowhere/python"), "/nowhere/python"), (Path(sys.executable), "has no vLLM")],
)
def test_an_environment_without_vllm_is_told(python: Path | None, said: str) -> None:
    with pytest.raises(FailedPrecondition, match=said):
        find_vllm(python)
