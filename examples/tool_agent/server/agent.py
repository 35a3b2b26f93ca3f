"""The agent: a loop over chat completions that runs the tool calls until the model answers. The plain OpenAI SDK, nothing of ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from openai import AsyncOpenAI

from .tools import TOOLS, run_tool

TURNS = 6
"""Model calls after which the agent gives up; three are enough."""


async def work(
    client: AsyncOpenAI, model: str, messages: Sequence[dict[str, Any]], shop: int, sampling: dict[str, Any]
) -> list[dict[str, Any]]:
    """Goes on with a conversation until the model says something without a tool call, or `TURNS` are over.

    Args:
        client: Where the model is called.
        model: Its name there.
        messages: The conversation so far.
        shop: Number of the shop whose list `lookup` reads.
        sampling: Parameters of every call (`temperature`, `max_tokens`, ...).

    Returns:
        The whole conversation.
    """
    conversation = [*messages]
    for _ in range(TURNS):
        completion = await client.chat.completions.create(
            model=model, messages=conversation, tools=TOOLS, extra_body=sampling
        )
        message = completion.choices[0].message
        conversation.append(message.model_dump(exclude_none=True))
        if not message.tool_calls:
            break
        for call in message.tool_calls:  # one turn may hold several; each gets its own result
            result = run_tool(shop, call.function.name, call.function.arguments)
            conversation.append({"role": "tool", "tool_call_id": call.id, "content": result})
    return conversation
