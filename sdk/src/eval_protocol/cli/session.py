"""What every command shares: the global flags, the platform's address and key, and how lines are printed.

Nothing is read from `.env` here. The address and its key are one pair: either both come from the environment or both
from the client profile, and `--server` can only pick the pair that belongs to it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

if TYPE_CHECKING:
    from eval_protocol.settings import Profile


@dataclass(frozen=True)
class Invocation:
    """The flags before the subcommand."""

    server: str | None = None
    verbose: bool = False


class Printer:
    """Prints the story for people on stdout; with `--json` the story goes to stderr and stdout gets one JSON object."""

    def __init__(self, as_json: bool = False, verbose: bool = False) -> None:
        self.as_json = as_json
        self.verbose = verbose

    def __call__(self, line: str = "", *, err: bool = False) -> None:
        click.echo(line, err=err or self.as_json)

    def detail(self, line: str) -> None:
        """A line that only `--verbose` shows."""
        if self.verbose:
            self(line)

    def result(self, value: dict[str, Any]) -> None:
        """The final object; printed only with `--json`."""
        if self.as_json:
            click.echo(json.dumps(value, ensure_ascii=False))

    @property
    def is_terminal(self) -> bool:
        """Whether a person watches: progress may redraw lines."""
        return (sys.stderr if self.as_json else sys.stdout).isatty()


def find_profile(invocation: Invocation) -> Profile:
    """The platform's address, key and account.

    Raises ClickException when none is configured, or when `--server` names a platform whose key is not known.
    """
    from eval_protocol.settings import load_profile

    profile = load_profile()
    if invocation.server:
        profile = _profile_of(invocation.server, profile)
    if profile is None:
        raise click.ClickException(
            "No platform is configured. Start one with `tunesmith up` (it writes ~/.tunesmith/profile.json), "
            "or set FIREWORKS_API_BASE and FIREWORKS_API_KEY together."
        )
    return profile


def _profile_of(server: str, profile: Profile | None) -> Profile:
    """The pair that belongs to `server`. The environment's key is not sent to an address it was not given for."""
    from eval_protocol.errors import ProfileError
    from eval_protocol.settings import load_profile

    server = server if "//" in server else f"https://{server}"
    if profile is not None and profile.covers(server):
        return profile
    try:
        stored = load_profile({"FIREWORKS_API_BASE": server})
    except ProfileError:
        stored = None
    if stored is None:
        known = f" The configured platform is {profile.api_base}." if profile else ""
        raise click.ClickException(
            f"No key for {server} is known here.{known} A key belongs to its address, so give both: "
            f"FIREWORKS_API_BASE={server} FIREWORKS_API_KEY=... ep ..."
        )
    return stored


def reports_errors(command: Callable[..., int | None]) -> Callable[..., None]:
    """Turn the package's errors into one line and exit status 1; `--verbose` keeps the traceback, `--json` gets an object.

    The wrapped command returns its exit status (None: 0).
    """

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        from eval_protocol.errors import EvalProtocolError

        ctx = click.get_current_context()
        try:
            status = command(*args, **kwargs)
        except EvalProtocolError as error:
            if isinstance(ctx.obj, Invocation) and ctx.obj.verbose:
                raise
            if kwargs.get("as_json"):
                click.echo(json.dumps({"error": str(error)}, ensure_ascii=False))
            click.echo(f"Error: {error}", err=True)
            status = 1
        ctx.exit(status or 0)

    return run


def dashboard(api_base: str) -> str:
    """Where the dashboard of a platform is: the same host and port; a host `api.x` has its pages at `app.x`."""
    parts = urlsplit(api_base)
    host = parts.netloc
    if host.startswith("api."):
        host = f"app.{host.removeprefix('api.')}"
    return f"{parts.scheme}://{host}"


def mask(value: str) -> str:
    """A secret as it may be shown: its ends when it is long enough to keep the middle secret."""
    return f"{value[:4]}***{value[-4:]}" if len(value) >= 16 else "***"
