"""Run untrusted evaluator code under bubblewrap: it sees a read-only system, its own files, and nothing of the platform.

Works as root and without privileges (user namespaces). Inside: no capabilities, its own process ids, `/tmp` in memory, the root
read-only. The environment is the one given to `launch.start`: on bubblewrap's command line every user of the machine could read it. The network is the host's for now. Limits come from `prlimit` inside the sandbox:
memory is per process (RLIMIT_DATA, since address space is cheap and reserved freely by threads and allocators); the number of
processes is enforced by the kernel only when the platform does not run as root.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path

from tunesmith.errors import FailedPrecondition, InvalidArgument

_SYSTEM_FOLDERS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64")
# Of /etc only what name resolution, TLS, the dynamic linker and time zones read: as root the rest (shadow, keys) would be readable.
_SYSTEM_FILES = (
    *(
        "/etc/ld.so.cache",
        "/etc/ld.so.conf",
        "/etc/ld.so.conf.d",
        "/etc/alternatives",
        "/etc/ssl",
        "/etc/ca-certificates",
    ),
    *(
        "/etc/pki",
        "/etc/resolv.conf",
        "/etc/hosts",
        "/etc/host.conf",
        "/etc/nsswitch.conf",
        "/etc/gai.conf",
        "/etc/services",
    ),
    *("/etc/localtime", "/etc/timezone", "/etc/mime.types", "/etc/fonts"),
)
_NOBODY = "65534"
_LINKER_PREFIXES = ("LD_", "GLIBC_", "GCONV_PATH", "LOCPATH", "MALLOC_", "NLSPATH")


class Policy(StrEnum):
    """`Settings.sandbox`."""

    AUTO = "auto"
    """bubblewrap where it works, else go on without and say so."""
    STRICT = "strict"
    """Refuse to run evaluators without it."""
    OFF = "off"


@dataclass(frozen=True)
class Limits:
    """What one sandboxed process may use. None = no limit."""

    memory_bytes: int | None = 4 * 1024**3
    """Private memory of each process."""
    cpu_seconds: int | None = None
    """Processor time of each process."""
    open_files: int | None = 4096
    processes: int | None = 512
    file_bytes: int | None = 4 * 1024**3
    """Largest file written."""
    tmp_bytes: int = 512 * 1024**2
    """Size of /tmp, which is memory."""


@dataclass(frozen=True)
class SandboxReport:
    """Whether the sandbox works here. `reason` says why not, or what it protects."""

    works: bool
    reason: str
    limits: bool
    """prlimit is there."""


@cache
def probe() -> SandboxReport:
    """Try it once per process: start a command in a sandbox and look at what it says."""
    has_limits = shutil.which("prlimit") is not None
    if shutil.which("bwrap") is None:
        return SandboxReport(
            False, "bubblewrap (bwrap) is not installed; on Debian: apt-get install bubblewrap", has_limits
        )
    argv = _bubblewrap(["true"], _View(), tmp_bytes=1 << 20)
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return SandboxReport(False, f"bubblewrap does not start: {error}", has_limits)
    if done.returncode != 0:
        why = done.stderr.strip() or f"exit status {done.returncode}"
        hint = "user namespaces may be disabled here (inside a container: allow them, or run on the host)"
        return SandboxReport(False, f"bubblewrap does not work: {why}; {hint}", has_limits)
    limits = "with limits" if has_limits else "without limits (prlimit is missing)"
    return SandboxReport(True, f"bubblewrap, {limits}; network shared", has_limits)


def active(policy: str) -> bool:
    """Whether evaluators run sandboxed under this policy.

    Raises FailedPrecondition under `strict` when the sandbox does not work, InvalidArgument for an unknown policy.
    """
    if policy not in list(Policy):
        raise InvalidArgument(f"The setting sandbox is {policy!r}; it must be one of {', '.join(Policy)}.")
    if policy == Policy.OFF:
        return False
    report = probe()
    if not report.works and policy == Policy.STRICT:
        raise FailedPrecondition(
            f"Evaluators are not run: the sandbox policy is strict, but {report.reason}. "
            "Repair that, or set TUNESMITH_SANDBOX=auto to run them unprotected."
        )
    return report.works


def describe(policy: str) -> str:
    """One plain line for build logs and for `tunesmith up`. Raises as `active` does."""
    if active(policy):
        return f"sandbox: {probe().reason}"
    why = "switched off (TUNESMITH_SANDBOX=off)" if policy == Policy.OFF else probe().reason
    return f"sandbox: NONE, evaluator code runs with your own rights: {why}"


def command(
    argv: Sequence[str | Path],
    *,
    policy: str,
    read_only: Sequence[Path],
    writable: Sequence[Path],
    hidden: Sequence[Path] = (),
    protected: Sequence[Path] = (),
    limits: Limits = Limits(),
    cwd: Path | None = None,
) -> list[str]:
    """The argv that runs `argv` sandboxed; without a sandbox, with those limits that work there.

    Give it to `launch.start` together with the whole environment, passed through `safe_environment`.

    Args:
        argv: Program and arguments, as seen inside; paths are the same inside and outside.
        policy: `Settings.sandbox`.
        read_only: Folders and files to show.
        writable: Folders to show and let write.
        protected: Folders inside the writable ones that stay read-only.
        hidden: Folders that must stay empty inside even where a system folder holds them (the data folder).
        limits: See `Limits`.
        cwd: Working directory; must be inside one of the shown folders. None = /tmp.
    """
    words = [str(word) for word in argv]
    if active(policy):
        inner = [*_prlimit(limits, processes=True), *words]
        view = _View([*interpreter_paths()], hidden, read_only, writable, protected)
        return _bubblewrap(inner, view, tmp_bytes=limits.tmp_bytes, cwd=cwd)
    # Outside a user namespace a limit on processes would count all of the user's.
    return ["env", "-C", str(cwd or "/tmp"), *_prlimit(limits, processes=False), *words]


def safe_environment(env: Mapping[str, str]) -> dict[str, str]:
    """Without the names that would change the programs between us and the sandbox (the dynamic linker's)."""
    return {name: value for name, value in env.items() if not name.startswith(_LINKER_PREFIXES)}


def interpreter_paths() -> list[Path]:
    """Where the running Python is installed (pyenv, uv, system): virtual environments made from it point there."""
    prefixes = {
        Path(sys.base_prefix),
        Path(sys.base_prefix).resolve(),
        Path(os.path.realpath(sys.executable)).parent.parent,
    }
    return sorted(prefix for prefix in prefixes if prefix.is_dir() and not prefix.is_relative_to("/usr"))


@dataclass(frozen=True)
class _View:
    """What of the file system is seen; later ones are laid over earlier ones."""

    system: Sequence[Path] = ()
    hidden: Sequence[Path] = ()
    read_only: Sequence[Path] = ()
    writable: Sequence[Path] = ()
    protected: Sequence[Path] = ()


def _bubblewrap(argv: Sequence[str], view: _View, *, tmp_bytes: int, cwd: Path | None = None) -> list[str]:
    words = ["bwrap", "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    words += ["--uid", _NOBODY, "--gid", _NOBODY, "--hostname", "evaluator", "--cap-drop", "ALL"]
    words += ["--die-with-parent", "--new-session"]
    for folder in _SYSTEM_FOLDERS:
        path = Path(folder)
        if path.is_symlink():
            words += ["--symlink", os.readlink(path), folder]
        elif path.is_dir():
            words += ["--ro-bind", folder, folder]
    for file in _SYSTEM_FILES:
        words += ["--ro-bind-try", file, file]
    words += ["--proc", "/proc", "--dev", "/dev", "--size", str(tmp_bytes), "--tmpfs", "/tmp"]
    shown = [*map(Path, _SYSTEM_FOLDERS), *view.system]
    covers = [path for path in view.hidden if any(path.is_relative_to(folder) for folder in shown)]
    words += [word for path in view.system for word in ("--ro-bind", str(path), str(path))]
    words += [word for path in covers for word in ("--tmpfs", str(path))]
    words += [word for path in view.read_only for word in ("--ro-bind", str(path), str(path))]
    words += [word for path in view.writable for word in ("--bind", str(path), str(path))]
    words += [word for path in view.protected for word in ("--ro-bind", str(path), str(path))]
    words += [word for path in covers for word in ("--remount-ro", str(path))]
    return [*words, "--remount-ro", "/", "--chdir", str(cwd or "/tmp"), "--", *argv]


def _prlimit(limits: Limits, *, processes: bool) -> list[str]:
    if not probe().limits:
        return []
    wanted = {
        "data": limits.memory_bytes,
        "cpu": limits.cpu_seconds,
        "nofile": limits.open_files,
        "nproc": limits.processes if processes else None,
        "fsize": limits.file_bytes,
    }
    options = [f"--{name}={_within_hard_limit(name, value)}" for name, value in wanted.items() if value is not None]
    return ["prlimit", "--core=0", *options, "--"]


def _within_hard_limit(name: str, value: int) -> int:
    """A hard limit cannot be raised without privilege, and asking to would fail the whole command."""
    number = getattr(resource, f"RLIMIT_{name.upper()}")
    _, hard = resource.getrlimit(number)
    return value if hard == resource.RLIM_INFINITY else min(value, hard)
