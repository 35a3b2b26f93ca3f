"""How a rollout or an evaluation went: google.rpc codes 0-16 plus four of Eval Protocol's own, with AIP-193 details."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum, StrEnum
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

ERROR_INFO = "type.googleapis.com/google.rpc.ErrorInfo"
DOMAIN = "evalprotocol.io"


class TerminationReason(StrEnum):
    """Why a rollout ended."""

    MAX_STEPS = "max_steps"
    """The step limit of the environment or agent loop."""
    CONTROL_PLANE_SIGNAL = "control_plane_signal"
    """The environment said so."""
    USER_STOP = "user_stop"
    """The (simulated) user ended it."""
    SKIPPABLE_ERROR = "skippable_error"
    """An error after which the rollout may still be scored."""
    NON_SKIPPABLE_ERROR = "non_skippable_error"
    """An error after which it may not."""
    STOP = "stop"
    """The model finished its answer."""
    LENGTH = "length"
    """The token limit cut the answer."""
    TOOL_CALLS = "tool_calls"
    """The model asked for tools that nobody ran."""


class ErrorInfo(BaseModel):
    """One AIP-193 detail."""

    model_config = ConfigDict(populate_by_name=True)

    type_url: str = Field(default=ERROR_INFO, alias="@type")
    reason: str
    domain: str = DOMAIN
    metadata: dict[str, Any] = {}

    TERMINATION_REASON: ClassVar[str] = "TERMINATION_REASON"
    EXTRA_INFO: ClassVar[str] = "EXTRA_INFO"

    @classmethod
    def termination_reason(cls, reason: TerminationReason | str) -> ErrorInfo:
        """Why the rollout ended."""
        return cls(reason=cls.TERMINATION_REASON, metadata={"termination_reason": str(reason)})

    @classmethod
    def extra_info(cls, metadata: dict[str, Any]) -> ErrorInfo:
        """Anything else worth keeping."""
        return cls(reason=cls.EXTRA_INFO, metadata=metadata)

    def to_aip193_format(self) -> dict[str, Any]:
        """As it lies in `Status.details`."""
        return self.model_dump(by_alias=True)


class Code(IntEnum):
    """google.rpc.Code, and from 100 on our own."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16
    FINISHED = 100
    RUNNING = 101
    SCORE_INVALID = 102
    RESPONSE_QUALITY_ERROR = 103


NOT_ERRORS = frozenset({Code.OK, Code.FINISHED, Code.RUNNING, Code.SCORE_INVALID})
STOPPED = frozenset({Code.CANCELLED, Code.ABORTED})
ErrorConstructor = Callable[..., "Status"]


def _error(code: Code) -> Any:
    """A class method `(error_message="", extra_info=None) -> Status` for one code."""

    def construct(cls: type[Status], error_message: str = "", extra_info: dict[str, Any] | None = None) -> Status:
        return cls.of(code, error_message, extra_info=extra_info)

    construct.__doc__ = f"{code.name}, with a message and optional extra information."
    return classmethod(construct)


class Status(BaseModel):
    """Code, message and details."""

    Code: ClassVar[type[Code]] = Code

    code: Code
    message: str = ""
    details: list[dict[str, Any]] = []

    @classmethod
    def of(
        cls,
        code: Code | int,
        message: str = "",
        *,
        termination_reason: TerminationReason | str | None = None,
        extra_info: dict[str, Any] | None = None,
    ) -> Status:
        """Any code, with the two usual details."""
        details = []
        if termination_reason is not None:
            details.append(ErrorInfo.termination_reason(termination_reason).to_aip193_format())
        if extra_info:
            details.append(ErrorInfo.extra_info(extra_info).to_aip193_format())
        return cls(code=Code(code), message=message, details=details)

    @classmethod
    def rollout_running(cls) -> Status:
        """The rollout has begun."""
        return cls(code=Code.RUNNING, message="Rollout is running")

    @classmethod
    def eval_running(cls) -> Status:
        """The evaluation has begun."""
        return cls(code=Code.RUNNING, message="Evaluation is running")

    @classmethod
    def rollout_finished(
        cls, termination_reason: TerminationReason | str | None = None, extra_info: dict[str, Any] | None = None
    ) -> Status:
        """The rollout ended well."""
        return cls.of(Code.FINISHED, "Rollout finished", termination_reason=termination_reason, extra_info=extra_info)

    @classmethod
    def eval_finished(cls) -> Status:
        """The evaluation ended well."""
        return cls(code=Code.FINISHED, message="Evaluation finished")

    @classmethod
    def finished(cls, message: str = "", details: list[dict[str, Any]] | None = None) -> Status:
        """FINISHED with your own message."""
        return cls(code=Code.FINISHED, message=message, details=details or [])

    @classmethod
    def error(cls, error_message: str, details: list[dict[str, Any]] | None = None) -> Status:
        """INTERNAL with your own details."""
        return cls(code=Code.INTERNAL, message=error_message, details=details or [])

    @classmethod
    def score_invalid(cls, message: str = "Score is invalid", details: list[dict[str, Any]] | None = None) -> Status:
        """The rollout is fine, its score is not."""
        return cls(code=Code.SCORE_INVALID, message=message, details=details or [])

    rollout_error: ClassVar[ErrorConstructor] = _error(Code.INTERNAL)
    rollout_cancelled_error: ClassVar[ErrorConstructor] = _error(Code.CANCELLED)
    rollout_unknown_error: ClassVar[ErrorConstructor] = _error(Code.UNKNOWN)
    rollout_invalid_argument_error: ClassVar[ErrorConstructor] = _error(Code.INVALID_ARGUMENT)
    rollout_deadline_exceeded_error: ClassVar[ErrorConstructor] = _error(Code.DEADLINE_EXCEEDED)
    rollout_not_found_error: ClassVar[ErrorConstructor] = _error(Code.NOT_FOUND)
    rollout_already_exists_error: ClassVar[ErrorConstructor] = _error(Code.ALREADY_EXISTS)
    rollout_permission_denied_error: ClassVar[ErrorConstructor] = _error(Code.PERMISSION_DENIED)
    rollout_resource_exhausted_error: ClassVar[ErrorConstructor] = _error(Code.RESOURCE_EXHAUSTED)
    rollout_failed_precondition_error: ClassVar[ErrorConstructor] = _error(Code.FAILED_PRECONDITION)
    rollout_aborted_error: ClassVar[ErrorConstructor] = _error(Code.ABORTED)
    rollout_out_of_range_error: ClassVar[ErrorConstructor] = _error(Code.OUT_OF_RANGE)
    rollout_unimplemented_error: ClassVar[ErrorConstructor] = _error(Code.UNIMPLEMENTED)
    rollout_internal_error: ClassVar[ErrorConstructor] = _error(Code.INTERNAL)
    rollout_unavailable_error: ClassVar[ErrorConstructor] = _error(Code.UNAVAILABLE)
    rollout_data_loss_error: ClassVar[ErrorConstructor] = _error(Code.DATA_LOSS)
    rollout_unauthenticated_error: ClassVar[ErrorConstructor] = _error(Code.UNAUTHENTICATED)
    rollout_response_quality_error: ClassVar[ErrorConstructor] = _error(Code.RESPONSE_QUALITY_ERROR)
    cancelled: ClassVar[ErrorConstructor] = _error(Code.CANCELLED)
    unknown_error: ClassVar[ErrorConstructor] = _error(Code.UNKNOWN)
    invalid_argument_error: ClassVar[ErrorConstructor] = _error(Code.INVALID_ARGUMENT)
    deadline_exceeded_error: ClassVar[ErrorConstructor] = _error(Code.DEADLINE_EXCEEDED)
    not_found_error: ClassVar[ErrorConstructor] = _error(Code.NOT_FOUND)
    already_exists_error: ClassVar[ErrorConstructor] = _error(Code.ALREADY_EXISTS)
    permission_denied_error: ClassVar[ErrorConstructor] = _error(Code.PERMISSION_DENIED)
    resource_exhausted_error: ClassVar[ErrorConstructor] = _error(Code.RESOURCE_EXHAUSTED)
    failed_precondition_error: ClassVar[ErrorConstructor] = _error(Code.FAILED_PRECONDITION)
    aborted: ClassVar[ErrorConstructor] = _error(Code.ABORTED)
    out_of_range_error: ClassVar[ErrorConstructor] = _error(Code.OUT_OF_RANGE)
    unimplemented_error: ClassVar[ErrorConstructor] = _error(Code.UNIMPLEMENTED)
    internal_error: ClassVar[ErrorConstructor] = _error(Code.INTERNAL)
    unavailable_error: ClassVar[ErrorConstructor] = _error(Code.UNAVAILABLE)
    data_loss_error: ClassVar[ErrorConstructor] = _error(Code.DATA_LOSS)
    unauthenticated_error: ClassVar[ErrorConstructor] = _error(Code.UNAUTHENTICATED)
    response_quality_error: ClassVar[ErrorConstructor] = _error(Code.RESPONSE_QUALITY_ERROR)

    def is_running(self) -> bool:
        """Not over yet."""
        return self.code == Code.RUNNING

    def is_finished(self) -> bool:
        """Ended well."""
        return self.code in (Code.FINISHED, Code.OK)

    def is_error(self) -> bool:
        """Any code that says something went wrong (the published package knows INTERNAL only)."""
        return self.code not in NOT_ERRORS

    def is_stopped(self) -> bool:
        """Cancelled, or its process died."""
        return self.code in STOPPED

    def is_score_invalid(self) -> bool:
        """The score was marked invalid."""
        return self.code == Code.SCORE_INVALID

    def _metadata(self, reason: str) -> dict[str, Any] | None:
        return next((detail.get("metadata") for detail in self.details if detail.get("reason") == reason), None)

    def get_termination_reason(self) -> TerminationReason | None:
        """Why the rollout ended, when it was recorded."""
        reason = (self._metadata(ErrorInfo.TERMINATION_REASON) or {}).get("termination_reason")
        return TerminationReason(reason) if reason in list(TerminationReason) else None

    def get_extra_info(self) -> dict[str, Any] | None:
        """The EXTRA_INFO detail."""
        return self._metadata(ErrorInfo.EXTRA_INFO)
