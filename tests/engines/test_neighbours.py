"""A candidate's ids and log-probabilities are, bit for bit, those it has alone, whoever else is decoded with it."""

from __future__ import annotations

import asyncio
import random

from tunesmith.engines.wire import NEIGHBOUR_INDEPENDENT_LOGPROBS, NEIGHBOUR_INDEPENDENT_NOISE

from tests.contract.engine import Candidate, EngineClient, EngineTarget

WATCHED = [
    {"prompt_ids": [20, 21, 22], "seed": 1, "max_tokens": 150, "temperature": 0.7, "top_logprobs": 2},
    {"prompt_ids": [40 + i % 9 for i in range(61)], "seed": 2, "max_tokens": 80, "temperature": 1.0, "n": 2},
    {"prompt_ids": [50 + i % 7 for i in range(180)], "seed": 3, "max_tokens": 90, "temperature": 1.3, "top_k": 9},
    {"prompt_ids": [60, 61], "seed": 4, "max_tokens": 60, "temperature": 0, "model": "watched"},
]
"""Short and long, over the borders of slot capacities, with and without an adapter."""


def numbers(candidates: list[Candidate]) -> list[list[object]]:
    """Everything numeric that was sent; JSON carries doubles exactly, so equality here is equality of bits."""
    names = ("token_ids", "logprobs", "model_logprobs")
    return [
        [*(candidate.joined(name) for name in names), [event.get("top_logprobs") for event in candidate.events]]
        for candidate in candidates
    ]


async def test_alone_and_among_thirty_that_come_and_go(engine: EngineTarget) -> None:
    async with EngineClient(engine.url, engine.key) as client:
        capabilities = (await client.call("GET", "/info"))["capabilities"]
        assert NEIGHBOUR_INDEPENDENT_NOISE in capabilities
        assert NEIGHBOUR_INDEPENDENT_LOGPROBS in capabilities, "not on this machine: its matrix library mixes rows"
        for name, path in (("watched", engine.adapters[0]), ("other", engine.adapters[1])):
            await client.call("POST", "/load", {"name": name, "path": str(path)})
        alone = [numbers(await client.generate(stream=False, **request)) for request in WATCHED]
        rng = random.Random(7)

        async def neighbour(number: int) -> None:
            await asyncio.sleep(rng.uniform(0, 0.4))
            await client.generate(
                prompt_ids=[rng.randrange(250) for _ in range(rng.choice([1, 5, 40, 130, 300]))],
                max_tokens=rng.choice([3, 30, 120]),
                temperature=rng.choice([0, 0.7, 1.0]),
                top_p=rng.choice([1.0, 0.8]),
                model=rng.choice([None, None, "watched", "other"]),
                seed=number,
                stream=False,
            )

        for _ in range(2):
            neighbours = [asyncio.create_task(neighbour(number)) for number in range(30)]
            together = await asyncio.gather(*(client.generate(stream=False, **request) for request in WATCHED))
            still_running = sum(not task.done() for task in neighbours)
            await asyncio.gather(*neighbours)
            assert [numbers(candidates) for candidates in together] == alone
            assert still_running < 30, "no neighbour ended while a watched request ran"
        for name in ("watched", "other"):
            await client.call("POST", "/unload", {"name": name})
