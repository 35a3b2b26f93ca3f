"""`tunesmith.toml` in an evaluator's folder: what its owner allows its code, beside the model calls.

    network = ["api.openai.com:443", "127.0.0.1:3000"]    # or "all": every public host
    secrets = ["OPENAI_API_KEY"]                          # without the line: all of the account's

A wrong one is refused when it is uploaded. The build reads it once and keeps it in its manifest: the running evaluator cannot change it.
"""

from __future__ import annotations

import ipaddress
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import BaseModel

from tunesmith.errors import InvalidArgument

FILE = "tunesmith.toml"
_KEYS = ("network", "secrets")
LONGEST = 64 * 1024
"""Bytes of the file."""
_MOST_HOSTS = 200
_NAME = re.compile(r"(\*\.)?[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?")
_SECRET = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_DEFAULT_PORT = 443


class Declaration(BaseModel):
    """What an evaluator may reach and know."""

    hosts: list[tuple[str, int]] = []
    """(name, `*.name` or address, port)"""
    everything: bool = False
    """Every public host."""
    secrets: list[str] | None = None
    """Names of the account's secrets; None: all of them."""

    @classmethod
    def read(cls, source: Path) -> Declaration:
        """The declaration in a project's folder; without a file, no hosts and all secrets. Raises InvalidArgument."""
        file = source / FILE
        if file.is_symlink() or not file.is_file():
            return cls()
        try:
            with open(file, "rb") as stream:
                return cls.parse(stream.read(LONGEST + 1))
        except OSError as error:
            raise InvalidArgument(
                f"{FILE} cannot be read: {error}. Correct it and upload the evaluator again."
            ) from error

    @classmethod
    def parse(cls, content: bytes) -> Declaration:
        """The declaration that a file holds. Raises InvalidArgument with the line."""
        try:
            if len(content) > LONGEST:
                raise ValueError(f"it has more than {LONGEST} bytes")
            text = content.decode()
            keys = tomllib.loads(text)
        except (ValueError, RecursionError) as error:  # the latter: tomllib's, of lists a thousand deep
            raise InvalidArgument(_not_toml(content, error)) from error
        if unknown := sorted(set(keys) - set(_KEYS)):
            where = _where(text, unknown[0])
            raise InvalidArgument(f"{where} has the key {unknown[0]!r}; it may have {' and '.join(_KEYS)}.")
        network = keys.get("network", [])
        everything = network == "all"
        hosts = [] if everything else [_host(entry, text) for entry in _texts(network, "network", _MOST_HOSTS, text)]
        secrets = keys.get("secrets")
        names = None if secrets is None else [_secret(entry, text) for entry in _texts(secrets, "secrets", 1000, text)]
        return cls(hosts=hosts, everything=everything, secrets=names)

    def allowing(self, url: str | None) -> Declaration:
        """With the host of an agent server, where there is one. Raises InvalidArgument when its URL names no host."""
        if not url:
            return self
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError:
            host, port = None, 0
        if not host:
            raise InvalidArgument(f"The agent server's URL {url[:200]!r} names no host.")
        return self.model_copy(update={"hosts": [*self.hosts, (host.lower(), port)]})

    def select(self, secrets: Mapping[str, str]) -> dict[str, str]:
        """Those of the account's secrets that the evaluator gets."""
        return {name: value for name, value in secrets.items() if self.secrets is None or name in self.secrets}

    def describe(self) -> list[str]:
        """Plain lines for a build's log."""
        hosts = "every public host" if self.everything else ", ".join(f"{host}:{port}" for host, port in self.hosts)
        names = "all of the account's" if self.secrets is None else ", ".join(self.secrets) or "none"
        return [f"network: the gateway{', ' + hosts if hosts else ' only'}", f"secrets: {names}"]


def _not_toml(content: bytes, error: Exception) -> str:
    """What is wrong with a file that is no TOML, and in which line. tomllib names none where the file ends too early: it is the last then."""
    reason, found = str(error), re.search(r" \(at (line (\d+), column \d+|end of document)\)$", str(error))
    where = FILE
    if found is not None:
        written = [number for number, line in enumerate(content.decode().splitlines(), 1) if line.strip()]
        ends = "" if found[2] else ", and there the file ends"
        where, reason = f"{FILE}, line {found[2] or max(written, default=1)}", f"{reason[: found.start()]}{ends}"
    return (
        f"{where} cannot be read: {reason}. Write lists of texts, each closed with ], such as "
        'network = ["api.openai.com:443"] and secrets = ["OPENAI_API_KEY"]. Correct it and upload the evaluator again.'
    )


def _where(text: str, word: str) -> str:
    """The file, and the line of it that holds a word."""
    lines = (number for number, line in enumerate(text.splitlines(), 1) if word and word in line.partition("#")[0])
    number = next(lines, None)
    return FILE if number is None else f"{FILE}, line {number}"


def _texts(value: object, key: str, most: int, text: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        hint = ' or "all"' if key == "network" else ""
        raise InvalidArgument(f"{_where(text, key)}: {key} must be a list of texts{hint}.")
    if len(value) > most:
        raise InvalidArgument(f"{_where(text, key)}: {key} has more than {most} entries.")
    return value


def _secret(name: str, text: str) -> str:
    if not _SECRET.fullmatch(name):
        raise InvalidArgument(
            f"{_where(text, name)}: secrets names {name[:80]!r}, which is no name of an environment variable."
        )
    return name


def _host(entry: str, text: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{entry.strip()}")
        host, port = (parts.hostname or "").lower(), parts.port or _DEFAULT_PORT
        bare = not (parts.path or parts.query or parts.fragment or parts.username or parts.password)
    except ValueError:
        host, port, bare = "", 0, False
    if not bare or not (_NAME.fullmatch(host) or _is_address(host)):
        raise InvalidArgument(
            f"{_where(text, entry)}: network names {entry[:200]!r}; write HOST:PORT (such as api.openai.com:443 or 127.0.0.1:3000), "
            'or network = "all" for every public host.'
        )
    return host, port


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
