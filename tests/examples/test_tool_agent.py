"""The tool agent: its tools, its rows, its judge, and its loop against a scripted model endpoint."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from openai import AsyncOpenAI

from examples.tool_agent.evaluator.scoring import judge, stated_answer
from examples.tool_agent.server.agent import TURNS, work
from examples.tool_agent.server.shop import ITEMS, entry, shop_named_in
from examples.tool_agent.server.tools import TOOLS, ToolError, calculate, run_tool
from scripts.make_tool_agent_example import FILES, draw, row
from scripts.tiny_model.tools import episodes
from scripts.tiny_model.tools.questions import Part, part_of

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/tool_agent"
SHOP = 4711


def call(name: str, arguments: str, id: str = "call_1") -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def tool(content: str) -> dict[str, Any]:
    return {"role": "tool", "content": content}


def listed(item: str) -> dict[str, Any]:
    found = entry(SHOP, item)
    assert found
    return {"item": item, "price": found.price, "stock": found.stock}


# Tools


def test_lookup_gives_the_shops_own_entry() -> None:
    assert json.loads(run_tool(SHOP, "lookup", '{"item": "lamp"}')) == listed("lamp")
    assert run_tool(SHOP, "lookup", '{"item": "lamp"}') != run_tool(SHOP + 1, "lookup", '{"item": "lamp"}')
    assert all(2 <= listed(item)["price"] <= 60 and 10 <= listed(item)["stock"] <= 90 for item in ITEMS)


@pytest.mark.parametrize(
    ("expression", "result"),
    [("3*12+4", 40), ("3 * (12 + 4)", 48), ("7/2", 3.5), ("6/3", 2), ("-5+2", -3), ("1/3", 0.333333), ("0.5*4", 2)],
)
def test_the_calculator_works_out_sums(expression: str, result: float) -> None:
    assert calculate(expression) == result
    assert json.loads(run_tool(SHOP, "calculator", json.dumps({"expression": expression}))) == {"result": result}


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("2**99", "not a sum"),
        ("__import__('os')", "not a sum"),
        ("x+1", "not a sum"),
        ("True+1", "not a sum"),
        ("3*", "not a sum"),
        ("", "not a sum"),
        ("1\x00", "not a sum"),
        ("(" * 90 + "1", "not a sum"),
        ("1/0", "division by zero"),
        ("1e999", "number too large"),
        ("1e999-1e999", "number too large"),
        ("999999999*999999999", "number too large"),
        ("1+" * 60 + "1", "expression too long"),
    ],
)
def test_the_calculator_refuses_everything_else(expression: str, reason: str) -> None:
    with pytest.raises(ToolError, match=reason):
        calculate(expression)


@pytest.mark.parametrize(
    ("name", "arguments", "error"),
    [
        ("lookup", '{"item": "unicorn"}', "no such item"),
        ("lookup", '{"name": "lamp"}', "lookup takes item"),
        ("lookup", '{"item": "lamp", "more": 1}', "lookup takes item"),
        ("lookup", '{"item": 3}', "lookup takes item"),
        ("lookup", '["lamp"]', "lookup takes item"),
        ("lookup", "", "lookup takes item"),
        ("lookup", '{"item": ', "arguments are not JSON"),
        ("calculator", '{"sum": "1+1"}', "calculator takes expression"),
        ("search", '{"item": "lamp"}', "no such tool"),
    ],
)
def test_a_bad_call_is_answered_not_raised(name: str, arguments: str, error: str) -> None:
    assert json.loads(run_tool(SHOP, name, arguments)) == {"error": error}


@pytest.mark.parametrize(
    ("text", "shop"),
    [("Shop 4711: How much?", 4711), ("in shop 1000", 1000), ("Shop 47110", None), ("Shop 0999", None), ("none", None)],
)
def test_the_shop_is_read_from_the_question(text: str, shop: int | None) -> None:
    assert shop_named_in(text) == shop


# Rows


@pytest.mark.parametrize("name", list(FILES))
def test_rows_are_those_of_the_generator_and_hold_no_answer_in_the_prompt(name: str) -> None:
    part, count = FILES[name]
    rows = [json.loads(line) for line in (EXAMPLE / name).read_text().splitlines()]
    items = draw(part, count)
    assert rows == [row(item) for item in items]
    assert len({one["messages"][-1]["content"] for one in rows}) == count
    for item, one in zip(items, rows, strict=True):
        assert set(one) == {"messages", "ground_truth"}
        assert [message["role"] for message in one["messages"]] == ["system", "user"]
        shop = shop_named_in(one["messages"][-1]["content"])
        assert shop == item.shop
        assert part_of(item.shop) is part
        results = [run_tool(item.shop, "lookup", json.dumps({"item": i})) for i in one["ground_truth"]["items"]]
        assert all("error" not in json.loads(result) for result in results)
        assert calculate(item.expression) == one["ground_truth"]["answer"]
    assert Part.PRETRAIN not in {part for part, _ in FILES.values()}


# Judge


def test_the_judge_gives_full_partial_and_no_credit() -> None:
    lamp, chair = tool(json.dumps(listed("lamp"))), tool(json.dumps(listed("chair")))
    sum_ = tool('{"result": 7}')
    asked = {"role": "user", "content": "?"}

    def says(text: str | None) -> dict[str, Any]:
        return {"role": "assistant", "content": text}

    def score(*messages: dict[str, Any]) -> float:
        return judge([asked, *messages], 7, ["lamp", "chair"]).score

    assert score(lamp, chair, sum_, says("Answer: 7")) == 1.0
    assert score(lamp, chair, says("Answer: 7")) == 1.0
    assert score(lamp, chair, says("So it is 7.\nAnswer: 7\n")) == 1.0
    assert score(lamp, chair, sum_, says("Answer: 8")) == 0.2
    assert score(lamp, chair, sum_, says("7")) == 0.2
    assert score(lamp, chair, sum_, says("Answer: 7 or 8")) == 0.2
    assert score(lamp, chair, sum_) == 0.2
    assert score(lamp, says("Answer: 7")) == 0.0
    assert score(says("Answer: 7")) == 0.0
    assert score(lamp, tool('{"error": "no such item"}'), says("Answer: 7")) == 0.0
    assert score(lamp, says(json.dumps(listed("chair"))), says("Answer: 7")) == 0.0  # only tools' results count
    assert stated_answer([]) is None
    assert stated_answer([{**says("Answer: 7"), "tool_calls": [call("lookup", "{}")]}]) is None
    assert stated_answer([says(None)]) is None


# The loop


Turn = dict[str, Any]


@asynccontextmanager
async def endpoint(turns: Callable[[int], Turn]) -> AsyncIterator[tuple[AsyncOpenAI, list[dict[str, Any]]]]:
    """A chat completions endpoint whose answer number n is `turns(n)`; and the requests that it got."""
    requests: list[dict[str, Any]] = []

    async def complete(request: web.Request) -> web.Response:
        requests.append(await request.json())
        message = {"role": "assistant", "content": None, **turns(len(requests) - 1)}
        choice = {"index": 0, "finish_reason": "tool_calls" if "tool_calls" in message else "stop", "message": message}
        body = {"id": "c", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
        return web.json_response(body)

    app = web.Application()
    app.router.add_post("/chat/completions", complete)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    async with AsyncOpenAI(base_url=f"http://{host}:{port}", api_key="k", max_retries=0) as client:
        yield client, requests
    await runner.cleanup()


QUESTION = [{"role": "user", "content": "Shop 4711: What do 2 lamps and 3 chairs cost together?"}]


async def test_parallel_calls_get_a_result_each_and_the_answer_ends_the_work() -> None:
    lookups = [call("lookup", '{"item": "lamp"}', "a"), call("lookup", '{"item": "chair"}', "b")]
    total = 2 * listed("lamp")["price"] + 3 * listed("chair")["price"]
    expression = f"2*{listed('lamp')['price']}+3*{listed('chair')['price']}"
    turns = [
        {"tool_calls": lookups},
        {"tool_calls": [call("calculator", json.dumps({"expression": expression}), "c")]},
        {"content": f"Answer: {total}"},
    ]
    async with endpoint(lambda n: turns[n]) as (client, requests):
        conversation = await work(client, "policy", QUESTION, SHOP, {"temperature": 0.5, "max_tokens": 64})
    assert len(requests) == 3
    assert all(
        r["tools"] == TOOLS and r["model"] == "policy" and r["temperature"] == 0.5 and r["max_tokens"] == 64
        for r in requests
    )
    assert requests[2]["messages"] == conversation[:-1]
    assert conversation[1] == {"role": "assistant", "tool_calls": lookups}
    assert [(m["tool_call_id"], json.loads(m["content"])) for m in conversation if m["role"] == "tool"] == [
        ("a", listed("lamp")),
        ("b", listed("chair")),
        ("c", {"result": total}),
    ]
    assert judge(conversation, total, ["lamp", "chair"]).score == 1.0


async def test_bad_calls_come_back_to_the_model_as_errors() -> None:
    bad = [call("lookup", '{"item": ', "a"), call("fly", "{}", "b"), call("lookup", '{"name": "lamp"}', "c")]
    turns = [{"tool_calls": bad}, {"content": "Answer: 1"}]
    async with endpoint(lambda n: turns[n]) as (client, requests):
        await work(client, "policy", QUESTION, SHOP, {})
    errors = [json.loads(m["content"])["error"] for m in requests[1]["messages"] if m["role"] == "tool"]
    assert errors == ["arguments are not JSON", "no such tool", "lookup takes item"]
    assert requests[1]["messages"][1]["tool_calls"] == bad  # word for word, so that the gateway can continue the turn


async def test_the_agent_gives_up_after_its_turn_limit() -> None:
    async with endpoint(lambda n: {"tool_calls": [call("lookup", '{"item": "lamp"}', f"call_{n}")]}) as (
        client,
        requests,
    ):
        conversation = await work(client, "policy", QUESTION, SHOP, {})
    assert len(requests) == TURNS == episodes.TURNS
    assert conversation[-1]["role"] == "tool"
    assert judge(conversation, 5, ["lamp"]).score == 0.2
