"""The job that brings a deployment up: it has the gateway use the model once, which starts its engine and loads its weights.

Its spec is `{"base_model"}`. The deployment's row becomes READY, or FAILED with the reason, in the transaction that ends the job.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiohttp
from sqlalchemy.orm import Session

from tunesmith.db import deployments, jobs
from tunesmith.errors import FailedPrecondition, Unavailable
from tunesmith.jobs.handler import ClaimedJob, Handler, JobContext, Outcome
from tunesmith.settings import Settings
from tunesmith.storage.keys import load_keys

GATEWAY_START_SECONDS = 120.0
"""The platform starts worker and web process together."""
_ANY_TWO_TOKENS = [0, 0]


class DeploymentHandler(Handler):
    """Handler of `deployment`."""

    kind = deployments.KIND

    async def run(self, job: ClaimedJob, context: JobContext) -> Outcome:
        """Load; a cancelled job leaves the engine to what it began."""
        loading = asyncio.create_task(load(context.settings, job.spec["base_model"]))
        asked = asyncio.create_task(context.cancelled.wait())
        try:
            await asyncio.wait({loading, asked}, return_when=asyncio.FIRST_COMPLETED)
            if not loading.done():
                return Outcome(jobs.CANCELLED, "The deployment's loading was cancelled.", "CANCELLED")
            loading.result()
            return Outcome(jobs.COMPLETED, f"{job.spec['base_model']} answers.")
        finally:
            asked.cancel()
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)

    def settle(self, session: Session, job: ClaimedJob, outcome: Outcome) -> None:
        """READY, or FAILED with the reason."""
        state = deployments.READY if outcome.state == jobs.COMPLETED else deployments.FAILED
        deployments.settle_load(session, job.name, job.spec["base_model"], state, outcome.status)


async def load(settings: Settings, model: str) -> None:
    """Have the gateway score two tokens with a model. May take as long as a download; a gateway that starts is waited for.

    Raises FailedPrecondition with the gateway's reason when the model cannot be served, Unavailable when it may be tried again.
    """
    body = {"model": model, "token_ids": _ANY_TWO_TOKENS}
    headers = {"Authorization": f"Bearer {load_keys(settings).internal}"}
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=5.0)
    patience = time.monotonic() + GATEWAY_START_SECONDS
    try:
        async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
            while True:
                try:
                    async with session.post(f"{settings.base_url}/internal/policies:score", json=body) as answer:
                        if answer.status == 200:
                            return
                        status, reason = answer.status, _reason(await answer.json(content_type=None))
                        break
                except aiohttp.ClientConnectorError:
                    if time.monotonic() > patience:
                        raise
                    await asyncio.sleep(0.5)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise Unavailable(
            f"The gateway at {settings.base_url} did not answer: {error or type(error).__name__}."
        ) from error
    if status in (400, 404, 409, 410):
        raise FailedPrecondition(f"{model} cannot be served: {reason}")
    raise Unavailable(f"{model} could not be loaded: {reason}")


def _reason(body: Any) -> str:
    try:
        return str(body["error"]["message"])
    except (LookupError, TypeError):
        return str(body)[:500]
