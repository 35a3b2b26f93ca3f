"""The SDK's error tree. Every message says what happened, to what, and what to do next.

EvalProtocolError
    UsageError            the decorator, a setting or a flag cannot work as written
        NotBuiltYet       the published API has it, this version does not
    ProfileError          no platform or no key is known, or the profile file cannot be read
    DatasetError          a dataset that is missing, empty or has a broken row
    DiscoveryError        a file with evaluations that does not import, or an entry point that is not there
    ResultsError          the local results store cannot be written or read
    RolloutError          one rollout failed; recorded on its row, never the end of a run
        ModelCallError    the model's server refused, failed or did not answer
        ResponseQualityError   the answer came but is not usable; raised by processors to ask for another try
    NoValidScores         an evaluation ended with nothing that could be averaged
    ThresholdMissed       the aggregate is below `passed_threshold`
"""

from __future__ import annotations


class EvalProtocolError(Exception):
    """Base of all errors that a user may see."""


class UsageError(EvalProtocolError, ValueError):
    """The decorator, a setting or a flag cannot work as written."""


class NotBuiltYet(UsageError):
    """The published API has it, this version does not."""


class ProfileError(EvalProtocolError):
    """No platform or no key is known, or the profile file cannot be read."""


class DatasetError(EvalProtocolError):
    """A dataset that is missing, empty or has a broken row."""


class DiscoveryError(EvalProtocolError):
    """A file with evaluations that does not import, or an entry point that is not there."""


class ResultsError(EvalProtocolError):
    """The local results store cannot be written or read."""


class RolloutError(EvalProtocolError):
    """One rollout failed.

    Args:
        message: what happened, to which model or service.
        code: `Status.Code` recorded on the row (13 = INTERNAL).
        retryable: whether the same rollout may work when tried again.
        retry_after: seconds that the other side asked us to wait, if it did.
    """

    def __init__(
        self, message: str, *, code: int = 13, retryable: bool = False, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.retryable = retryable
        self.retry_after = retry_after


class ModelCallError(RolloutError):
    """The model's server refused, failed or did not answer."""


class ResponseQualityError(RolloutError):
    """The answer came but is not usable; raised by processors to ask for another try."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code=103, retryable=True)


class NoValidScores(EvalProtocolError, AssertionError):
    """An evaluation ended with nothing that could be averaged."""


class ThresholdMissed(EvalProtocolError, AssertionError):
    """The aggregate is below `passed_threshold`."""
