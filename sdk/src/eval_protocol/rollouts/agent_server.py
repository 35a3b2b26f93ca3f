"""Talking to an agent server: `POST /init`, and what each way of failing means."""

from __future__ import annotations

import io
import json
from typing import Any

import aiohttp

from eval_protocol.exceptions import (
    DeadlineExceededError,
    InvalidArgumentError,
    UnavailableError,
    exception_for_status_code,
)
from eval_protocol.models.status import Code
from eval_protocol.proxies import proxy_for
from eval_protocol.rollouts.retries import HTTP_TO_CODE, is_retryable_http

CONNECT_SECONDS = 15.0
LONGEST_QUOTE = 300
"""Characters of a refusal that are quoted."""
WHERE = "(RemoteRolloutProcessor remote_base_url, EP_REMOTE_ROLLOUT_PROCESSOR_BASE_URL)"


async def begin(session: aiohttp.ClientSession, server: str, body: dict[str, Any], *, timeout: float) -> None:
    """Have the agent begin a rollout. Any 2xx means that it will; what the answer says is not read.

    Args:
        server: base URL of the agent server.
        timeout: seconds.

    Raises:
        RolloutError: the server is away, slow, or refuses; the message names it.
    """
    url = f"{server}/init"
    try:
        async with session.post(
            url,
            data=io.BytesIO(json.dumps(body).encode()),
            headers={"Content-Type": "application/json"},
            timeout=aiohttp.ClientTimeout(total=timeout, sock_connect=CONNECT_SECONDS),
            proxy=proxy_for(url),
            allow_redirects=False,  # the body holds a key
        ) as response:
            if not 200 <= response.status < 300:
                await _refused(server, response)
    except TimeoutError as error:
        raise DeadlineExceededError(
            f"The agent server {server} did not answer POST /init within {timeout:g} s. "
            "It should answer at once and work in the background; or raise init_timeout_seconds."
        ) from error
    except aiohttp.InvalidURL as error:
        raise InvalidArgumentError(f"The agent server's URL {server} is none {WHERE}.") from error
    except (aiohttp.ClientError, OSError) as error:
        raise UnavailableError(
            f"The agent server {server} could not be asked to begin: {str(error) or type(error).__name__}. Is it running? {WHERE}"
        ) from error


async def _refused(server: str, response: aiohttp.ClientResponse) -> None:
    """5xx and 429 may pass, the rest will not."""
    text = (await response.content.read(LONGEST_QUOTE * 4)).decode(errors="replace")[:LONGEST_QUOTE].strip()
    advice = "See the server's own log."
    if 300 <= response.status < 400:
        advice = f"It sends on to {response.headers.get('Location', '?')}: use that URL, if you trust it."
    error = exception_for_status_code(
        HTTP_TO_CODE.get(response.status, Code.UNAVAILABLE if response.status >= 500 else Code.FAILED_PRECONDITION),
        f"The agent server {server} answered POST /init with {response.status} {response.reason}: {text or 'no text'}. {advice}",
    )
    assert error is not None
    error.retryable = is_retryable_http(response.status)
    wait = response.headers.get("Retry-After", "")
    error.retry_after = float(wait) if wait.isdigit() else None
    raise error
