"""An evaluator's own virtual environment: uv, its requirements.txt, and our SDK in place of any pin of the published one.

`wheels/` (made by `scripts/build_sdk_wheels.py`) holds the SDK and a distribution named `eval-protocol` that only requires it.
uv's overrides put them in, whatever version the project pins; overrides lose the extras, so those are read from the project's
requirements and written into the override.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from uv import find_uv_bin

from tunesmith.errors import Internal

WHEELS = Path(__file__).with_name("wheels")
_DISTRIBUTIONS = {"eval-protocol": "eval_protocol", "tunesmith-eval": "tunesmith_eval"}
_REQUIREMENT = re.compile(r"(?P<name>eval[-_.]protocol|tunesmith[-_.]eval)\s*(\[(?P<extras>[^\]]*)\])?", re.IGNORECASE)
_INCLUDE = re.compile(r"(-r|--requirement)[\s=]+(?P<file>\S+)")
# What a person set so that uv reaches an index from this machine; the rest of our environment stays out.
_PASSED_ON = re.compile(
    r"(UV_(DEFAULT_INDEX|INDEX|INDEX_.*|EXTRA_INDEX_URL|FIND_LINKS|NATIVE_TLS|SYSTEM_CERTS|HTTP_TIMEOUT|INSECURE_HOST|KEYRING_PROVIDER))"
    r"|SSL_CERT_FILE|SSL_CERT_DIR|(HTTPS?|ALL|NO)_PROXY|(https?|all|no)_proxy"
)


@dataclass(frozen=True)
class Toolchain:
    """The programs and files with which an environment is made; all must be shown to the sandbox."""

    uv: Path
    python: Path
    """The interpreter beneath the platform's own environment."""
    wheels: dict[str, Path]
    """Distribution name -> wheel file."""

    @classmethod
    def find(cls, folder: Path = WHEELS) -> Toolchain:
        """Look them up. Raises Internal when the SDK's wheels were not built."""
        wheels: dict[str, Path] = {}
        for name, stem in _DISTRIBUTIONS.items():
            found = sorted(folder.glob(f"{stem}-*.whl"))
            if not found:
                raise Internal(
                    f"The platform's wheel of {name} is missing in {folder}. Run `python scripts/build_sdk_wheels.py` "
                    "(part of `make setup`), then upload the evaluator again."
                )
            wheels[name] = found[-1]
        return cls(Path(find_uv_bin()), Path(os.path.realpath(sys.executable)), wheels)

    @property
    def paths(self) -> list[Path]:
        """What the sandbox must show for them to run."""
        return [self.uv, *self.wheels.values()]


def overrides(toolchain: Toolchain, source: Path) -> str:
    """The text of uv's override file for the project in `source`: our wheels, with the extras that its requirements name."""
    extras = ",".join(
        sorted({extra for line in requirement_lines(source / "requirements.txt") for extra in _extras(line)})
    )
    wanted = f"[{extras}]" if extras else ""
    return "".join(f"{name}{wanted} @ {wheel.as_uri()}\n" for name, wheel in toolchain.wheels.items())


def environment_digest(toolchain: Toolchain, source: Path) -> str:
    """Digest of everything that the environment of the project in `source` is made from; equal ones give interchangeable environments.

    Empty where a requirement is, or may be, a file of the project itself (`-e .`, `./lib`, `-c constraints.txt`).
    """
    lines = list(requirement_lines(source / "requirements.txt"))
    if any(line.startswith(("-", ".")) or ("/" in line and "://" not in line) or "file:" in line for line in lines):
        return ""
    digest = hashlib.sha256("\n".join([str(toolchain.python), *lines]).encode())
    for wheel in toolchain.wheels.values():
        digest.update(wheel.read_bytes())
    return digest.hexdigest()


def requirement_lines(file: Path, root: Path | None = None, seen: frozenset[Path] = frozenset()) -> Iterator[str]:
    """The requirements of a file and of those that it includes, comments removed; never outside `root` (its folder)."""
    path, root = file.resolve(), root or file.resolve().parent
    if path in seen or not path.is_relative_to(root) or not path.is_file():
        return
    for line in path.read_text(errors="replace").splitlines():
        text = re.sub(r"(^|\s)#.*", "", line).strip()
        include = _INCLUDE.match(text)
        if include:
            yield from requirement_lines(file.parent / include["file"], root, seen | {path})
        elif text:
            yield text


def uv_environment(cache: Path) -> dict[str, str]:
    """The environment in which uv runs: no configuration but the way to the package index."""
    passed_on = {name: value for name, value in os.environ.items() if _PASSED_ON.fullmatch(name)}
    return {
        **passed_on,
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": "/tmp",
        "LANG": "C.UTF-8",
        "UV_CACHE_DIR": str(cache),
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_NO_PROGRESS": "1",
    }


def _extras(line: str) -> list[str]:
    match = _REQUIREMENT.match(line)
    if match is None or not match["extras"]:
        return []
    return [extra.strip().lower().replace("_", "-") for extra in match["extras"].split(",") if extra.strip()]
