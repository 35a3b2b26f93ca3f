"""Confinement by Landlock, where bubblewrap does not work: no privilege and no namespaces are needed, and less is hidden.

`python -I -S landlock.py JSON -- argv...` confines itself, then becomes argv. Files: only what is listed. Network (Landlock 4 on): TCP
to the listed ports, and with the filter given no UDP. Signals and abstract sockets (Landlock 6 on): none out of the confinement. What it
cannot do: hide the process list, give a network, host name or /tmp of its own, or bound a host by address. Stdlib only, one file.
"""

from __future__ import annotations

import base64
import ctypes
import json
import os
import stat
import struct
import sys
from collections.abc import Sequence

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # the same on every architecture
_VERSION_FLAG = 1
_PATH_BENEATH, _NET_PORT = 1, 2
_CONNECT_TCP, _BIND_TCP = 2, 1
_READ = 1 | 4 | 8  # execute, read files, read folders
_OF_FILES = 1 | 2 | 4 | 1 << 14 | 1 << 15
_SCOPES = 1 | 2  # abstract unix sockets, signals
PR_CAPBSET_DROP, _MOST_CAPABILITIES, _CAPABILITY_VERSION_3 = 24, 64, 0x20080522
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, _FILTER_MODE = 38, 22, 2
_WITH_REFER, _WITH_TRUNCATE, WITH_NETWORK, _WITH_IOCTL, WITH_SCOPES = 2, 3, 4, 5, 6


def abi() -> int:
    """The kernel's version of Landlock; 0 without it."""
    return max(0, _libc().syscall(_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION_FLAG)))


def confine(
    read_only: Sequence[str], writable: Sequence[str], ports: Sequence[int], filter_program: bytes = b""
) -> None:
    """Confine this process and all that it starts, for good. Paths that are not there are left out.

    Raises OSError.
    """
    version = abi()
    if version < 1:
        raise OSError("the kernel has no Landlock")
    rights = (1 << 13) - 1
    for since, right in ((_WITH_REFER, 13), (_WITH_TRUNCATE, 14), (_WITH_IOCTL, 15)):
        rights |= (1 << right) if version >= since else 0
    handled = [rights]
    handled += [_CONNECT_TCP | _BIND_TCP] if version >= WITH_NETWORK else []
    handled += [_SCOPES] if version >= WITH_SCOPES else []
    attributes = struct.pack(f"={len(handled)}Q", *handled)
    ruleset = _checked(_libc().syscall(_CREATE, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0)))
    for paths, allowed in ((read_only, _READ), (writable, rights)):
        for path in paths:
            _allow_path(ruleset, path, allowed & rights)
    if version >= WITH_NETWORK:
        for port in ports:
            rule = struct.pack("=QQ", _CONNECT_TCP, port)
            _checked(_libc().syscall(_ADD, ruleset, _NET_PORT, rule, ctypes.c_uint32(0)))
    _checked(_libc().prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _checked(_libc().syscall(_RESTRICT, ruleset, ctypes.c_uint32(0)))
    os.close(ruleset)
    drop_capabilities()
    if filter_program:
        install(filter_program)


def drop_capabilities() -> None:
    """For root: without them it is a user like others, that may not read the memory and environment of every process.

    Raises OSError.
    """
    for capability in range(_MOST_CAPABILITIES):
        _libc().prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)  # refused without privilege, when there is nothing to drop
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    _checked(_libc().capset(header, bytes(24)))


def install(program: bytes) -> None:
    """Install a seccomp filter in this process. Raises OSError."""
    buffer = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
    _checked(_libc().prctl(PR_SET_SECCOMP, _FILTER_MODE, header, 0, 0))


def _allow_path(ruleset: int, path: str, allowed: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            allowed &= _OF_FILES
        rule = struct.pack("=Qi", allowed, descriptor)
        _checked(_libc().syscall(_ADD, ruleset, _PATH_BENEATH, rule, ctypes.c_uint32(0)))
    finally:
        os.close(descriptor)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def main() -> None:
    """Confine, then exec."""
    options, separator, *argv = sys.argv[1:]
    if separator != "--" or not argv:
        sys.exit("usage: landlock.py JSON -- argv...")
    wanted = json.loads(options)
    confine(wanted["read_only"], wanted["writable"], wanted["ports"], base64.b64decode(wanted["filter"]))
    if wanted.get("cwd"):
        os.chdir(wanted["cwd"])
    try:
        os.execvp(argv[0], argv)
    except OSError as error:
        sys.exit(f"{argv[0]}: {error.strerror}")


if __name__ == "__main__":
    main()
