"""Typed errors of a rollout, one per status code: public import path of the names that agents and exception handlers use.

    RolloutError
        CancelledError 1 … UnauthenticatedError 16      google.rpc codes
        ResponseQualityError 103                         ask for another try
        RolloutFinishedError 100, RolloutRunningError 101, ScoreInvalidError 102   never raised by us: these codes are no errors

Whether the same rollout may work when tried again is part of the type (`retryable`), and can be overruled per instance.
"""

from __future__ import annotations

from typing import ClassVar

from eval_protocol.errors import EvalProtocolError, ResponseQualityError, RolloutError
from eval_protocol.models.status import NOT_ERRORS, Code

RETRYABLE_STATUS = frozenset(
    {
        Code.UNKNOWN,
        Code.DEADLINE_EXCEEDED,
        Code.NOT_FOUND,
        Code.PERMISSION_DENIED,
        Code.RESOURCE_EXHAUSTED,
        Code.UNAVAILABLE,
        Code.UNAUTHENTICATED,
        Code.RESPONSE_QUALITY_ERROR,
    }
)
"""Status codes of a remote rollout after which it is tried again: what the published client does."""


class _StatusError(RolloutError):
    """An error with a code of its own."""

    CODE: ClassVar[Code]

    def __init__(self, message: str = "", *, retryable: bool | None = None, retry_after: float | None = None) -> None:
        again = self.CODE in RETRYABLE_STATUS if retryable is None else retryable
        super().__init__(message or self.CODE.name, code=self.CODE, retryable=again, retry_after=retry_after)


class CancelledError(_StatusError):
    """1: somebody stopped it."""

    CODE = Code.CANCELLED


class UnknownError(_StatusError):
    """2: nobody knows why."""

    CODE = Code.UNKNOWN


class InvalidArgumentError(_StatusError):
    """3: what was asked for makes no sense."""

    CODE = Code.INVALID_ARGUMENT


class DeadlineExceededError(_StatusError):
    """4: it took too long."""

    CODE = Code.DEADLINE_EXCEEDED


class NotFoundError(_StatusError):
    """5: something is not there."""

    CODE = Code.NOT_FOUND


class AlreadyExistsError(_StatusError):
    """6: something is there already."""

    CODE = Code.ALREADY_EXISTS


class PermissionDeniedError(_StatusError):
    """7: not allowed."""

    CODE = Code.PERMISSION_DENIED


class ResourceExhaustedError(_StatusError):
    """8: a quota or a rate is used up."""

    CODE = Code.RESOURCE_EXHAUSTED


class FailedPreconditionError(_StatusError):
    """9: something has to be done first."""

    CODE = Code.FAILED_PRECONDITION


class AbortedError(_StatusError):
    """10: ended by a conflict, or by the end of its process."""

    CODE = Code.ABORTED


class OutOfRangeError(_StatusError):
    """11: past the end."""

    CODE = Code.OUT_OF_RANGE


class UnimplementedError(_StatusError):
    """12: nobody has built it."""

    CODE = Code.UNIMPLEMENTED


class InternalError(_StatusError):
    """13: a defect."""

    CODE = Code.INTERNAL


class UnavailableError(_StatusError):
    """14: a service is away."""

    CODE = Code.UNAVAILABLE


class DataLossError(_StatusError):
    """15: what should be there cannot be read."""

    CODE = Code.DATA_LOSS


class UnauthenticatedError(_StatusError):
    """16: no key, or a wrong one."""

    CODE = Code.UNAUTHENTICATED


class RolloutFinishedError(_StatusError):
    """100: no error; the name belongs to the published API."""

    CODE = Code.FINISHED


class RolloutRunningError(_StatusError):
    """101: no error; the name belongs to the published API."""

    CODE = Code.RUNNING


class ScoreInvalidError(_StatusError):
    """102: no error of the rollout; the name belongs to the published API."""

    CODE = Code.SCORE_INVALID


_BY_CODE: dict[int, type[RolloutError]] = {kind.CODE: kind for kind in _StatusError.__subclasses__()}
_BY_CODE[Code.RESPONSE_QUALITY_ERROR] = ResponseQualityError


def exception_for_status_code(code: int, message: str = "") -> RolloutError | None:
    """The error that a rollout's status code stands for; None for codes that are no errors (0, 100, 101, 102).

    A code outside the table gives UnknownError, with the number in its message.
    """
    if code in NOT_ERRORS:
        return None
    kind = _BY_CODE.get(code)
    if kind is None:
        return UnknownError(f"{message or 'The rollout failed'} (unknown status code {code})")
    return kind(message or Code(code).name)


__all__ = [
    "AbortedError",
    "AlreadyExistsError",
    "CancelledError",
    "DataLossError",
    "DeadlineExceededError",
    "EvalProtocolError",
    "FailedPreconditionError",
    "InternalError",
    "InvalidArgumentError",
    "NotFoundError",
    "OutOfRangeError",
    "PermissionDeniedError",
    "ResourceExhaustedError",
    "ResponseQualityError",
    "RolloutError",
    "RolloutFinishedError",
    "RolloutRunningError",
    "ScoreInvalidError",
    "UnauthenticatedError",
    "UnavailableError",
    "UnimplementedError",
    "UnknownError",
    "exception_for_status_code",
]
