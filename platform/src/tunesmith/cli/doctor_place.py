"""Which platform `tunesmith doctor` looks at, who says so, and which others run on this machine."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tunesmith.cli.lockfile import Running, running
from tunesmith.cli.profile import Profile, profile_path

if TYPE_CHECKING:
    from tunesmith.settings import Settings

_DEFAULT = "the default"


@dataclass(frozen=True)
class Check:
    """What was found of one thing."""

    name: str
    state: str
    """`ok`, `warning` or `error`."""
    found: str
    remedy: str = ""


@dataclass(frozen=True)
class Place:
    """A data folder, a port and a URL, each with what named it."""

    data_dir: Path
    data_dir_from: str
    port: int
    port_from: str
    url: str | None
    """Of the client profile; None without one."""
    own: Running | None
    """The platform of the data folder, where it runs."""
    elsewhere: tuple[Running, ...]
    """Platforms on other data folders."""

    @classmethod
    def of(cls, settings: Settings, data_dir: str | None, profile: Profile | None) -> Place:
        """What the settings lead to. Where the platform of the data folder runs, its port is the one that it was started with."""
        platforms = running()
        own = next((each for each in platforms if each.data_dir == settings.data_dir), None)
        return cls(
            data_dir=settings.data_dir,
            data_dir_from="--data-dir" if data_dir else _origin("data_dir", settings.data_dir),
            port=own.port if own else settings.port,
            port_from=f"process {own.pid} runs there" if own else _origin("port", settings.data_dir),
            url=profile.api_base if profile else None,
            own=own,
            elsewhere=tuple(each for each in platforms if each != own),
        )

    def lines(self) -> list[str]:
        """For people: what is looked at, and how to look at something else."""
        return [
            f"Data folder  {self.data_dir} ({self.data_dir_from}); another: --data-dir, or TUNESMITH_DATA_DIR",
            f"Port         {self.port} ({self.port_from}); another: TUNESMITH_PORT",
            f"API          {self.url or 'none'} ({profile_path()}); another: write its URL and key there, as its `tunesmith up` does",
        ]

    def others(self) -> list[Check]:
        """Platforms that are not looked at: a warning where the one that is does not run, or the client profile leads to another."""
        if not self.elsewhere:
            return []
        port = _port_here(self.url)
        missed = self.own is None or any(each.port == port for each in self.elsewhere)
        named = "; ".join(f"{each.data_dir} on port {each.port} (process {each.pid})" for each in self.elsewhere)
        first = next((each for each in self.elsewhere if each.port == port), self.elsewhere[0])
        remedy = f"`tunesmith doctor --data-dir {first.data_dir}` looks at it." if missed else ""
        return [Check("elsewhere", "warning" if missed else "ok", f"a platform runs on {named}", remedy)]

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "dataDir": str(self.data_dir),
            "dataDirFrom": self.data_dir_from,
            "port": self.port,
            "portFrom": self.port_from,
            "apiBase": self.url,
            "profile": str(profile_path()),
            "elsewhere": [
                {"dataDir": str(each.data_dir), "port": each.port, "pid": each.pid} for each in self.elsewhere
            ],
        }


def _port_here(url: str | None) -> int | None:
    """The port of a URL that surely leads to this machine; None for any other."""
    found = urlsplit(url or "")
    try:
        here = found.hostname == "localhost" or ip_address(found.hostname or "").is_loopback
        return (found.port or {"http": 80, "https": 443}.get(found.scheme)) if here else None
    except ValueError:  # a name of another machine, or no URL at all
        return None


def _origin(name: str, data_dir: Path) -> str:
    """What gave a setting that no flag did."""
    variable = f"TUNESMITH_{name.upper()}"
    if os.environ.get(variable):
        return variable
    file = data_dir / "config.json"
    if name != "data_dir" and file.is_file() and name in json.loads(file.read_text()):
        return str(file)
    return _DEFAULT
