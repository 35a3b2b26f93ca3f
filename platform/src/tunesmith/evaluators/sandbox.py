"""Run untrusted evaluator code confined: it sees a read-only system, its own files, the gateway, and what its owner allowed.

With bubblewrap (`bubblewrap.py`), as root or without privileges: its own users, process ids, network and `/tmp`, no capabilities, a filter of
system calls (`seccomp.py`). Where that does not work, Landlock (`landlock.py`), which is less and says so; `protection.py` decides. In both,
limits of each process (`prlimit`), a control group for all of them where one can be made (`cgroups.py`), and a guard outside (`guard.py`).

The environment is the one given to `launch.start`: on a command line every user of the machine could read it.
"""

from __future__ import annotations

import base64
import json
import os
import resource
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tunesmith.evaluators import bubblewrap, guard, landlock, seccomp
from tunesmith.evaluators.bubblewrap import DEVICES, SYSTEM_FILES, SYSTEM_FOLDERS, View
from tunesmith.evaluators.guard import LISTEN_FD, PROXY_PORT, PROXY_PORT_WORD, Plan
from tunesmith.evaluators.protection import Kind, chosen, probe

__all__ = ["LISTEN_FD", "Limits", "Network", "command", "interpreter_paths", "safe_environment"]

_LINKER_PREFIXES = ("LD_", "GLIBC_", "GCONV_PATH", "LOCPATH", "MALLOC_", "NLSPATH")
_GATEWAY_INSIDE, _PROXY_INSIDE = "/run/tunesmith/gateway", "/run/tunesmith/proxy"
GATEWAY_SOCKET, PROXY_SOCKET = "g.sock", "p.sock"
_LOOPBACK_NAMES = {"localhost": "127.0.0.1"}


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
    found = chosen(policy)
    folder = None if network.shared or found.kind is Kind.NONE else network.folder
    bounded = found.kind is not Kind.NONE and probe().cgroups and limits.total_memory_bytes is not None
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    view = View([*interpreter_paths()], hidden, read_only, writable, protected)
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
    words: list[str], view: View, network: Network, limits: Limits, listen: Path | None, cwd: Path | None
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
    shown = View(view.system, view.hidden, view.read_only, view.writable, view.protected, elsewhere)
    return bubblewrap.command(
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


def _in_landlock(words: list[str], view: View, network: Network, limits: Limits, cwd: Path | None) -> list[str]:
    ports: list[int | str] = [port for _, port in filter(_on_loopback, [*network.hosts, *network.gateways])]
    own = [path for path in (*view.writable,) if path not in view.protected]
    if network.shared:
        return ["env", "-C", str(cwd or "/tmp"), *_prlimit(limits, processes=False), *words]
    program = seccomp.program(datagrams=False) if seccomp.supported() else b""
    options = {
        "read_only": [*SYSTEM_FOLDERS, *SYSTEM_FILES, "/proc", "/sys/devices/system/cpu"]
        + [str(path) for path in (*view.system, *view.read_only, *view.protected)],
        "writable": [*DEVICES, *map(str, own)],
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
