"""Continuous batching from inside: sharing, the KV budget, and requests that fail, end early or are let go."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections import Counter
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tunesmith.engines import scheduler
from tunesmith.engines.attention import Options
from tunesmith.engines.builtin import BuiltinEngine
from tunesmith.engines.cache import STEM_ROWS, Prefix, PrefixCache, RowCache, capacity_for
from tunesmith.engines.engine import FinishReason
from tunesmith.engines.sampling import Draw
from tunesmith.engines.sequences import Sequence
from tunesmith.engines.wire import GenerateRequest
from tunesmith.errors import Internal, InvalidArgument

from tests.engines.drive import all_events, finals
from tests.engines.makers import write_adapter


def request(**fields: object) -> GenerateRequest:
    return GenerateRequest.model_validate(
        {"prompt_ids": [20, 21, 22], "max_tokens": 30, "seed": 1, "stream": False, **fields}
    )


async def test_a_prompt_is_computed_once_for_calls_that_arrive_together(
    builtin: BuiltinEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[int] = []
    original = type(builtin._base).prefill
    monkeypatch.setattr(
        type(builtin._base),
        "prefill",
        lambda self, prompts: computed.extend(map(len, prompts)) or original(self, prompts),
    )
    prompt = list(range(30, 80))
    answers = await asyncio.gather(*(finals(builtin, request(prompt_ids=prompt, seed=seed)) for seed in range(20)))
    assert computed == [50]
    cached = [events[0].usage.cached_tokens for events in answers if events[0].usage]
    assert sorted(cached) == [0] + [50] * 19
    assert len({tuple(events[0].token_ids) for events in answers}) > 15


async def test_requests_beyond_the_budget_wait_and_are_all_answered(ending_model: Path) -> None:
    engine = BuiltinEngine(ending_model, "random", kv_tokens=200)
    try:
        expected = [await finals(engine, request(n=8, seed=seed, max_tokens=60)) for seed in range(5)]
        found = await asyncio.gather(*(finals(engine, request(n=8, seed=seed, max_tokens=60)) for seed in range(5)))
        assert [[e.token_ids for e in events] for events in found] == [
            [e.token_ids for e in events] for events in expected
        ]
        with pytest.raises(InvalidArgument, match="201 tokens.*keeps 200"):
            engine.generate(request(max_tokens=198))
        assert await finals(engine, request(max_tokens=197))
    finally:
        engine.close()


async def test_memory_is_given_back(builtin: BuiltinEngine) -> None:
    await asyncio.gather(*(finals(builtin, request(n=5, seed=seed)) for seed in range(10)))
    loop = builtin._scheduler
    assert (loop._running, loop._reserved, len(loop._waiting), loop._live) == (0, 0, 0, set())
    assert sum(len(batch.cache) for batch in loop._batches.values()) == 0
    assert not builtin._generations


async def test_a_fault_in_one_request_leaves_the_others_running(
    builtin: BuiltinEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = await finals(builtin, request(n=6, seed=3, max_tokens=50))
    original = Sequence.accept

    def faulty(self: Sequence, draw: Draw, row: int) -> object:
        if self.settings.seed == 666 and self.sampled == 2:
            raise ZeroDivisionError("a bug")
        return original(self, draw, row)

    monkeypatch.setattr(Sequence, "accept", faulty)
    bad = asyncio.gather(*(finals(builtin, request(n=3, seed=666)) for _ in range(2)), return_exceptions=True)
    good = await finals(builtin, request(n=6, seed=3, max_tokens=50))
    assert [event.token_ids for event in good] == [event.token_ids for event in expected]
    for error in await bad:
        assert isinstance(error, Internal)
        assert "ZeroDivisionError: a bug" in error.message


async def test_a_fault_beside_a_candidate_that_ends_in_the_same_step_frees_both_once(
    long_winded: BuiltinEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Sequence.accept

    def faulty(self: Sequence, draw: Draw, row: int) -> object:
        if self.settings.seed == 666 and self.sampled == 2:
            if self.index == 1:
                raise ZeroDivisionError("a bug")
            return self.finish(FinishReason.STOP)
        return original(self, draw, row)

    monkeypatch.setattr(Sequence, "accept", faulty)
    good = asyncio.create_task(finals(long_winded, request(n=4, seed=3, max_tokens=300)))
    for _ in range(3):
        with pytest.raises(Internal):
            await finals(long_winded, request(n=3, seed=666, prompt_ids=[70, 71]))
    assert not good.done()
    assert await asyncio.wait_for(good, 20)
    assert (long_winded._scheduler._running, long_winded._scheduler._reserved) == (0, 0)


async def test_a_fault_of_the_loop_itself_is_answered_and_the_loop_goes_on(
    builtin: BuiltinEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = await finals(builtin, request())
    with monkeypatch.context() as patched:
        patched.setattr(scheduler, "draw", lambda *_: [][1])
        for error in await asyncio.gather(*(finals(builtin, request()) for _ in range(3)), return_exceptions=True):
            assert isinstance(error, Internal)
            assert "IndexError" in error.message
    again = await finals(builtin, request())
    assert again[0].token_ids == expected[0].token_ids
    assert (builtin._scheduler._running, builtin._scheduler._reserved, builtin._scheduler._live) == (0, 0, set())


async def test_an_adapter_that_yields_nan_fails_its_own_requests_only(
    builtin: BuiltinEngine, ending_model: Path, tmp_path: Path
) -> None:
    folder = write_adapter(tmp_path / "wild", ending_model, target_modules=["q_proj", "down_proj"], size=1.0)
    tensors = {name: tensor * 1e18 for name, tensor in load_file(folder / "adapter_model.safetensors").items()}
    save_file(tensors, folder / "adapter_model.safetensors")
    await builtin.load("wild", str(folder))
    expected = [await finals(builtin, request(n=4, seed=seed, max_tokens=50)) for seed in range(3)]
    good = asyncio.gather(*(finals(builtin, request(n=4, seed=seed, max_tokens=50)) for seed in range(3)))
    for _ in range(3):
        with pytest.raises(Internal, match="wild gave no probabilities"):
            await finals(builtin, request(model="wild", n=3))
    for found, alone in zip(await good, expected, strict=True):
        assert [event.token_ids for event in found] == [event.token_ids for event in alone]
        assert [event.logprobs for event in found] == [pytest.approx(event.logprobs, abs=1e-5) for event in alone]


async def test_a_cancelled_request_is_dropped(builtin: BuiltinEngine) -> None:
    generation = builtin.generate(request(n=40, max_tokens=2000, stream=True, request_id="gone"))
    assert await generation.next_events()
    generation.cancel()
    while await generation.next_events():
        pass
    await finals(builtin, request())
    assert builtin._scheduler._running == 0
    assert "gone" not in builtin._by_id


async def test_abort_reaches_candidates_that_have_not_started(ending_model: Path) -> None:
    engine = BuiltinEngine(ending_model, "random", kv_tokens=110)
    try:
        body = request(n=12, max_tokens=50, request_id="r", stream=True, temperature=0, prompt_ids=[20, 21, 22])
        generation = engine.generate(body)
        events = list(await generation.next_events())
        engine.abort("r")
        while found := await generation.next_events():
            events += found
        ends = [event for event in events if event.finish_reason]
        assert sorted(event.index for event in ends) == list(range(12))
        late = [event for event in ends if event.index == 11]
        assert late[0].finish_reason is FinishReason.ABORT
        assert late[0].token_ids == []
    finally:
        engine.close()


async def test_an_unloaded_adapter_is_freed(builtin: BuiltinEngine, adapters: list[Path]) -> None:
    await builtin.load("v0", str(adapters[0]))
    module = weakref.ref(builtin._adapters["v0"].module)
    running = asyncio.create_task(finals(builtin, request(model="v0", n=8, max_tokens=200)))
    await asyncio.sleep(0.01)
    await builtin.unload("v0")
    assert await running
    await finals(builtin, request())
    gc.collect()
    assert module() is None


async def test_streamed_events_join_to_the_whole(long_winded: BuiltinEngine) -> None:
    for seed in range(4):
        whole = (await finals(long_winded, request(seed=seed, max_tokens=80, top_logprobs=1)))[0]
        events = await all_events(long_winded, request(seed=seed, max_tokens=80, top_logprobs=1, stream=True))
        assert len(events) > len(whole.text) / 8
        assert [i for event in events for i in event.token_ids] == whole.token_ids
        assert [ids for event in events for ((ids, _),) in event.top_logprobs or []] == [
            i for ((i, _),) in whole.top_logprobs or []
        ]
        assert "".join(event.text for event in events) == whole.text
        assert all(event.text for event in events[:-1]), "an event without text has nothing to show yet"


def test_capacities_depend_on_the_length_alone_and_waste_little() -> None:
    for length in range(1, 5000):
        capacity = capacity_for(length)
        assert length <= capacity <= max(length + 63, 1.5 * length)
        assert capacity % 64 == 0
        assert capacity_for(capacity) == capacity


class _Row:
    def __init__(self, position: int) -> None:
        self.position = position


def _prefix(length: int, value: float) -> Prefix:
    return Prefix(torch.full((2, 1, length, 4), value), torch.full((2, 1, length, 4), -value), torch.zeros(5))


def _advance(cache: RowCache[_Row], steps: int) -> None:
    """Write the key `position` and the value `-position` for every row, `steps` times."""
    for _ in range(steps):
        decode = cache.decode_pass()
        at = decode.positions[:, None, None].expand(-1, 1, 4).float()
        for layer in range(2):
            decode.attend(layer, at, at, -at, Options(None, None, None))
        for row in cache.rows():
            row.position += 1


def test_rows_keep_their_keys_when_others_come_and_leave_and_when_they_outgrow_their_slot() -> None:
    cache = RowCache[_Row]()
    prefixes = [_prefix(length, length / 8) for length in (10, 33, 64, 65)]
    # Twelve rows of the first prompt: more than one stem holds.
    rows = [(_Row(prefix.length), prefix) for prefix in prefixes for _ in range(12 if prefix.length == 10 else 2)]
    cache.insert(rows[1:])
    _advance(cache, 20)
    cache.insert(rows[:1])
    gone = [rows[at][0] for at in (3, 5, 12, 16, 17)]
    _advance(cache, 2)
    cache.remove(gone)
    _advance(cache, 60)
    prompt_of = {id(row): prefix for row, prefix in rows}
    assert {id(row) for row in cache.rows()} == {id(row) for row, _ in rows} - {id(row) for row in gone}
    assert {capacities[1] for capacities in cache._buckets} == {64, 128}
    for bucket in cache._buckets.values():
        assert max(Counter(bucket.stem_of).values()) <= STEM_ROWS
        assert set(bucket.stem_of) == set(range(len(bucket.stems)))
        for slot, row in enumerate(bucket.rows):
            prefix, stem = prompt_of[id(row)], bucket.stem_of[slot]
            assert bucket.stems[stem] is prefix
            assert bucket.stem_keys.shape[-1] == bucket.stem_values.shape[-2] <= 80, (
                "no wider than the longest prompt needs"
            )
            for held, sign in ((bucket.stem_keys[:, stem].transpose(-1, -2), 1), (bucket.stem_values[:, stem], -1)):
                assert set(held[:, :, : prefix.length].flatten().tolist()) == {sign * prefix.length / 8}
                assert not held[:, :, prefix.length :].any()
            sampled = torch.arange(prefix.length, row.position).float()[:, None].expand(2, 1, -1, 4)
            assert torch.equal(bucket.keys[:, slot, :, : row.position - prefix.length], sampled)
            assert torch.equal(bucket.values[:, slot, :, : row.position - prefix.length], -sampled)
    cache.remove([row for row, _ in rows])
    assert len(cache) == 0
    assert not cache._buckets


def test_prefixes_leave_in_order_of_their_last_use() -> None:
    cache = PrefixCache(most_entries=3)
    for i in range(3):
        cache.put(0, (i,), _prefix(10, 1.0), budget=100)
    assert cache.get(0, (0,)) is not None
    cache.put(1, (0,), _prefix(10, 1.0), budget=100)
    assert cache.get(0, (1,)) is None
    assert cache.tokens == 30
    cache.put(0, (9,), _prefix(200, 1.0), budget=100)
    assert cache.get(0, (9,)) is None
    cache.shrink(20)
    assert cache.tokens == 20
    assert cache.get(0, (0,)) is not None
    cache.forget(0)
    assert cache.get(0, (0,)) is None
    assert cache.tokens == 10
