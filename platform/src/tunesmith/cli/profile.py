"""The client profile, `~/.tunesmith/profile.json` (0600): which platform, which key, which account. `up` writes it, clients read it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tunesmith.errors import FailedPrecondition


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
    """The profile. Raises FailedPrecondition when there is none."""
    profile = find_profile()
    if profile is None:
        raise FailedPrecondition(
            f"There is no client profile at {profile_path()}. Start the platform with `tunesmith up`."
        )
    return profile


def write_profile(profile: Profile) -> Path:
    """Write it whole, readable by its owner only."""
    path = profile_path()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".profile.{os.getpid()}.tmp")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as file:
        json.dump(asdict(profile), file, indent=2)
    temporary.replace(path)
    return path
