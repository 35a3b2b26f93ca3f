"""The SVG agent as a Python server: `POST /init` begins a drawing, its end is told to the tracing gateway.

    python agent.py --port 3000

The agent itself is `draw`: one call of a model through the plain OpenAI SDK. Where to call and with which key comes with each
request, so there is nothing to set up. `agent_app` makes an ASGI app of it, which any ASGI server runs.
"""

import argparse
import logging
from functools import cache
from typing import Any

import openai
import uvicorn
from eval_protocol import InitRequest
from eval_protocol.tracing import agent_app

log = logging.getLogger("svg_agent")
NOT_FOR_THE_MODEL = {"base_url", "api_base", "api_key"}
"""Of completion_params: these say where calls go, which model_base_url already does."""


async def draw(request: InitRequest) -> None:
    """Ask the model for the drawing. What it answers is recorded by the gateway, so there is nothing to give back."""
    if not request.messages:
        raise ValueError("The request has no messages: there is nothing to draw.")
    client = shared_client().with_options(base_url=request.model_base_url, api_key=request.api_key or "none")
    params: dict[str, Any] = {
        name: value
        for name, value in request.completion_params.items()
        if value is not None and name not in NOT_FOR_THE_MODEL
    }
    if request.tools:
        params["tools"] = request.tools
    messages: Any = [message.model_dump(exclude_none=True) for message in request.messages]
    log.info("Drawing row %s", request.metadata.row_id)
    completion = await client.chat.completions.create(messages=messages, **params)
    text = completion.choices[0].message.content or ""
    log.info("The model answered %d characters (%s)", len(text), completion.choices[0].finish_reason)


@cache
def shared_client() -> openai.AsyncOpenAI:
    """One pool of connections for all rollouts; where it goes is set anew for each."""
    return openai.AsyncOpenAI(base_url="http://localhost", api_key="none", timeout=300.0)


app = agent_app(draw)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", type=int, default=3000, help="port to listen on (default 3000)")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    for noisy in ("httpx", "httpx2", "openai"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    uvicorn.run(app, host=options.host, port=options.port, log_level="warning")
