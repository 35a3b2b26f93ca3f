"""The command line of bubblewrap: its own users, process ids and network, and the part of the file system that is shown."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tunesmith.evaluators.guard import FILTER_FD

SYSTEM_FOLDERS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64")
# Of /etc only what name resolution, TLS, the dynamic linker and time zones read: as root the rest (shadow, keys) would be readable.
SYSTEM_FILES = (
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
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_NOBODY = "65534"


@dataclass(frozen=True)
class View:
    """What of the file system is seen; later ones are laid over earlier ones."""

    system: Sequence[Path] = ()
    hidden: Sequence[Path] = ()
    read_only: Sequence[Path] = ()
    writable: Sequence[Path] = ()
    protected: Sequence[Path] = ()
    elsewhere: Mapping[str, Path] = field(default_factory=dict)
    """Path inside -> folder, read-only."""


def command(
    argv: Sequence[str],
    view: View,
    *,
    tmp_bytes: int,
    disable_userns: bool,
    filtered: bool,
    share_network: bool = False,
    cwd: Path | None = None,
) -> list[str]:
    """The argv that runs `argv` in it.

    Args:
        argv: Program and arguments.
        view: What it sees.
        tmp_bytes: Size of /tmp, and of /dev/shm.
        disable_userns: No users of its own inside; bubblewrap 0.8 or newer.
        filtered: The filter of system calls is handed over as the open file `FILTER_FD`.
        share_network: The machine's network in place of an empty one.
        cwd: Working directory; None: /tmp.
    """
    words = ["bwrap", "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    words += [] if share_network else ["--unshare-net"]
    words += ["--disable-userns"] if disable_userns else []
    words += ["--seccomp", FILTER_FD] if filtered else []
    words += ["--uid", _NOBODY, "--gid", _NOBODY, "--hostname", "evaluator", "--cap-drop", "ALL"]
    words += ["--die-with-parent", "--new-session"]
    for folder in SYSTEM_FOLDERS:
        path = Path(folder)
        if path.is_symlink():
            words += ["--symlink", os.readlink(path), folder]
        elif path.is_dir():
            words += ["--ro-bind", folder, folder]
    for file in SYSTEM_FILES:
        words += ["--ro-bind-try", file, file]
    # /dev is memory, too: without a size of its own and the read-only mount below, files there would go past that of /tmp.
    words += ["--proc", "/proc", "--dev", "/dev", "--size", str(tmp_bytes), "--tmpfs", "/dev/shm"]
    words += ["--remount-ro", "/dev", "--size", str(tmp_bytes), "--tmpfs", "/tmp"]
    shown = [*map(Path, SYSTEM_FOLDERS), *view.system]
    covers = [path for path in view.hidden if any(path.is_relative_to(folder) for folder in shown)]
    words += [word for path in view.system for word in ("--ro-bind", str(path), str(path))]
    words += [word for path in covers for word in ("--tmpfs", str(path))]
    words += [word for path in view.read_only for word in ("--ro-bind", str(path), str(path))]
    words += [word for path in view.writable for word in ("--bind", str(path), str(path))]
    words += [word for path in view.protected for word in ("--ro-bind", str(path), str(path))]
    words += [word for inside, path in view.elsewhere.items() for word in ("--ro-bind", str(path), inside)]
    words += [word for path in covers for word in ("--remount-ro", str(path))]
    return [*words, "--remount-ro", "/", "--chdir", str(cwd or "/tmp"), "--", *argv]
