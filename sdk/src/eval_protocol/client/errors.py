"""What can go wrong between this machine and the platform, a branch of the SDK's error tree.

PlatformError
    Unreachable        nothing answered at the address
    Refused            the platform answered with an error
        NotAllowed     401, 403: the key is wrong or does not allow this
        Missing        404
        Taken          409
    BrokenAnswer       an answer came, but not one of this API
    JobFailed          a job that was waited for ended as FAILED
PackingError           the project folder cannot be packed as it is
"""

from __future__ import annotations

from eval_protocol.errors import EvalProtocolError


class PlatformError(EvalProtocolError):
    """A call to the platform failed. The message says what, where and what to do next."""


class Unreachable(PlatformError):
    """No answer: connection refused, name unknown, time out."""


class BrokenAnswer(PlatformError):
    """The address answers, but not as the platform does."""


class JobFailed(PlatformError):
    """A job that was waited for has failed. The message has the cause."""


class PackingError(EvalProtocolError):
    """The project cannot be packed as it is."""


class Refused(PlatformError):
    """The platform answered with an error status.

    Attributes: `status` (HTTP), `reason` (the platform's own words), `retried` (an earlier try of the same call may have arrived).
    """

    def __init__(self, message: str, *, status: int, reason: str, retried: bool) -> None:
        super().__init__(message)
        self.status, self.reason, self.retried = status, reason, retried


class NotAllowed(Refused):
    """401 or 403."""


class Missing(Refused):
    """404."""


class Taken(Refused):
    """409: the name exists."""
