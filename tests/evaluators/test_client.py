"""What is taken from an evaluator host, in which the evaluator's own code runs: answers to what was asked, each once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tunesmith.errors import FailedPrecondition, Unavailable
from tunesmith.evaluators.client import HostClient

ATTEMPTS = [{"row_index": index, "k": 0, "attempt": 0, "rollout_id": f"r{index}", "row": {}} for index in range(3)]


def event(index: Any, **fields: Any) -> dict[str, Any]:
    verdict = {"score": 0.5, "is_score_valid": True, "reason": "fine"}
    place = {"row_index": index, "k": 0, "attempt": 0, "rollout_id": f"r{index}"}
    return {"type": "rollout", **place, "row": {"n": index}, **verdict, **fields}


@asynccontextmanager
async def host(tmp_path: Path, *says: dict[str, Any]) -> AsyncIterator[HostClient]:
    """A host that says this to every request."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        for one in says:
            writer.write(json.dumps(one).encode() + b"\n")
        await writer.drain()
        writer.close()

    path = tmp_path / "host.sock"
    async with await asyncio.start_unix_server(serve, path):
        yield HostClient(path)


async def answers(client: HostClient) -> list[dict[str, Any]]:
    # a generator: attempts need not be there before they are sent
    asked = client.run((each for each in ATTEMPTS), invocation_id="i", completion_params={}, max_concurrent_rollouts=1)
    return [answer async for answer in asked]


async def test_what_was_not_asked_for_and_what_was_answered_already_is_left_out(tmp_path: Path) -> None:
    hostile = [
        event(7),
        event(0, k=3),
        event("0"),
        event(None),
        event(True),
        {"type": "rollout"},
        event(1, score=1.0),
        {"type": "x"},
    ]
    async with host(tmp_path, event(0), event(1), *hostile, event(2), {"type": "done"}) as client:
        assert await answers(client) == [event(0), event(1), event(2)]


async def test_a_score_that_is_not_said_to_be_valid_is_none(tmp_path: Path) -> None:
    odd = [event(0, is_score_valid="yes"), event(1, score=True), event(2, is_score_valid=False, reason=None)]
    async with host(tmp_path, *odd, {"type": "done"}) as client:
        found = [(each["score"], each["is_score_valid"], each["reason"]) for each in await answers(client)]
    assert found == [(None, False, "fine"), (None, False, "fine"), (None, False, "")]


async def test_what_another_answer_stands_for_is_asked_again(tmp_path: Path) -> None:
    async with host(tmp_path, event(0), event(0), event(9), {"type": "done"}) as client:
        with pytest.raises(Unavailable, match="left 2 rollouts of i unanswered"):
            await answers(client)


@pytest.mark.parametrize("fields", [{"row": None}, {"row": []}, {"rollout_id": None}])
async def test_an_answer_without_its_row_is_refused(tmp_path: Path, fields: dict[str, Any]) -> None:
    async with host(tmp_path, event(0, **fields)) as client:
        with pytest.raises(FailedPrecondition, match="answered for row 0 without a row or a rollout id"):
            await answers(client)


@pytest.mark.parametrize("name", ["execution_metadata", "rollout_status"])
async def test_a_row_whose_fields_are_no_objects_is_refused(tmp_path: Path, name: str) -> None:
    async with host(tmp_path, event(0, row={name: [1]})) as client:
        with pytest.raises(FailedPrecondition, match=f"answered for row 0 with a row whose {name} is no object"):
            await answers(client)


@pytest.mark.parametrize("other", ["../gateway?x=", "r1", "r0-t2/..", "r0-t2\n", "r0-t", ""])
async def test_an_answer_under_another_rollouts_id_is_its_own_without_a_score(tmp_path: Path, other: str) -> None:
    renamed = [event(0, rollout_id=other), event(1, rollout_id="r1-t3"), event(2), {"type": "done"}]
    async with host(tmp_path, *renamed) as client:
        first, *others = await answers(client)
    assert others == renamed[1:3], "a new try of the same is fine"
    assert (first["rollout_id"], first["score"], first["is_score_valid"]) == ("r0", None, False)
    assert f"answered for rollout {other!r} instead of r0" in first["reason"]
