"""The client profile, `~/.tunesmith/profile.json` (0600): which platform, which key, which account. `up` writes it, clients read it."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

import click

from tunesmith.errors import FailedPrecondition

_CHOSEN_KEY = "chosen_api_key"


@dataclass(frozen=True)
class Profile:
    """A platform and the key to it; base and key are one pair."""

    api_base: str
    api_key: str = field(repr=False)
    account_id: str


def profile_path() -> Path:
    """Where the profile of this user lies."""
    return Path.home() / ".tunesmith" / "profile.json"


def find_profile() -> Profile | None:
    """The profile, or None when there is none that can be read."""
    try:
        return Profile(**json.loads(profile_path().read_text()))
    except (OSError, ValueError, TypeError):
        return None


def read_profile() -> Profile:
    """The profile, with the key of `--api-key` where the command was given one. Raises FailedPrecondition when there is none."""
    profile = find_profile()
    if profile is None:
        raise FailedPrecondition(
            f"There is no client profile at {profile_path()}. Start the platform with `tunesmith up`."
        )
    return with_chosen_key(profile)


def with_chosen_key(profile: Profile) -> Profile:
    """The same platform and account, with the key that the running command was given (`--api-key`), if it was."""
    context = click.get_current_context(silent=True)
    chosen = context.meta.get(_CHOSEN_KEY) if context is not None else None
    return replace(profile, api_key=chosen) if chosen else profile


def accept_api_key(command: click.Command) -> click.Command:
    """Give a command, or every command of a group, the flag `--api-key`."""
    if isinstance(command, click.Group):
        for child in command.commands.values():
            accept_api_key(child)
    elif not any(parameter.name == _CHOSEN_KEY for parameter in command.params):
        command.params.append(
            click.Option(
                ["--api-key", _CHOSEN_KEY],
                metavar="KEY",
                envvar="TUNESMITH_API_KEY",
                expose_value=False,
                callback=_choose_key,
                help="Key in place of the profile's, for the profile's platform (default: TUNESMITH_API_KEY).",
            )
        )
    return command


def _choose_key(context: click.Context, _parameter: click.Parameter, key: str | None) -> None:
    if key:
        context.meta[_CHOSEN_KEY] = key.strip()


def make_profile_folder() -> None:
    """Make the profile's folder. Raises FailedPrecondition when this user's home does not allow it."""
    folder = profile_path().parent
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise FailedPrecondition(
            f"The client profile cannot be kept in {folder} ({error.strerror}). Set HOME to a folder that can be written."
        ) from error


def write_profile(profile: Profile) -> Path:
    """Write it whole, readable by its owner only. Raises FailedPrecondition when that is not possible."""
    make_profile_folder()
    return _write(profile_path(), profile)


def put_aside(profile: Profile) -> Path:
    """Keep the profile of another platform beside the own one, as `profile-{port}.json`, or `profile-{host}-{port}.json`."""
    url = urlsplit(profile.api_base)
    host = "" if url.hostname in (None, "127.0.0.1", "localhost", "::1") else f"{url.hostname}-"
    slug = re.sub(r"[^A-Za-z0-9.-]+", "-", f"{host}{url.netloc.rpartition(':')[2] or 'other'}")
    return _write(profile_path().with_name(f"profile-{slug}.json"), profile)


def write_private(path: Path, text: str) -> None:
    """Write a file whole, readable by its owner only."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(text)
    temporary.replace(path)


def _write(path: Path, profile: Profile) -> Path:
    try:
        write_private(path, json.dumps(asdict(profile), indent=2))
    except OSError as error:
        raise FailedPrecondition(f"The client profile {path} cannot be written ({error.strerror}).") from error
    return path
