"""The platform's error tree. Every error says what happened, to what, and what to do next.

TunesmithError
    InvalidArgument        400  the request cannot be carried out as written
    Unauthenticated        401  no key, or one that is not known here
    PermissionDenied       403  the key does not allow this
    NotFound               404  no such resource
    AlreadyExists          409  the name is taken
    FailedPrecondition     400  right request, wrong moment (dataset not uploaded, evaluator not ACTIVE)
    Gone                   410  a policy version that was retired
    ResourceExhausted      429  over a limit or a budget
    Unavailable            503  a process that should answer does not (yet)
    Internal               500  our own fault
    NoRoom                 507  the disk of the data folder is full, or cannot be written

Each carries the gRPC code name and the HTTP status of `docs/reference/errors.md`; the web process translates once, at its edge.
"""

from __future__ import annotations


class TunesmithError(Exception):
    """Base of all errors that a user may see. The message is the whole answer: what, to what, what next."""

    status = 500
    code = "INTERNAL"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidArgument(TunesmithError):
    """The request cannot be carried out as written."""

    status, code = 400, "INVALID_ARGUMENT"


class FailedPrecondition(TunesmithError):
    """The request is right, but something it needs is not there yet."""

    status, code = 400, "FAILED_PRECONDITION"


class Unauthenticated(TunesmithError):
    """No key, or one that is not known here."""

    status, code = 401, "UNAUTHENTICATED"


class PermissionDenied(TunesmithError):
    """The key does not allow this."""

    status, code = 403, "PERMISSION_DENIED"


class NotFound(TunesmithError):
    """No such resource."""

    status, code = 404, "NOT_FOUND"


class AlreadyExists(TunesmithError):
    """The name is taken."""

    status, code = 409, "ALREADY_EXISTS"


class Gone(TunesmithError):
    """A policy version that was retired."""

    status, code = 410, "NOT_FOUND"


class ResourceExhausted(TunesmithError):
    """Over a limit or a budget."""

    status, code = 429, "RESOURCE_EXHAUSTED"


class Unavailable(TunesmithError):
    """A process that should answer does not (yet)."""

    status, code = 503, "UNAVAILABLE"


class Internal(TunesmithError):
    """Our own fault."""


class NoRoom(TunesmithError):
    """The disk of the data folder is full, or cannot be written (`tunesmith.disk` makes these)."""

    status, code = 507, "RESOURCE_EXHAUSTED"
