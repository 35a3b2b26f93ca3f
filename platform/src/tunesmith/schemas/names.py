"""Resource names: `accounts/{account}/{nouns}/{id}`. Bodies may carry the short id or the whole name; both are resolved here."""

from __future__ import annotations

import re
from urllib.parse import unquote

from tunesmith.errors import InvalidArgument, PermissionDenied

_ID = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")
_JOB_ID = re.compile(r"[a-z0-9]([a-z0-9-]{0,54}[a-z0-9])?")


def account_name(account: str) -> str:
    """`local` -> `accounts/local`."""
    return f"accounts/{account}"


def resource_name(account: str, noun: str, identity: str) -> str:
    """The full name of a resource given by its short id or by its full name, which must be of that account and noun.

    Raises InvalidArgument when it is a name of something else, PermissionDenied when it belongs to another account.
    """
    if "/" not in identity:
        return f"accounts/{account}/{noun}/{identity}"
    parts = identity.split("/")
    if len(parts) != 4 or parts[0] != "accounts" or parts[2] != noun or not parts[3]:
        raise InvalidArgument(
            f"{identity!r} is not the name of one of {noun}: give an id, or accounts/{account}/{noun}/ID."
        )
    if parts[1] != account:
        raise PermissionDenied(
            f"{identity} belongs to another account than {account_name(account)}, whose key this is."
        )
    return identity


def versioned_name(name: str) -> tuple[str, int | None]:
    """`accounts/a/evaluators/e/versions/3` (or `e/versions/3`) -> the plain name and 3; None for `latest` or no version.

    The name may be percent-encoded. Raises InvalidArgument when the version is neither a number nor `latest`.
    """
    if "%" in name:
        name = unquote(name)
    plain, mark, version = name.rpartition("/versions/")
    if not mark:
        return name, None
    if version != "latest" and not re.fullmatch(r"[1-9][0-9]{0,8}", version):
        raise InvalidArgument(f"{name[:200]!r} names no version: give .../versions/NUMBER, or .../versions/latest.")
    return plain, None if version == "latest" else int(version)


def short_id(name: str) -> str:
    """The last segment of a resource name."""
    return name.rsplit("/", 1)[-1]


def check_id(identity: str, field: str) -> str:
    """An id that a client chose: at most 63 of a-z, 0-9, `-`, `.` and `_`, beginning and ending with a letter or digit.

    Raises InvalidArgument naming the field.
    """
    if not _ID.fullmatch(identity):
        raise InvalidArgument(
            f"{field} {identity[:80]!r} is not a valid id: use at most 63 of a-z, 0-9, '-', '.' and '_', "
            "beginning and ending with a letter or digit."
        )
    return identity


def check_job_id(identity: str, field: str) -> str:
    """A job's id: as `check_id`, but at most 56 characters and without `.` and `_`, because policy versions are named after it."""
    if not _JOB_ID.fullmatch(identity):
        raise InvalidArgument(
            f"{field} {identity[:80]!r} is not a valid job id: use at most 56 of a-z, 0-9 and '-', "
            "beginning and ending with a letter or digit."
        )
    return identity
