"""What every implementation of the Engine API must do, over HTTP. Subclass it and give a fixture `engine`.

    class TestMyEngine(EngineContract):
        @pytest.fixture
        def engine(self) -> EngineTarget: ...

The model behind it: any with a vocabulary of at least 100, whose answers do not end by themselves within a few hundred tokens as
a rule (random weights do), and a context of at least 512.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

PROMPT = [20, 21, 22, 23, 24]
HOT = 2.0
"""The hottest that every engine takes; of sixteen answers, some are still under way hundreds of tokens later."""


@dataclass(frozen=True)
class EngineTarget:
    """A running engine and adapters that fit its base model."""

    url: str
    key: str
    base_model: str
    adapters: tuple[Path, Path]
    """Two PEFT LoRA folders with a visible effect and different weights."""
    misfit: Path
    """A PEFT LoRA folder that was trained on another model."""
    tolerance: float = 3e-5
    """Between recorded log-probabilities and a later `/score`."""


@dataclass
class Candidate:
    """The joined events of one candidate."""

    events: list[dict[str, Any]] = field(default_factory=list)

    def joined(self, name: str) -> list[Any]:
        return [item for event in self.events for item in event[name]]

    @property
    def ids(self) -> list[int]:
        return self.joined("token_ids")

    @property
    def text(self) -> str:
        return "".join(event["text"] for event in self.events)

    @property
    def finish_reason(self) -> str:
        return self.events[-1]["finish_reason"]

    @property
    def usage(self) -> dict[str, int]:
        return self.events[-1]["usage"]


class EngineRefused(Exception):
    """The engine answered with an error."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        super().__init__(f"{status} {body}")
        self.status = status
        self.code: str = body["error"]["code"]
        self.message: str = body["error"]["message"]


class EngineClient:
    """A plain client of the Engine API."""

    def __init__(self, url: str, key: str) -> None:
        connector = aiohttp.TCPConnector(limit=0)
        self.session = aiohttp.ClientSession(url, headers={"Authorization": f"Bearer {key}"}, connector=connector)

    async def __aenter__(self) -> EngineClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()

    async def call(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        async with self.session.request(method, path, json=body) as response:
            content = await response.json()
            if response.status != 200:
                raise EngineRefused(response.status, content)
            return content

    async def events(self, **body: object) -> AsyncIterator[dict[str, Any]]:
        async with self.session.post("/generate", json=body) as response:
            if response.status != 200:
                raise EngineRefused(response.status, await response.json())
            assert response.content_type == "application/x-ndjson"
            async for line in response.content:
                event = json.loads(line)
                if "error" in event:
                    raise EngineRefused(200, event)
                yield event

    async def generate(self, **body: object) -> list[Candidate]:
        """All candidates in order of their index."""
        found: dict[int, Candidate] = {}
        async for event in self.events(**{"prompt_ids": PROMPT, "max_tokens": 16, "temperature": 1.0, **body}):
            found.setdefault(event["index"], Candidate()).events.append(event)
        assert sorted(found) == list(range(len(found)))
        return [found[index] for index in sorted(found)]

    async def one(self, **body: object) -> Candidate:
        (candidate,) = await self.generate(**body)
        return candidate


class EngineContract:
    """The tests. Each leaves the engine as it found it."""

    @pytest.fixture
    async def client(self, engine: EngineTarget) -> AsyncIterator[EngineClient]:
        async with EngineClient(engine.url, engine.key) as client:
            yield client

    @pytest.fixture
    async def loaded(self, engine: EngineTarget, client: EngineClient) -> AsyncIterator[str]:
        """The name of a loaded adapter."""
        await client.call("POST", "/load", {"name": "job-v1", "path": str(engine.adapters[0])})
        yield "job-v1"
        await client.call("POST", "/unload", {"name": "job-v1"})

    async def test_health_and_info(self, engine: EngineTarget, client: EngineClient) -> None:
        assert await client.call("GET", "/health") == {"status": "ok"}
        info = await client.call("GET", "/info")
        assert info["base_model"] == engine.base_model
        assert info["context_length"] >= 512
        assert info["vocab_size"] >= 100
        assert info["adapters"] == []
        assert isinstance(info["dtype"], str)
        assert isinstance(info["pid"], int)
        assert isinstance(info["capabilities"], list)

    @pytest.mark.parametrize("route", ["/generate", "/score", "/load", "/unload", "/abort"])
    @pytest.mark.parametrize("key", ["", "Bearer wrong"])
    async def test_asks_for_the_key(self, engine: EngineTarget, route: str, key: str) -> None:
        async with aiohttp.ClientSession(engine.url) as session:
            async with session.post(route, json={}, headers={"Authorization": key}) as response:
                assert response.status == 401
                assert "key" in (await response.json())["error"]["message"]

    async def test_answers_with_ids_logprobs_text_and_usage(self, client: EngineClient) -> None:
        candidate = await client.one(max_tokens=12, seed=1)
        assert candidate.finish_reason in ("length", "stop")
        assert 1 <= len(candidate.ids) <= 12
        logprobs, model_logprobs = candidate.joined("logprobs"), candidate.joined("model_logprobs")
        assert len(logprobs) == len(model_logprobs) == len(candidate.ids)
        assert all(logprob <= 0 for logprob in logprobs)
        assert logprobs == pytest.approx(model_logprobs, abs=1e-6)
        assert candidate.usage["prompt_tokens"] == len(PROMPT)
        assert candidate.usage["completion_tokens"] == len(candidate.ids)
        assert all(event["finish_reason"] is None for event in candidate.events[:-1])
        assert all("usage" not in event for event in candidate.events[:-1])

    async def test_the_stream_says_the_same_as_the_whole(self, client: EngineClient) -> None:
        streamed = await client.one(seed=5, max_tokens=40)
        whole = await client.one(seed=5, max_tokens=40, stream=False)
        assert len(streamed.events) > 1
        assert len(whole.events) == 1
        assert (whole.ids, whole.text, whole.finish_reason) == (streamed.ids, streamed.text, streamed.finish_reason)

    async def test_greedy_takes_the_likeliest_token(self, client: EngineClient) -> None:
        candidate = await client.one(temperature=0, top_logprobs=3)
        for token_id, logprob, top in zip(
            candidate.ids, candidate.joined("logprobs"), candidate.joined("top_logprobs"), strict=True
        ):
            assert len(top) == 3
            assert top[0][0] == token_id
            assert top[0][1] == pytest.approx(logprob, abs=1e-6)
            assert top[0][1] >= top[1][1] >= top[2][1]
        assert candidate.joined("logprobs") == candidate.joined("model_logprobs")

    async def test_score_agrees_with_what_was_recorded(self, engine: EngineTarget, client: EngineClient) -> None:
        candidate = await client.one(seed=3, temperature=0.7)
        ids = [*PROMPT, *candidate.ids]
        scored = (await client.call("POST", "/score", {"token_ids": ids}))["logprobs"]
        assert len(scored) == len(ids) - 1
        assert scored[len(PROMPT) - 1 :] == pytest.approx(candidate.joined("model_logprobs"), abs=engine.tolerance)
        assert candidate.joined("logprobs") != pytest.approx(candidate.joined("model_logprobs"), abs=1e-3)

    async def test_temperature_reshapes_the_recorded_distribution(self, client: EngineClient) -> None:
        """Both log-probabilities of a token come from the same logits: log p_T = log p / T - log sum exp(log p / T)."""
        seen: dict[int, tuple[float, float]] = {}
        for seed in range(60):
            candidate = await client.one(seed=seed, temperature=0.5, max_tokens=1)
            seen[candidate.ids[0]] = candidate.joined("logprobs")[0], candidate.joined("model_logprobs")[0]
        assert len(seen) > 3
        constants = [at_temperature - model / 0.5 for at_temperature, model in seen.values()]
        assert max(constants) - min(constants) < 1e-3

    async def test_a_seed_fixes_the_answer_and_candidates_differ(self, client: EngineClient) -> None:
        first = await client.generate(seed=11, n=4)
        again = await client.generate(seed=11, n=4)
        other = await client.generate(seed=12, n=4)
        assert [c.ids for c in first] == [c.ids for c in again]
        assert [c.ids for c in first] != [c.ids for c in other]
        assert len({tuple(c.ids) for c in first}) == 4

    async def test_without_a_seed_answers_differ(self, client: EngineClient) -> None:
        assert (await client.one()).ids != (await client.one()).ids

    async def test_top_k_of_one_is_greedy(self, client: EngineClient) -> None:
        greedy = await client.one(temperature=0)
        assert (await client.one(temperature=1.0, top_k=1, seed=1)).ids == greedy.ids
        assert (await client.one(temperature=1.0, top_p=1e-6, seed=1)).ids == greedy.ids

    async def test_candidates_of_a_request_share_its_prompt(self, client: EngineClient) -> None:
        if "shared_prefill" not in (await client.call("GET", "/info"))["capabilities"]:
            pytest.skip("this engine does not claim shared_prefill")
        prompt = [30, 31, 32, 33, 34, 35, 36]
        calls = [client.generate(prompt_ids=prompt, n=2, seed=seed) for seed in range(6)]
        cached = [[c.usage["cached_tokens"] for c in candidates] for candidates in await asyncio.gather(*calls)]
        assert sorted(cached) == [[0, 0], *[[7, 7]] * 5]

    async def test_a_stop_string_cuts_the_text_but_not_the_ids(self, client: EngineClient) -> None:
        seed, whole, stop = await self._text_with_a_plain_stretch(client)
        for stream in (True, False):
            cut = await client.one(seed=seed, max_tokens=60, stop=["never there", stop], stream=stream)
            assert cut.finish_reason == "stop"
            assert cut.text == whole.text[: whole.text.index(stop)]
            assert cut.ids == whole.ids[: len(cut.ids)]
            assert len(cut.ids) < len(whole.ids)

    async def test_no_event_shows_what_may_become_a_stop_string(self, client: EngineClient) -> None:
        seed, whole, stretch = await self._text_with_a_plain_stretch(client)
        almost = stretch + "never there"
        held = await client.one(seed=seed, max_tokens=60, stop=[almost])
        assert held.text == whole.text
        shown = ""
        for event in held.events[:-1]:
            shown += event["text"]
            assert not shown.endswith(stretch)

    async def _text_with_a_plain_stretch(self, client: EngineClient) -> tuple[int, Candidate, str]:
        """A seed, its answer, and three whole characters from the first half of the answer's text."""
        for seed in range(40):
            candidate = await client.one(seed=seed, max_tokens=60)
            stretch = re.search("[^\ufffd]{3}", candidate.text[3:30], re.DOTALL)
            if stretch and candidate.finish_reason == "length" and len(candidate.text) > 40:
                return seed, candidate, stretch[0]
        raise AssertionError("no answer with three whole characters in 40 tries")

    async def test_max_tokens_is_cut_to_the_context(self, client: EngineClient) -> None:
        context = (await client.call("GET", "/info"))["context_length"]
        prompt = [20 + i % 50 for i in range(context - 3)]
        for seed in range(5):
            candidate = await client.one(prompt_ids=prompt, max_tokens=100, seed=seed, stream=False)
            assert len(candidate.ids) == 3 or candidate.finish_reason == "stop"
        with pytest.raises(EngineRefused) as refused:
            await client.one(prompt_ids=[20] * context)
        assert refused.value.status == 400
        assert refused.value.message.count(str(context)) >= 2

    @pytest.mark.parametrize(
        "wrong",
        [
            {"prompt_ids": []},
            {"prompt_ids": [20, -1]},
            {"prompt_ids": [20, 10**9]},
            {"prompt_ids": [20, "21"]},
            {"prompt_ids": [20, True]},
            {"prompt_ids": "hello"},
            {"n": 0},
            {"n": 1.5},
            {"max_tokens": 0},
            {"max_tokens": None},
            {"temperature": -0.1},
            {"temperature": 1e-5},
            {"temperature": "hot"},
            {"temperature": math.inf},
            {"top_p": 0},
            {"top_p": 1.1},
            {"top_k": -1},
            {"stop": "x"},
            {"stop": [""]},
            {"seed": -1},
            {"seed": 2**64},
            {"top_logprobs": 6},
            {"model": 3},
            {"unknown": 1},
        ],
    )
    async def test_refuses_what_is_not_valid(self, client: EngineClient, wrong: dict[str, object]) -> None:
        with pytest.raises(EngineRefused) as refused:
            await client.one(**wrong)
        assert refused.value.status == 400
        assert refused.value.code == "INVALID_ARGUMENT"
        assert next(iter(wrong)) in refused.value.message

    async def test_the_largest_seed_is_fine(self, client: EngineClient) -> None:
        assert (await client.one(seed=2**64 - 1, max_tokens=2)).ids

    async def test_a_broken_body_is_refused(self, client: EngineClient) -> None:
        async with client.session.post("/generate", data=b'{"prompt_ids": [1') as response:
            assert response.status == 400

    async def test_an_adapter_is_loaded_by_name_with_its_hash(self, engine: EngineTarget, client: EngineClient) -> None:
        first, second = engine.adapters
        sha256 = hashlib.sha256((first / "adapter_model.safetensors").read_bytes()).hexdigest()
        base = await client.one(temperature=0)
        try:
            for _ in range(2):  # the same name and file again is fine
                loaded = await client.call("POST", "/load", {"name": "job-v1", "path": str(first)})
                assert loaded == {"name": "job-v1", "sha256": sha256}
            await client.call("POST", "/load", {"name": "job-v2", "path": str(second)})
            listed = (await client.call("GET", "/info"))["adapters"]
            assert {"name": "job-v1", "sha256": sha256} in listed
            assert len(listed) == 2
            answers = [await client.one(temperature=0, model=name) for name in (None, "job-v1", "job-v2")]
            assert answers[0].joined("logprobs") == pytest.approx(base.joined("logprobs"), abs=1e-5)
            assert len({tuple(answer.joined("logprobs")) for answer in answers}) == 3
            with pytest.raises(EngineRefused) as refused:
                await client.call("POST", "/load", {"name": "job-v1", "path": str(second)})
            assert refused.value.status == 409
            assert sha256 in refused.value.message
        finally:
            for name in ("job-v1", "job-v2"):
                await client.call("POST", "/unload", {"name": name})
        with pytest.raises(EngineRefused) as refused:
            await client.one(model="job-v1")
        assert (refused.value.status, refused.value.code) == (404, "adapter_not_loaded")

    async def test_score_takes_an_adapter(self, engine: EngineTarget, client: EngineClient, loaded: str) -> None:
        candidate = await client.one(model=loaded, seed=1)
        ids = [*PROMPT, *candidate.ids]
        scored = (await client.call("POST", "/score", {"model": loaded, "token_ids": ids}))["logprobs"]
        assert scored[len(PROMPT) - 1 :] == pytest.approx(candidate.joined("model_logprobs"), abs=engine.tolerance)
        base = (await client.call("POST", "/score", {"token_ids": ids}))["logprobs"]
        assert base != pytest.approx(scored, abs=1e-3)

    @pytest.mark.parametrize("route", ["/generate", "/score", "/unload"])
    async def test_an_unknown_adapter_is_404(self, client: EngineClient, route: str) -> None:
        bodies = {
            "/generate": {"model": "job-v9", "prompt_ids": PROMPT, "max_tokens": 1},
            "/score": {"model": "job-v9", "token_ids": PROMPT},
            "/unload": {"name": "job-v9"},
        }
        with pytest.raises(EngineRefused) as refused:
            await client.call("POST", route, bodies[route])
        assert (refused.value.status, refused.value.code) == (404, "adapter_not_loaded")
        assert "job-v9" in refused.value.message

    async def test_an_adapter_that_does_not_fit_is_refused(
        self, engine: EngineTarget, client: EngineClient, tmp_path: Path
    ) -> None:
        for path in (engine.misfit, tmp_path, tmp_path / "nowhere"):
            with pytest.raises(EngineRefused) as refused:
                await client.call("POST", "/load", {"name": "misfit", "path": str(path)})
            assert refused.value.status == 400
            assert str(path) in refused.value.message
        assert (await client.call("GET", "/info"))["adapters"] == []

    @pytest.mark.parametrize("ids", [[], [20], [20, 10**9], [20, "21"]])
    async def test_score_refuses_what_is_not_valid(self, client: EngineClient, ids: list[object]) -> None:
        with pytest.raises(EngineRefused) as refused:
            await client.call("POST", "/score", {"token_ids": ids})
        assert refused.value.status == 400

    async def test_abort_ends_every_candidate(self, client: EngineClient) -> None:
        reasons: dict[int, str] = {}
        aborted = False
        async for event in client.events(
            request_id="to-abort", prompt_ids=PROMPT, max_tokens=1000, n=16, temperature=HOT, seed=1
        ):
            if not aborted:
                aborted = True
                assert await client.call("POST", "/abort", {"request_id": "to-abort"}) == {}
            if event["finish_reason"]:
                reasons[event["index"]] = event["finish_reason"]
        assert sorted(reasons) == list(range(16))
        assert "abort" in reasons.values()
        assert await client.call("POST", "/abort", {"request_id": "to-abort"}) == {}

    async def test_a_request_id_is_unique_while_it_runs(self, client: EngineClient) -> None:
        refused = None
        async for _ in client.events(request_id="twice", prompt_ids=PROMPT, max_tokens=1000, n=16, temperature=HOT):
            if refused is None:
                with pytest.raises(EngineRefused) as refused:
                    await client.one(request_id="twice")
                await client.call("POST", "/abort", {"request_id": "twice"})
        assert refused is not None
        assert refused.value.status == 409
        assert (await client.one(request_id="twice")).ids

    async def test_unload_lets_running_requests_end(self, engine: EngineTarget, client: EngineClient) -> None:
        await client.call("POST", "/load", {"name": "job-v3", "path": str(engine.adapters[0])})
        expected = await client.generate(model="job-v3", seed=2, max_tokens=100, n=2)
        found: dict[int, Candidate] = {}
        unloaded = False
        async for event in client.events(
            model="job-v3", prompt_ids=PROMPT, seed=2, max_tokens=100, n=2, temperature=1.0
        ):
            if not unloaded:
                unloaded = True
                await client.call("POST", "/unload", {"name": "job-v3"})
            found.setdefault(event["index"], Candidate()).events.append(event)
        assert [found[index].ids for index in sorted(found)] == [candidate.ids for candidate in expected]

    async def test_many_requests_at_once(self, client: EngineClient) -> None:
        expected = [await client.one(prompt_ids=[20 + i, 25], seed=i, max_tokens=5) for i in range(4)]
        at_once = await asyncio.gather(
            *(client.one(prompt_ids=[20 + i % 4, 25], seed=i % 4, max_tokens=5) for i in range(40))
        )
        for i, candidate in enumerate(at_once):
            assert len(candidate.ids) == len(expected[i % 4].ids)
