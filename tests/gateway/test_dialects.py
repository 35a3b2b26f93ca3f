"""One conversation in three dialects: the ids that are recorded do not depend on the dialect, on streaming, or on the five ids."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Protocol

import pytest
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI
from tunesmith.db.completions import Completion
from tunesmith.gateway import GatewayState

from tests.fakes.model_folder import TEMPLATE
from tests.gateway.conftest import FIVE, Gateway, serve

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "required": ["a", "b"]}
ADD = {"name": "add", "description": "Adds two numbers.", "parameters": SCHEMA}
TURNS = [
    'Let me. <tool_call>{"name": "add", "arguments": {"a": 1, "b": 2}}</tool_call>\n'
    '<tool_call>{"name": "add", "arguments": {"b":3,  "a": 4}}</tool_call>',
    '<tool_call>{"name": "add", "arguments": {"a": 3, "b": 7}}</tool_call>',
    "It is ten.",
    "You are welcome.",
]
"""What the model says. Between the first three come the results of its calls, before the last one the user's thanks."""
RESULTS = [["3", "7"], ["10"]]


@pytest.fixture
def context_length() -> int:
    """Room for the whole conversation, a token a byte."""
    return 4096


class Agent(Protocol):
    """Speaks one dialect and keeps the conversation in it."""

    client: Any

    async def turn(self) -> int:
        """Make a call; returns how many tools the model called."""
        ...

    def results(self, texts: list[str]) -> None:
        """Answer the tools of the last turn."""
        ...

    def say(self, text: str) -> None:
        """Add a user message."""
        ...


class ChatAgent:
    def __init__(self, client: AsyncOpenAI, model: str, streamed: bool) -> None:
        self.client, self.model, self.streamed = client, model, streamed
        self.messages: list[Any] = [{"role": "system", "content": "Use tools."}]

    async def turn(self) -> int:
        call: Any = {"model": self.model, "messages": self.messages, "max_tokens": 300, "temperature": 0.5}
        call["tools"] = [{"type": "function", "function": {**ADD, "strict": True}}]
        if self.streamed:
            async with self.client.chat.completions.stream(**call) as stream:
                message: Any = (await stream.get_final_completion()).choices[0].message
        else:
            message = (await self.client.chat.completions.create(**call)).choices[0].message
        self.calls = [call.id for call in message.tool_calls or []]
        kept = message.model_dump()  # with all its nulls, as agents send it back
        for tool_call in kept.get("tool_calls") or []:
            tool_call["function"].pop("parsed_arguments", None)
        kept.pop("parsed", None)
        self.messages.append(kept)
        return len(self.calls)

    def results(self, texts: list[str]) -> None:
        for id, text in zip(self.calls, texts, strict=True):
            self.messages.append({"role": "tool", "tool_call_id": id, "content": [{"type": "text", "text": text}]})

    def say(self, text: str) -> None:
        self.messages.append({"role": "user", "content": text, "name": None})


class ResponsesAgent:
    def __init__(self, client: AsyncOpenAI, model: str, streamed: bool, by_id: bool) -> None:
        self.client, self.model, self.streamed, self.by_id = client, model, streamed, by_id
        self.items: list[Any] = []
        self.previous: str | None = None

    async def turn(self) -> int:
        call: Any = {"model": self.model, "input": self.items, "instructions": "Use tools.", "max_output_tokens": 300}
        call |= {"tools": [{"type": "function", **ADD, "strict": True}], "temperature": 0.5}
        if self.by_id and self.previous:
            call["previous_response_id"] = self.previous
        if self.streamed:
            async with self.client.responses.stream(**call) as stream:
                response: Any = await stream.get_final_response()
        else:
            response = await self.client.responses.create(**call)
        self.previous = response.id
        self.calls = [item.call_id for item in response.output if item.type == "function_call"]
        self.items = [] if self.by_id else [*self.items, *[item.model_dump() for item in response.output]]
        return len(self.calls)

    def results(self, texts: list[str]) -> None:
        for id, text in zip(self.calls, texts, strict=True):
            self.items.append({"type": "function_call_output", "call_id": id, "output": text})

    def say(self, text: str) -> None:
        self.items.append({"role": "user", "content": text})


class MessagesAgent:
    def __init__(self, client: AsyncAnthropic, model: str, streamed: bool) -> None:
        self.client, self.model, self.streamed = client, model, streamed
        self.messages: list[Any] = []

    async def turn(self) -> int:
        tool = {"name": ADD["name"], "description": ADD["description"], "input_schema": SCHEMA}
        call: Any = {"model": self.model, "messages": self.messages, "system": "Use tools.", "max_tokens": 300}
        call |= {"tools": [tool], "extra_body": {"temperature": 0.5}}
        if self.streamed:
            async with self.client.messages.stream(**call) as stream:
                message = await stream.get_final_message()
        else:
            message = await self.client.messages.create(**call)
        self.calls = [block.id for block in message.content if block.type == "tool_use"]
        self.messages.append({"role": "assistant", "content": [block.model_dump() for block in message.content]})
        return len(self.calls)

    def results(self, texts: list[str]) -> None:
        blocks = [
            {"type": "tool_result", "tool_use_id": id, "content": text}
            for id, text in zip(self.calls, texts, strict=True)
        ]
        self.messages.append({"role": "user", "content": blocks})

    def say(self, text: str) -> None:
        self.messages.append({"role": "user", "content": text})


async def _agent(
    gateway: Gateway, dialect: str, path: str, clients: contextlib.AsyncExitStack, streamed: bool = False
) -> Agent:
    """An agent of a dialect; its client is closed with `clients`."""
    key, base = gateway.keys["account"], f"{gateway.url}{path}"
    if dialect == "messages":
        anthropic = await clients.enter_async_context(AsyncAnthropic(api_key=key, base_url=base))
        return MessagesAgent(anthropic, gateway.base, streamed)
    openai = await clients.enter_async_context(AsyncOpenAI(api_key=key, base_url=base))
    if dialect == "chat":
        return ChatAgent(openai, gateway.base, streamed)
    return ResponsesAgent(openai, gateway.base, streamed, by_id=dialect == "responses by id")


async def converse(gateway: Gateway, dialect: str, streamed: bool, path: str) -> list[Completion]:
    """Drive the conversation in a dialect; returns what was recorded of it, in order."""
    before = set(await _ids(gateway))
    async with contextlib.AsyncExitStack() as clients:
        agent = await _agent(gateway, dialect, path, clients, streamed)
        agent.say("What is 1 + 2 + 4 + 3?")
        for number, answer in enumerate(TURNS):
            gateway.engine.answers.append(answer)
            called = await agent.turn()
            if number < len(RESULTS):
                assert called == len(RESULTS[number])
                agent.results(RESULTS[number])
            else:
                agent.say("Thanks!")
    return [completion for id, completion in (await _ids(gateway)).items() if id not in before]


async def _ids(gateway: Gateway) -> dict[str, Completion]:
    """Everything recorded so far, by id, in order of time."""
    with gateway.state.store.file.sessions() as session:
        found = session.connection().exec_driver_sql("select id from completions order by created_at").scalars().all()
    read = [gateway.state.store.get(id, "accounts/local") for id in found]
    return {completion.id: completion for completion in read if completion is not None}


@pytest.mark.parametrize("five", [True, False], ids=["five ids", "plain"])
async def test_every_dialect_records_the_same_ids(gateway: Gateway, five: bool) -> None:
    recorded: dict[tuple[str, bool], list[Completion]] = {}
    for dialect in ("chat", "responses", "responses by id", "messages"):
        for streamed in (False, True):
            rollout = f"{dialect}-{streamed}".replace(" ", "-")
            path = "/" + FIVE.format(r=rollout) if five else "/v1" * (dialect != "messages")
            recorded[dialect, streamed] = await converse(gateway, dialect, streamed, path)

    reference = recorded["chat", False]
    assert [completion.message.get("content") for completion in reference] == ["Let me.", None, *TURNS[2:]]
    for way, turns in recorded.items():
        assert [turn.prompt_ids for turn in turns] == [turn.prompt_ids for turn in reference], way
        assert [turn.sampled_ids for turn in turns] == [turn.sampled_ids for turn in reference], way
        assert [turn.logprobs for turn in turns] == [turn.logprobs for turn in reference], way
        assert [_spoken(turn) for turn in turns] == [_spoken(turn) for turn in reference], way
        assert {turn.params["dialect"] for turn in turns} == {way[0].split()[0]}
        assert [turn.turn for turn in turns] == ([0, 1, 2, 3] if five else [0] * 4)
    if five:  # each turn begins with what the one before was sampled from and as
        for earlier, later in zip(reference, reference[1:], strict=False):
            known = earlier.prompt_ids + earlier.sampled_ids
            assert later.prompt_ids[: len(known)] == known


@pytest.mark.parametrize("dialect", ["chat", "responses", "responses by id", "messages"])
async def test_a_conversation_goes_on_after_a_restart(gateway: Gateway, dialect: str) -> None:
    """The new process knows the turns from their records alone, whatever dialect they were recorded in."""
    path, answers = "/" + FIVE.format(r="r"), TURNS[:2]
    gateway.engine.answers.append(answers[0])
    async with contextlib.AsyncExitStack() as clients:
        agent = await _agent(gateway, dialect, path, clients)
        agent.say("What is 1 + 2 + 4 + 3?")
        assert await agent.turn() == 2
        agent.results(RESULTS[0])

        state = GatewayState(gateway.state.settings)
        server, task, url = await serve(state)
        try:
            agent.client = agent.client.with_options(base_url=url + path)
            gateway.engine.answers.append(answers[1])
            assert await agent.turn() == 1
            one, two = state.store.of_rollout("r")
        finally:
            server.should_exit = True
            await task
    known = one.prompt_ids + one.sampled_ids
    assert (two.turn, two.prompt_ids[: len(known)]) == (1, known)


async def test_the_three_dialects_can_take_turns_in_one_rollout(gateway: Gateway) -> None:
    """An agent whose parts were written with different SDKs: what one was answered, another may send."""
    path = "/" + FIVE.format(r="r")
    gateway.engine.answers.append("One.")
    chat: list[Any] = [{"role": "user", "content": "a"}]
    body: dict[str, Any] = {"model": gateway.base, "messages": chat}
    await gateway.call("POST", f"{path}/chat/completions", json=body)
    items = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "One."},
        {"role": "user", "content": "b"},
    ]
    await gateway.call("POST", f"{path}/responses", json={"model": gateway.base, "input": items})
    blocks = [*items, {"role": "assistant", "content": "One."}, {"role": "user", "content": "c"}]
    await gateway.call("POST", f"{path}/messages", json={"model": gateway.base, "max_tokens": 9, "messages": blocks})
    recorded = gateway.state.store.of_rollout("r")
    assert [turn.params["dialect"] for turn in recorded] == ["chat", "responses", "messages"]
    for earlier, later in zip(recorded, recorded[1:], strict=False):
        known = earlier.prompt_ids + earlier.sampled_ids
        assert later.prompt_ids[: len(known)] == known


THINKING = {
    "chat/completions": {"messages": [{"role": "user", "content": "x"}]},
    "responses": {"input": "x"},
    "messages": {"messages": [{"role": "user", "content": "x"}], "max_tokens": 5},
}
SWITCHES: list[tuple[str, dict[str, Any], bool]] = [
    ("chat/completions", {"reasoning_effort": "none"}, False),
    ("chat/completions", {"thinking": {"type": "disabled"}}, False),
    ("chat/completions", {"reasoning_effort": "high"}, True),
    ("chat/completions", {"chat_template_kwargs": {"enable_thinking": False}}, False),
    ("responses", {"reasoning": {"effort": "none", "summary": "auto"}}, False),
    ("responses", {"reasoning": {"effort": "medium"}}, True),
    ("messages", {"thinking": {"type": "disabled"}}, False),
    ("messages", {"thinking": {"type": "enabled", "budget_tokens": 2048}}, True),
    ("messages", {"output_config": {"effort": "low"}}, True),
]


@pytest.mark.parametrize(("route", "fields", "thinks"), SWITCHES)
async def test_reasoning_is_switched_where_the_template_knows_how(
    gateway: Gateway, route: str, fields: dict[str, Any], thinks: bool
) -> None:
    switch = "{% if enable_thinking is defined %}{{ '[on]' if enable_thinking else '[off]' }}{% endif %}"
    (Path(gateway.base) / "chat_template.jinja").write_text(TEMPLATE + switch)
    body = {"model": gateway.base, **THINKING[route]}
    for more, shown in (({}, "]\n"), (fields, "[on]" if thinks else "[off]")):
        answer = await gateway.call("POST", f"/v1/{route}", json={**body, **more})
        assert answer.status == 200, answer.body
        prompt = gateway.engine.tokenizer.decode(gateway.engine.generated[-1]["prompt_ids"])
        assert prompt.endswith(shown)


def _spoken(completion: Completion) -> list[tuple[Any, ...]]:
    """The recorded request in chat form, without the ids of calls."""
    return [
        (message["role"], len(message.get("tool_calls") or []), message.get("content") or "")
        if isinstance(message.get("content"), str | None)
        else (message["role"], 0, "".join(part["text"] for part in message["content"]))
        for message in completion.request["messages"]
    ]
