"""The platform's own keys, made on first start under `keys/`, readable by their owner only (0600).

`master.key` encrypts secrets, `pepper.key` digests API keys and signs URLs, `internal.key` is the bearer of our own processes,
`engine.key` that of the engines. Losing the folder loses every stored secret and API key; nothing else.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from tunesmith.errors import Internal
from tunesmith.settings import Settings


@dataclass(frozen=True)
class Keys:
    """Master key and pepper are 32 raw bytes; the bearers are text."""

    master: bytes = field(repr=False)
    pepper: bytes = field(repr=False)
    internal: str = field(repr=False)
    engine: str = field(repr=False)


def load_keys(settings: Settings) -> Keys:
    """Read the four keys, making those that are missing. Safe when several processes start at once."""
    return Keys(
        master=bytes.fromhex(_read_or_make(settings.path("keys", "master.key"))),
        pepper=bytes.fromhex(_read_or_make(settings.path("keys", "pepper.key"))),
        internal=_read_or_make(settings.path("keys", "internal.key")),
        engine=_read_or_make(settings.path("keys", "engine.key")),
    )


def _read_or_make(path: Path) -> str:
    path.parent.chmod(0o700)
    if not path.exists():
        _publish(path, secrets.token_hex(32))
    text = path.read_text().strip()
    if len(text) != 64:
        raise Internal(f"The key file {path} does not hold 64 hex characters. Restore it from a backup, or remove it.")
    return text


def _publish(path: Path, text: str) -> None:
    """Write a private file whole, then link it into place: whoever comes first wins, nobody reads half a key."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        os.write(handle, text.encode() + b"\n")
        os.fsync(handle)
        os.close(handle)
        os.link(temporary, path)
    except FileExistsError:
        pass  # another process made it meanwhile
    finally:
        os.unlink(temporary)
