"""The system calls that evaluator code is refused, as a BPF program for `bwrap --seccomp` and for `prctl(PR_SET_SECCOMP)`.

Everything is allowed but what reaches into other processes, makes namespaces or mounts, or opens a large part of the kernel that scoring
has no use for (bpf, io_uring, userfaultfd, kernel keys, modules). Refused calls fail with EPERM; `clone3` with ENOSYS, since its flags
lie in memory that a filter cannot read, and the C library then uses `clone`. Sockets are unix, IPv4, IPv6 and netlink only: others
(vsock, packet, AF_ALG) are not bound to a network namespace, or are a way into the kernel.

x86_64 and aarch64, of which only the first has been run.
"""

from __future__ import annotations

import platform
import struct

# name -> (x86_64, aarch64); None where the architecture has no such call. From the kernel's syscall tables.
_REFUSED: dict[str, tuple[int | None, int | None]] = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "syslog": (103, 116),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "iopl": (172, None),
    "ioperm": (173, None),
    "modify_ldt": (154, None),
}
_CLONE3 = 435
_ARCHITECTURES = {"x86_64": (0, 0xC000003E, 56, 41, 16), "aarch64": (1, 0xC00000B7, 220, 198, 29)}
"""machine -> (column above, AUDIT_ARCH, clone, socket, ioctl)"""
_X32_BIT = 0x40000000
_NEW_NAMESPACES = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET"""
_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK = 1, 2, 10, 16
_SOCK_DGRAM, _SOCK_TYPE = 2, 0xF
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
_EPERM, _ENOSYS = 1, 38
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN, _AND = 0x20, 0x15, 0x35, 0x45, 0x06, 0x54
_NR, _ARCH, _FIRST_ARGUMENT = 0, 4, 16


def supported() -> bool:
    """Whether there is a filter for this machine."""
    return platform.machine() in _ARCHITECTURES


def program(*, datagrams: bool = True, machine: str | None = None) -> bytes:
    """The filter: an array of `struct sock_filter`, little-endian.

    Args:
        datagrams: False refuses UDP sockets, too: where the network is shared, Landlock bounds TCP only.
        machine: `platform.machine()` of the kernel it is for; None = this one.

    Raises KeyError for a machine without a filter (`supported`).
    """
    column, arch, clone, socket, ioctl = _ARCHITECTURES[machine or platform.machine()]
    refuse = _errno(_EPERM)
    lines = [_op(_LOAD, _ARCH), _op(_EQUAL, arch, 1, 0), _op(_RETURN, _KILL), _op(_LOAD, _NR)]
    if column == 0:
        lines += [_op(_AT_LEAST, _X32_BIT, 0, 1), refuse]
    for numbers in _REFUSED.values():
        number = numbers[column]
        if number is not None:
            lines += [_op(_EQUAL, number, 0, 1), refuse]
    lines += [_op(_EQUAL, _CLONE3, 0, 1), _errno(_ENOSYS)]
    lines += _when(clone, [_load_argument(0), _op(_ANY_BIT, _NEW_NAMESPACES, 0, 1), refuse, _allow()])
    families = [_AF_UNIX, _AF_NETLINK]
    if datagrams:
        families += [_AF_INET, _AF_INET6]
    checks = [_load_argument(0)]
    for family in families:
        checks += [_op(_EQUAL, family, 0, 1), _allow()]
    if not datagrams:
        checks += [_op(_EQUAL, _AF_INET, 2, 0), _op(_EQUAL, _AF_INET6, 1, 0), refuse]
        checks += [_load_argument(1), _op(_AND, _SOCK_TYPE), _op(_EQUAL, _SOCK_DGRAM, 0, 1), refuse, _allow()]
    else:
        checks += [refuse]
    lines += _when(socket, checks)
    terminal = [_op(_EQUAL, _TIOCSTI, 0, 1), refuse, _op(_EQUAL, _TIOCLINUX, 0, 1), refuse, _allow()]
    lines += _when(ioctl, [_load_argument(1), *terminal])
    return b"".join([*lines, _allow()])


def _when(number: int, block: list[bytes]) -> list[bytes]:
    """Run `block`, which returns on every way, for one system call."""
    return [_op(_EQUAL, number, 0, len(block)), *block]


def _load_argument(index: int) -> bytes:
    return _op(_LOAD, _FIRST_ARGUMENT + 8 * index)  # the low half


def _errno(number: int) -> bytes:
    return _op(_RETURN, _ERRNO | number)


def _allow() -> bytes:
    return _op(_RETURN, _ALLOW)


def _op(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, value)
