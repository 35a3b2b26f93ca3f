"""Run untrusted evaluator code confined: it sees a read-only system, its own files, the gateway, and what its owner allowed.

With bubblewrap, as root or without privileges: its own users, process ids, network and `/tmp`, no capabilities, a filter of system calls
(`seccomp.py`). Where that does not work, Landlock (`landlock.py`), which is less and says so. In both, limits of each process (`prlimit`), a
control group for all of them where one can be made (`cgroups.py`), and a guard outside (`guard.py`).

The environment is the one given to `launch.start`: on a command line every user of the machine could read it.
"""

from __future__ import annotations

import base64
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from pathlib import Path

from tunesmith.errors import FailedPrecondition, InvalidArgument
from tunesmith.evaluators import cgroups, guard, landlock, seccomp
from tunesmith.evaluators.guard import FILTER_FD, LISTEN_FD, PROXY_PORT, PROXY_PORT_WORD, Plan

__all__ = [
    "LISTEN_FD",
    "Kind",
    "Limits",
    "Network",
    "Policy",
    "Protection",
    "active",
    "command",
    "describe",
    "protection",
]

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
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_NOBODY = "65534"
_LINKER_PREFIXES = ("LD_", "GLIBC_", "GCONV_PATH", "LOCPATH", "MALLOC_", "NLSPATH")
_GATEWAY_INSIDE, _PROXY_INSIDE = "/run/tunesmith/gateway", "/run/tunesmith/proxy"
GATEWAY_SOCKET, PROXY_SOCKET = "g.sock", "p.sock"
_LOOPBACK_NAMES = {"localhost": "127.0.0.1"}


class Policy(StrEnum):
    """`Settings.sandbox`."""

    AUTO = "auto"
    """The best that works here, and say what it is."""
    STRICT = "strict"
    """Refuse to run evaluators unless nothing is missing."""
    OFF = "off"


class Kind(StrEnum):
    """What confines an evaluator."""

    BUBBLEWRAP = "bubblewrap"
    LANDLOCK = "landlock"
    NONE = "none"


@dataclass(frozen=True)
class Protection:
    """What holds here under a policy."""

    kind: Kind
    degraded: bool
    """Something that bubblewrap with all limits would do is missing."""
    reason: str
    """What it does, or what is missing and why."""

    def as_json(self) -> dict[str, str | bool]:
        """As jobs and evaluators show it."""
        return {"kind": self.kind.value, "degraded": self.degraded, "reason": self.reason}


@dataclass(frozen=True)
class Limits:
    """What sandboxed processes may use. None = no limit."""

    memory_bytes: int | None = 4 * 1024**3
    """Private memory of each process."""
    cpu_seconds: int | None = None
    """Processor time of each process."""
    open_files: int | None = 4096
    processes: int | None = 512
    """All processes and threads together."""
    file_bytes: int | None = 4 * 1024**3
    """Largest file written."""
    tmp_bytes: int = 512 * 1024**2
    """Size of /tmp, which is memory."""
    total_memory_bytes: int | None = 8 * 1024**3
    """Of all processes together, files in /tmp included; where control groups can be made."""


@dataclass(frozen=True)
class Network:
    """What a sandboxed command may reach. Nothing by default."""

    folder: Path | None = None
    """Where the proxy's socket lies; the command sees it and cannot write there. None: no network at all."""
    gateways: Sequence[tuple[str, int]] = ()
    """Hosts and ports that stand for the gateway."""
    gateway_folder: Path | None = None
    """Where its socket lies (`g.sock`)."""
    hosts: Sequence[tuple[str, int]] = ()
    """What the owner listed; addresses of this machine answer on the same port inside."""
    everything: bool = False
    """Every public host."""
    shared: bool = False
    """The machine's own network: for programs of ours that run no code of the evaluator's."""


@dataclass(frozen=True)
class _Found:
    """What was found to work on this machine."""

    bubblewrap: str | None
    """Why it does not work; None: it does."""
    disable_userns: bool
    landlock: int
    """Version; 0: none."""
    prlimit: bool
    cgroups: bool


@cache
def probe() -> _Found:
    """Try it once per process: start a command in a sandbox and look at what it says."""
    has_limits = shutil.which("prlimit") is not None
    groups = cgroups.available()
    if shutil.which("bwrap") is None:
        why: str | None = "bubblewrap (bwrap) is not installed; on Debian: apt-get install bubblewrap"
        return _Found(why, False, landlock.abi(), has_limits, groups)
    disable_userns = True
    why = _try_bubblewrap(disable_userns=True)
    if why is not None and _try_bubblewrap(disable_userns=False) is None:  # before 0.8
        disable_userns, why = False, None
    return _Found(why, disable_userns, landlock.abi(), has_limits, groups)


def _try_bubblewrap(*, disable_userns: bool) -> str | None:
    argv = _bubblewrap(["true"], _View(), tmp_bytes=1 << 20, disable_userns=disable_userns, filtered=False)
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"bubblewrap does not start: {error}"
    if done.returncode == 0:
        return None
    hint = "user namespaces may be disabled here (inside a container: allow them, or run on the host)"
    return f"bubblewrap does not work: {done.stderr.strip() or f'exit status {done.returncode}'}; {hint}"


def protection(policy: str) -> Protection:
    """What confines evaluators under this policy.

    Raises FailedPrecondition under `strict` when something is missing, InvalidArgument for an unknown policy.
    """
    if policy not in list(Policy):
        raise InvalidArgument(f"The setting sandbox is {policy!r}; it must be one of {', '.join(Policy)}.")
    if policy == Policy.OFF:
        return Protection(Kind.NONE, True, "switched off (TUNESMITH_SANDBOX=off)")
    found = _protection(probe())
    if found.degraded and policy == Policy.STRICT:
        raise FailedPrecondition(
            f"Evaluators are not run: the sandbox policy is strict, but {found.reason}. "
            "Repair that, or set TUNESMITH_SANDBOX=auto to run them with what there is."
        )
    return found


def _protection(found: _Found) -> Protection:
    missing = [] if found.prlimit else ["prlimit is not there, so no process has limits"]
    missing += [] if seccomp.supported() else ["system calls are not filtered on this processor"]
    if os.geteuid() == 0 and not found.cgroups:
        missing.append(
            "no control group can be made here, so for root nothing bounds how many processes an evaluator starts"
        )
    if found.bubblewrap is None:
        bounds = "limits of each process" + (" and of all together" if found.cgroups else "")
        return Protection(
            Kind.BUBBLEWRAP, bool(missing), "; ".join([f"bubblewrap, its own network, {bounds}", *missing])
        )
    if found.landlock:
        missing += [] if found.landlock >= landlock.WITH_NETWORK else ["this kernel's Landlock bounds no network"]
        missing += [] if found.landlock >= landlock.WITH_SCOPES else ["this kernel's Landlock bounds no signals"]
        said = f"Landlock only, because {found.bubblewrap}; processes are seen, and a port that is allowed is allowed on every host"
        return Protection(Kind.LANDLOCK, True, "; ".join([said, *missing]))
    return Protection(Kind.NONE, True, f"{found.bubblewrap}; and this kernel has no Landlock")


def active(policy: str) -> bool:
    """Whether what a sandboxed command may not write is safe from it. Raises as `protection` does."""
    return protection(policy).kind is not Kind.NONE


def describe(policy: str) -> str:
    """One plain line for build logs and for `tunesmith up`. Raises as `protection` does."""
    found = protection(policy)
    if found.kind is Kind.NONE:
        return f"sandbox: NONE, evaluator code runs with your own rights: {found.reason}"
    return f"sandbox: {'DEGRADED, ' if found.degraded else ''}{found.reason}"


@dataclass(frozen=True)
class _View:
    """What of the file system is seen; later ones are laid over earlier ones."""

    system: Sequence[Path] = ()
    hidden: Sequence[Path] = ()
    read_only: Sequence[Path] = ()
    writable: Sequence[Path] = ()
    protected: Sequence[Path] = ()
    elsewhere: Mapping[str, Path] = field(default_factory=dict)
    """Path inside -> folder, read-only."""


def command(
    argv: Sequence[str | Path],
    *,
    policy: str,
    read_only: Sequence[Path],
    writable: Sequence[Path],
    hidden: Sequence[Path] = (),
    protected: Sequence[Path] = (),
    limits: Limits = Limits(),
    network: Network = Network(),
    own_ports: Sequence[int] = (),
    listen: Path | None = None,
    cwd: Path | None = None,
    name: str = "sandbox",
) -> list[str]:
    """The argv that runs `argv` confined, below a guard.

    Give it to `launch.start` together with the whole environment, passed through `safe_environment`.

    Args:
        argv: Program and arguments, as seen inside; paths are the same inside and outside. The word `LISTEN_FD` becomes the number of the
            open socket `listen`.
        policy: `Settings.sandbox`.
        read_only: Folders and files to show.
        writable: Folders to show and let write.
        protected: Folders inside the writable ones that stay read-only.
        hidden: Folders that must stay empty inside even where a system folder holds them (the data folder).
        limits: See `Limits`.
        network: See `Network`.
        own_ports: Ports of the platform on this machine, which no declaration opens.
        listen: Unix socket on which the command serves.
        cwd: Working directory; must be inside one of the shown folders. None = /tmp.
        name: For messages.
    """
    words = [str(word) for word in argv]
    found = protection(policy)
    folder = None if network.shared or found.kind is Kind.NONE else network.folder
    bounded = found.kind is not Kind.NONE and probe().cgroups and limits.total_memory_bytes is not None
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    view = _View([*interpreter_paths()], hidden, read_only, writable, protected)
    if found.kind is Kind.BUBBLEWRAP:
        inner = _in_bubblewrap(
            words, view, network if folder is not None else Network(shared=network.shared), limits, listen, cwd
        )
    elif found.kind is Kind.LANDLOCK:
        inner = _in_landlock(words, view, network, limits, cwd)
    else:
        # Outside a user namespace a limit on processes would count all of the user's.
        inner = ["env", "-C", str(cwd or "/tmp"), *_prlimit(limits, processes=False), *words]
    routes: list[tuple[str, int, str]] = []
    if folder is not None and network.gateway_folder is not None:
        routes = [(host, port, str(network.gateway_folder / GATEWAY_SOCKET)) for host, port in network.gateways]
    plan = Plan(
        inner,
        name=name,
        listen=str(listen) if listen else None,
        hosts=[(host, port) for host, port in network.hosts],
        everything=network.everything,
        routes=routes,
        own_ports=list(own_ports),
        proxy_socket=str(folder / PROXY_SOCKET) if folder is not None and found.kind is Kind.BUBBLEWRAP else None,
        proxy_tcp=folder is not None and found.kind is Kind.LANDLOCK,
        memory_bytes=limits.total_memory_bytes if bounded else None,
        processes=limits.processes or 1 << 20,
    )
    return plan.command()


def _in_bubblewrap(
    words: list[str], view: _View, network: Network, limits: Limits, listen: Path | None, cwd: Path | None
) -> list[str]:
    inner = [*_prlimit(limits, processes=True), *words]
    elsewhere: dict[str, Path] = {}
    if network.folder is not None:
        script = Path(guard.__file__).with_name("inside.py")
        elsewhere |= {_PROXY_INSIDE: network.folder, str(script): script}
        if network.gateway_folder is not None:
            elsewhere[_GATEWAY_INSIDE] = network.gateway_folder
        options = {"forwards": _forwards(network), "close": [LISTEN_FD] if listen is not None else []}
        python = os.path.realpath(sys.executable)
        inner = [python, "-I", "-S", str(script), json.dumps(options), "--", *inner]
    shown = _View(view.system, view.hidden, view.read_only, view.writable, view.protected, elsewhere)
    return _bubblewrap(
        inner,
        shown,
        tmp_bytes=limits.tmp_bytes,
        disable_userns=probe().disable_userns,
        filtered=seccomp.supported(),
        share_network=network.shared,
        cwd=cwd,
    )


def _forwards(network: Network) -> list[dict[str, object]]:
    """The loopback ports inside: the gateway's, the listed ones, and the proxy's."""
    proxy = f"{_PROXY_INSIDE}/{PROXY_SOCKET}"
    forwards: dict[tuple[str, int], dict[str, object]] = {("127.0.0.1", PROXY_PORT): {"socket": proxy}}
    for host, port in filter(_on_loopback, network.hosts):
        shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        forwards[_LOOPBACK_NAMES.get(host, host), port] = {"socket": proxy, "connect": shown}
    for host, port in filter(_on_loopback, network.gateways):
        forwards[_LOOPBACK_NAMES.get(host, host), port] = {"socket": f"{_GATEWAY_INSIDE}/{GATEWAY_SOCKET}"}
    return [{"host": host, "port": port, **rest} for (host, port), rest in forwards.items()]


def _in_landlock(words: list[str], view: _View, network: Network, limits: Limits, cwd: Path | None) -> list[str]:
    ports: list[int | str] = [port for _, port in filter(_on_loopback, [*network.hosts, *network.gateways])]
    own = [path for path in (*view.writable,) if path not in view.protected]
    if network.shared:
        return ["env", "-C", str(cwd or "/tmp"), *_prlimit(limits, processes=False), *words]
    program = seccomp.program(datagrams=False) if seccomp.supported() else b""
    options = {
        "read_only": [*_SYSTEM_FOLDERS, *_SYSTEM_FILES, "/proc", "/sys/devices/system/cpu"]
        + [str(path) for path in (*view.system, *view.read_only, *view.protected)],
        "writable": [*_DEVICES, *map(str, own)],
        "ports": [*ports, *([PROXY_PORT_WORD] if network.folder is not None else [])],
        "filter": base64.b64encode(program).decode(),
        "cwd": str(cwd) if cwd else "/",
    }
    # The proxy's port is known to the guard alone: as a number, it must not stand in quotes.
    text = json.dumps(options).replace(f'"{PROXY_PORT_WORD}"', PROXY_PORT_WORD)
    confined = [os.path.realpath(sys.executable), "-I", "-S", str(Path(landlock.__file__)), text, "--"]
    return [*_prlimit(limits, processes=os.geteuid() != 0 and not probe().cgroups), *confined, *words]


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


def _on_loopback(address: tuple[str, int]) -> bool:
    host = address[0]
    return host in _LOOPBACK_NAMES or host == "::1" or host.startswith("127.")


def _bubblewrap(
    argv: Sequence[str],
    view: _View,
    *,
    tmp_bytes: int,
    disable_userns: bool,
    filtered: bool,
    share_network: bool = False,
    cwd: Path | None = None,
) -> list[str]:
    words = ["bwrap", "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    words += [] if share_network else ["--unshare-net"]
    words += ["--disable-userns"] if disable_userns else []
    words += ["--seccomp", FILTER_FD] if filtered else []
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
    # /dev is memory, too: without a size of its own and the read-only mount below, files there would go past that of /tmp.
    words += ["--proc", "/proc", "--dev", "/dev", "--size", str(tmp_bytes), "--tmpfs", "/dev/shm"]
    words += ["--remount-ro", "/dev", "--size", str(tmp_bytes), "--tmpfs", "/tmp"]
    shown = [*map(Path, _SYSTEM_FOLDERS), *view.system]
    covers = [path for path in view.hidden if any(path.is_relative_to(folder) for folder in shown)]
    words += [word for path in view.system for word in ("--ro-bind", str(path), str(path))]
    words += [word for path in covers for word in ("--tmpfs", str(path))]
    words += [word for path in view.read_only for word in ("--ro-bind", str(path), str(path))]
    words += [word for path in view.writable for word in ("--bind", str(path), str(path))]
    words += [word for path in view.protected for word in ("--ro-bind", str(path), str(path))]
    words += [word for inside, path in view.elsewhere.items() for word in ("--ro-bind", str(path), inside)]
    words += [word for path in covers for word in ("--remount-ro", str(path))]
    return [*words, "--remount-ro", "/", "--chdir", str(cwd or "/tmp"), "--", *argv]


def _prlimit(limits: Limits, *, processes: bool) -> list[str]:
    if not probe().prlimit:
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
