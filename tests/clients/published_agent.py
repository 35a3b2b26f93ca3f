"""An agent server written with the published eval-protocol alone, as its users write them: FastAPI, the OpenAI SDK, its log handler.

Run by uvicorn in the client's own environment. Each rollout has two turns. The row's id says what goes wrong before the agent is well again:
`tired` posts a status that is worth another try, `away` answers `/init` with 503, `wrong` posts one that is not.
"""

import logging
import threading
from collections import Counter

from eval_protocol import FireworksTracingHttpHandler, InitRequest, RolloutIdFilter, Status
from fastapi import FastAPI, HTTPException
from openai import OpenAI

logging.basicConfig(level=logging.WARNING)
logging.getLogger().addHandler(FireworksTracingHttpHandler())
app = FastAPI()
asked: Counter[str] = Counter()
"""How often each row's rollout was asked for."""
log = logging.getLogger("agent")
log.setLevel(logging.INFO)


@app.get("/health")
def health() -> dict[str, int]:
    return dict(asked)


@app.post("/init")
def init(request: InitRequest) -> dict[str, str]:
    row = request.metadata.row_id
    asked[row] += 1
    if row == "away" and asked[row] == 1:
        raise HTTPException(503, "not yet")
    threading.Thread(target=work, args=(request, asked[row] == 1)).start()
    return {"status": "accepted"}


def work(request: InitRequest, first_try: bool) -> None:
    """Two turns, then a status."""
    row, rollout_id = request.metadata.row_id, request.metadata.rollout_id
    logger = logging.getLogger(f"agent.{rollout_id}")
    logger.addFilter(RolloutIdFilter(rollout_id))
    client = OpenAI(base_url=request.model_base_url, api_key=request.api_key)
    messages = [message.model_dump() for message in request.messages or []]
    params = request.completion_params
    for question in ("And now?", None):
        done = client.chat.completions.create(
            model=params["model"], messages=messages, temperature=params.get("temperature"), max_tokens=params.get("max_tokens")
        )  # fmt: skip
        messages.append(done.choices[0].message.model_dump())
        if question:
            messages.append({"role": "user", "content": question})
    logger.info("asked twice for row %s", row)
    if row == "wrong":
        logger.error("wrong", extra={"status": Status.rollout_invalid_argument_error("no such task")})
    elif row == "tired" and first_try:
        logger.error("tired", extra={"status": Status.rollout_unavailable_error("tired")})
    else:
        logger.info("done", extra={"status": Status.rollout_finished(), "extras": {"mood": "good"}})
