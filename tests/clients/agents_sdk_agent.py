"""The tool agent written with the OpenAI Agents SDK: its function tools, its runner, the model class that it picks by itself (Responses).

Run by uvicorn in an environment of its own, with `examples/tool_agent` on its path for the shops. The agent knows nothing of training;
`rollout` hands it a client and a question, and `agent_app` makes a server of that.
"""

import json
import logging

from agents import (
    Agent,
    AgentsException,
    ModelSettings,
    OpenAIProvider,
    RunConfig,
    RunContextWrapper,
    Runner,
    function_tool,
)
from eval_protocol import InitRequest
from eval_protocol.tracing import agent_app
from openai import AsyncOpenAI
from server.shop import shop_named_in
from server.tools import run_tool

log = logging.getLogger("shop_agent")
log.setLevel(logging.INFO)


@function_tool
def lookup(shop: RunContextWrapper[int], item: str) -> str:
    """Gives price and stock of one item of the shop."""
    return run_tool(shop.context, "lookup", json.dumps({"item": item}))


@function_tool
def calculator(shop: RunContextWrapper[int], expression: str) -> str:
    """Works out a sum, like 3*12+4."""
    return run_tool(shop.context, "calculator", json.dumps({"expression": expression}))


async def rollout(request: InitRequest) -> None:
    """One question, with the Agents SDK's own loop. What the model does wrong ends the run and is scored, not raised."""
    provider = OpenAIProvider(openai_client=AsyncOpenAI(base_url=request.model_base_url, api_key=request.api_key))
    messages = [message.model_dump(include={"role", "content"}) for message in request.messages]
    params = request.completion_params
    agent = Agent[int](
        name="Shop assistant",
        instructions=messages[0]["content"],
        model=params["model"],
        model_settings=ModelSettings(temperature=params.get("temperature"), max_tokens=params.get("max_tokens")),
        tools=[lookup, calculator],
    )
    question = messages[-1]["content"]
    try:
        result = await Runner.run(
            agent, question, context=shop_named_in(question), max_turns=6, run_config=RunConfig(model_provider=provider)
        )
    except AgentsException as error:
        log.warning("%s: %s", type(error).__name__, error)
    else:
        log.info("%s answered in %d calls", type(provider.get_model(agent.model)).__name__, len(result.raw_responses))


app = agent_app(rollout)
