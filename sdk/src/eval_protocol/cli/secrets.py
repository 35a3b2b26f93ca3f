"""Which of the author's secrets go to the platform, and sending them.

Read from `.env` of the project (or `--env-file`), and from nowhere else. The key of the platform itself stays here: every
job gets one of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from eval_protocol.cli.session import Printer, mask
from eval_protocol.errors import EvalProtocolError

if TYPE_CHECKING:
    from eval_protocol.client.control_plane import ControlPlane

SET_BY_THE_PLATFORM = frozenset(
    {
        "FIREWORKS_API_KEY",
        "FIREWORKS_API_BASE",
        "FIREWORKS_BASE_URL",
        "EP_MODEL_BASE_URL",
        "EP_REMOTE_API_KEY",
        "EP_INVOCATION_ID",
    }
)
"""Every job gets its own values of these, so that an uploaded one could not take effect."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


class EnvFileError(EvalProtocolError):
    """The file of secrets cannot be read."""


@dataclass(frozen=True)
class Secrets:
    """What was found."""

    source: Path | None
    """The file, None when there is none."""
    values: dict[str, str]
    """To upload: name -> value."""
    kept: dict[str, str]
    """Left here: name -> reason."""


def read_env_file(path: Path) -> dict[str, str]:
    """Read `KEY=VALUE` lines: `export`, quotes and comments are understood, nothing is expanded.

    Raises EnvFileError naming the line that is none of these.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise EnvFileError(f"{path} cannot be read: {error}. Give the file of secrets with --env-file.") from error
    values: dict[str, str] = {}
    for number, raw in enumerate(lines, 1):
        line = raw.strip().removeprefix("export ").strip()
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals or not _NAME.fullmatch(name.strip()):
            raise EnvFileError(f"Line {number} of {path} is not KEY=VALUE. Correct it, or comment it out with '#'.")
        values[name.strip()] = _unquote(value.strip())
    return values


def find_secrets(root: Path, env_file: str | None, platform_key: str | None) -> Secrets:
    """The secrets of the project at `root`. `platform_key` never leaves, under whatever name it stands in the file."""
    path = Path(env_file) if env_file else root / ".env"
    if not env_file and not path.exists():
        return Secrets(None, {}, {})
    values, kept = {}, {}
    for name, value in read_env_file(path).items():
        if name in SET_BY_THE_PLATFORM or (platform_key and value == platform_key):
            kept[name] = "the platform gives each job its own"
        elif not value:
            kept[name] = "it is empty"
        else:
            values[name] = value
    return Secrets(path, values, kept)


def choose(secrets: Secrets, ask: bool) -> Secrets:
    """Let the author untick some; without a terminal or with `--yes` all are taken."""
    if not ask or not secrets.values:
        return secrets
    import questionary

    picked = questionary.checkbox(
        "Upload these secrets?",
        choices=[questionary.Choice(name, checked=True) for name in secrets.values],
    ).unsafe_ask()
    left = {name: "not chosen" for name in secrets.values if name not in picked}
    return Secrets(secrets.source, {name: secrets.values[name] for name in picked}, {**secrets.kept, **left})


def describe(secrets: Secrets, account: str, say: Printer) -> None:
    """Say what will be uploaded and what not; values only masked."""
    say(f"🔐 Managing secrets for account: {account}")
    if secrets.source is None:
        say("Found no .env file: no secrets to upload.")
        return
    say(f"Loading secrets from: {secrets.source}")
    say(f"Found {len(secrets.values)} API keys to upload as secrets...")
    for name, value in secrets.values.items():
        say(f"   {name} ({secrets.source.name}: {mask(value)})")
    for name, reason in secrets.kept.items():
        say(f"   {name} stays here: {reason}.")


async def upload_secrets(platform: ControlPlane, secrets: Secrets, say: Printer) -> None:
    """Create or overwrite each secret."""
    for name, value in secrets.values.items():
        created = await platform.put_secret(secret_id(name), name, value)
        say(f"✓ {name} secret {'created' if created else 'updated'} on the platform.")


def secret_id(name: str) -> str:
    """Resource id of a secret: `OPENAI_API_KEY` -> `openai-api-key`."""
    return name.lower().replace("_", "-").strip("-")


def _unquote(value: str) -> str:
    if len(value) >= 2 and value[0] in "'\"" and (end := value.find(value[0], 1)) > 0:
        return value[1:end]
    return re.split(r"\s+#", value, maxsplit=1)[0].strip()
