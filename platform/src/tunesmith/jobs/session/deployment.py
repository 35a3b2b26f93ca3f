"""Phase 6: the final model under a deployment's name, ready to answer, with a snippet that calls it."""

from __future__ import annotations

from typing import Any

from tunesmith.agent.document import Deployed, Document, EventKind, Phase
from tunesmith.agent.rows import prompt_of, text_of
from tunesmith.errors import FailedPrecondition
from tunesmith.jobs.session import children, staging
from tunesmith.jobs.session.desk import Desk, Event
from tunesmith.schemas.names import short_id

READY, FAILED = "READY", "FAILED"
SNIPPET = """\
import json
import os
from pathlib import Path

from fireworks import Fireworks  # pip install fireworks-ai

profile = Path.home() / ".tunesmith" / "profile.json"  # `tunesmith up` wrote it; elsewhere set TUNESMITH_API_KEY
key = os.environ.get("TUNESMITH_API_KEY") or json.loads(profile.read_text())["api_key"]
client = Fireworks(api_key=key, base_url={base_url!r})
answer = client.chat.completions.create(
    model={deployment!r},
    messages={messages},
    temperature=0,
)
print(answer.choices[0].message.content)
"""


async def deploy(desk: Desk) -> Phase:
    """Deploy and wait until it is READY; say so where the plan wants none."""
    document = desk.document
    if not desk.plan.deploy:
        text = "No deployment: the plan skips it. The model answers under its own name all the same."
        await desk.tell(Event("deployment/skipped", EventKind.STATUS_INFO, text))
        return Phase.REPORT
    if document.final is None or document.final.model is None:
        raise FailedPrecondition("There is no final model to deploy.")
    model = document.final.model
    identity = short_id(desk.plan.deployment) if desk.plan.deployment else f"agent-{desk.id}"
    found = await desk.api.find(f"deployments/{identity}")
    if found is None:
        body = {"baseModel": model, "displayName": f"Session {desk.id}"}
        found = await desk.api.post("deployments", body, deploymentId=identity)
    if found["baseModel"] != model:
        raise FailedPrecondition(
            f"The deployment {found['name']} serves {found['baseModel']}, and a session changes nothing that is there. "
            f"The model {model} is trained: deploy it under another name."
        )
    while found["state"] not in (READY, FAILED):
        await desk.say(f"Deploying {short_id(model)} as {identity}")
        await desk.rest(children.POLL_SECONDS)
        found = await desk.api.get(f"deployments/{identity}")
    if found["state"] == FAILED:
        reason = (found.get("status") or {}).get("message") or "it gave no reason"
        raise FailedPrecondition(f"The deployment {found['name']} failed: {reason}")
    url = desk.settings.public_url or desk.settings.base_url
    deployed = Deployed(
        model=model,
        deployment=found["name"],
        endpoint=f"{url}/v1/chat/completions",
        snippet=snippet(url, found["name"], desk.rows(staging.REPORT)[0]),
    )

    def edit(it: Document) -> None:
        it.deployed = deployed

    text = f"Deployed {model} as {deployed.deployment}; it answers at {deployed.endpoint}."
    await desk.change(edit, Event("deployment/ready", EventKind.RESULT, text, deployed.dump()))
    return Phase.REPORT


def snippet(base_url: str, deployment: str, row: dict[str, Any]) -> str:
    """Python that asks the deployment what a row asks; runs as it is."""
    messages = [{"role": message["role"], "content": text_of(message)} for message in prompt_of(row)]
    lines = "".join(f"        {message!r},\n" for message in messages)
    return SNIPPET.format(base_url=base_url, deployment=deployment, messages=f"[\n{lines}    ]")
