"""When a failed rollout is tried again, and how long to wait first."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from eval_protocol.errors import RolloutError
from eval_protocol.models.status import Code, Status

RETRYABLE_HTTP = frozenset({408, 409, 425, 429})
RETRYABLE_CODES = frozenset({Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.RESOURCE_EXHAUSTED})
CONNECTION_ERROR_NAMES = frozenset(
    {
        "ClientConnectionError",
        "ClientPayloadError",
        "TransportError",
        "APIConnectionError",
        "ConnectTimeout",
        "ReadTimeout",
    }
)
"""Base classes of other HTTP clients (aiohttp, httpx, openai, requests), known by name so that none is imported."""
HTTP_TO_CODE = {
    400: Code.INVALID_ARGUMENT,
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.NOT_FOUND,
    408: Code.DEADLINE_EXCEEDED,
    409: Code.ABORTED,
    410: Code.NOT_FOUND,
    413: Code.INVALID_ARGUMENT,
    422: Code.INVALID_ARGUMENT,
    429: Code.RESOURCE_EXHAUSTED,
    500: Code.INTERNAL,
    501: Code.UNIMPLEMENTED,
    502: Code.UNAVAILABLE,
    503: Code.UNAVAILABLE,
    504: Code.DEADLINE_EXCEEDED,
}


@dataclass(frozen=True)
class BackoffConfig:
    """Waiting between tries."""

    strategy: Literal["expo", "constant"] = "expo"
    base_delay: float = 1.0
    """Seconds before the first new try."""
    max_delay: float = 60.0
    """Longest wait, in seconds; also the longest Retry-After that is obeyed."""
    max_tries: int = 3
    """How often a failed rollout is tried again (0 = never)."""
    jitter: Callable[[float], float] | None = None
    """From the computed delay to the one slept; None = anything from half of it to all of it."""
    factor: float = 2.0
    """Growth of the delay, for `expo`."""
    raise_on_giveup: bool = False
    """Whether a rollout that failed for good fails the whole evaluation at its end (it is recorded either way)."""
    giveup_func: Callable[[Exception], bool] | None = None
    """True for an exception that must not be tried again."""

    def __post_init__(self) -> None:
        if self.strategy not in ("expo", "constant"):
            raise ValueError(f"BackoffConfig.strategy is {self.strategy!r}; use 'expo' or 'constant'.")
        if self.max_tries < 0 or self.base_delay < 0 or self.max_delay < 0:
            raise ValueError("BackoffConfig: max_tries, base_delay and max_delay must not be negative.")

    def delay(self, attempt: int, retry_after: float | None = None) -> float:
        """Seconds to wait before new try number `attempt` (from 1). A Retry-After of the other side wins over our own delay."""
        if retry_after is not None:
            return min(retry_after, self.max_delay)
        growth = self.factor ** (attempt - 1) if self.strategy == "expo" else 1.0
        delay = min(self.base_delay * growth, self.max_delay)
        return self.jitter(delay) if self.jitter else delay * random.uniform(0.5, 1.0)


@dataclass(frozen=True)
class ExceptionHandlerConfig:
    """What is tried again."""

    retryable_exceptions: frozenset[type[Exception]] | set[type[Exception]] | None = None
    """Exactly these; None = connection trouble, timeouts, HTTP 408/409/429/5xx, and what says so itself."""
    backoff_config: BackoffConfig = field(default_factory=BackoffConfig)

    def is_retryable(self, error: Exception) -> bool:
        """Whether a new try may help."""
        giveup = self.backoff_config.giveup_func
        if giveup is not None and giveup(error):
            return False
        if self.retryable_exceptions is not None:
            return isinstance(error, tuple(self.retryable_exceptions))
        return _may_pass(error)


def get_default_exception_handler_config() -> ExceptionHandlerConfig:
    """The default policy."""
    return ExceptionHandlerConfig()


def is_retryable_http(status: int) -> bool:
    """Whether the same HTTP request may work later."""
    return status in RETRYABLE_HTTP or (status >= 500 and status != 501)


def status_for(error: BaseException) -> Status:
    """The rollout status that records an exception."""
    if isinstance(error, RolloutError):
        return Status.of(error.code, str(error))
    http = _http_status(error)
    if http is not None:
        code = HTTP_TO_CODE.get(http, Code.UNKNOWN)
        if code in RETRYABLE_CODES and _told_to_retry(error) is False:  # a spent budget: waiting brings nothing
            code = Code.FAILED_PRECONDITION
        return Status.of(code, f"{type(error).__name__}: {error}")
    if isinstance(error, TimeoutError):
        return Status.of(
            Code.DEADLINE_EXCEEDED, f"The rollout timed out: {error}" if str(error) else "The rollout timed out."
        )
    code = Code.UNAVAILABLE if _may_pass(error) else Code.INTERNAL
    return Status.of(code, f"{type(error).__name__}: {error}")


def error_from(status: Status) -> RolloutError:
    """The exception for a row that came back with an error status instead of raising."""
    return RolloutError(status.message or status.code.name, code=status.code, retryable=status.code in RETRYABLE_CODES)


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, RolloutError):
        return error.retryable
    http = _http_status(error)
    if http is not None:
        told = _told_to_retry(error)
        return is_retryable_http(http) if told is None else told
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    return any(base.__name__ in CONNECTION_ERROR_NAMES for base in type(error).__mro__)


def _told_to_retry(error: BaseException) -> bool | None:
    """What the server said in `x-should-retry`; None where it said nothing."""
    headers = getattr(getattr(error, "response", None), "headers", None)
    said = headers.get("x-should-retry") if headers is not None else None
    return {"true": True, "false": False}.get(said) if isinstance(said, str) else None


def _http_status(error: BaseException) -> int | None:
    for holder in (error, getattr(error, "response", None)):
        for name in ("status_code", "status"):
            value = getattr(holder, name, None)
            if isinstance(value, int) and 100 <= value < 600:
                return value
    return None
