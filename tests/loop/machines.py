"""Machines to be pitied: what wraps a command so that it meets a small disk, another user, a dead proxy or a moved clock."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pwd
import resource
import shlex
import stat
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pip._internal.models.index import PyPI  # where pip looks when nothing else is said

from tests.loop.platform import Platform

DEAD_PROXY = "http://127.0.0.1:9"
"""Discard: nobody listens there."""

CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static long moved(void) { /* seconds that the file CLOCK_FILE holds; read each time, as it changes under running processes */
  const char *path = getenv("CLOCK_FILE");
  char text[32] = {0};
  int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
  if (file < 0) return 0;
  if (read(file, text, sizeof text - 1) < 0) text[0] = 0;
  close(file);
  return strtol(text, NULL, 10);
}
int clock_gettime(clockid_t id, struct timespec *now) {
  static int (*real)(clockid_t, struct timespec *);
  if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
  int answer = real(id, now);
  if (!answer && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) now->tv_sec += moved();
  return answer;
}
int gettimeofday(struct timeval *now, void *zone) {
  struct timespec precise;
  (void)zone;
  if (clock_gettime(CLOCK_REALTIME, &precise)) return -1;
  now->tv_sec = precise.tv_sec; now->tv_usec = precise.tv_nsec / 1000;
  return 0;
}
time_t time(time_t *where) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (where) *where = now.tv_sec;
  return now.tv_sec;
}
"""


def until(condition: Callable[[], Any], what: str, seconds: float = 300) -> None:
    """Wait for a condition. Fails, saying for what, when it does not come."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}"
        time.sleep(0.05)


class Wrapped(Platform):
    """A platform whose every command runs under `prefix`, with an environment of its own."""

    def __init__(self, home: Path, *, prefix: tuple[str, ...] = (), env: Mapping[str, str | None], **settings: object):
        super().__init__(home, **settings)
        self.prefix = prefix
        for name, value in env.items():
            if value is None:
                self.env.pop(name, None)
            else:
                self.env[name] = value

    def command(self, argv: list[Any]) -> list[Any]:
        return [*self.prefix, *argv]

    def run(self, *argv: object, cwd: Path, env: Mapping[str, str] | None = None, timeout: float = 400):
        return super().run(*self.command(list(argv)), cwd=cwd, env=env, timeout=timeout)


class Stream(threading.Thread):
    """A chat completion read as a stream, to its end or to whatever breaks it."""

    def __init__(self, platform: Platform, model: str) -> None:
        super().__init__(daemon=True)
        body = {
            "model": model,
            "messages": [{"role": "user", "content": "How many?"}],
            "max_tokens": 48,
            "stream": True,
        }
        headers = {"Authorization": f"Bearer {platform.key}", "Content-Type": "application/json"}
        self._request = urllib.request.Request(
            f"{platform.url}/v1/chat/completions", json.dumps(body).encode(), headers
        )
        self.said: list[str] = []
        """The data of its events, without the last, `[DONE]`."""
        self.whole = False
        """It was a 2xx, and was read to its end without an error."""

    @property
    def begun(self) -> bool:
        return bool(self.said)

    @property
    def id(self) -> str:
        return json.loads(self.said[0])["id"]

    def run(self) -> None:
        with contextlib.suppress(OSError, http.client.HTTPException), urllib.request.urlopen(self._request) as answer:
            for line in answer:
                if line.startswith(b"data: "):
                    self.said.append(line[6:].decode().strip())
            if self.said and self.said[-1] == "[DONE]":
                self.said.pop()
                self.whole = not any('"error"' in each for each in self.said)


def poor_words() -> dict[str, str | None]:
    """An environment without UTF-8 anywhere, as cron and minimal containers give it."""
    gone = {name: None for name in os.environ if name.startswith("LC_")}
    return {**gone, "PYTHONUTF8": None, "PYTHONIOENCODING": None, "LANG": "C", "LC_ALL": "POSIX"}


def dead_proxy() -> dict[str, str | None]:
    """Every proxy variable set to a port where nobody listens; only the package index is reached without it."""
    names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    set_ = {each: DEAD_PROXY for name in names for each in (name, name.lower())}
    index = ",".join((PyPI.netloc, PyPI.file_storage_domain))
    return {**set_, "NO_PROXY": index, "no_proxy": index}


def as_another_user() -> tuple[str, ...]:
    """A prefix that runs a command as `nobody`.

    An interpreter inside a folder that others may not enter (root's home) is shown to it in a mount namespace of its own.
    """
    user = pwd.getpwnam("nobody")
    drop = f'exec setpriv --reuid {user.pw_uid} --regid {user.pw_gid} --clear-groups -- "$@"'
    python = Path(sys.base_prefix).resolve()
    hidden = next(
        (each for each in reversed([python, *python.parents]) if not each.stat().st_mode & stat.S_IXOTH), None
    )
    if hidden is None:
        return ("sh", "-c", drop, "sh")
    show = (
        f"p={shlex.quote(str(python))} h={shlex.quote(str(hidden))} t=$(mktemp -d) && "
        'mount --bind "$p" "$t" && mount -t tmpfs -o mode=755 none "$h" && mkdir -p "$p" && mount --bind "$t" "$p" && '
        'umount "$t" && rmdir "$t" && '
    )
    return ("unshare", "--mount", "--propagation", "private", "sh", "-c", show + drop, "sh")


def few_files(soft: int, hard: int) -> tuple[str, ...]:
    """A prefix that leaves a command so many open files."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return ("prlimit", f"--nofile={soft}:{min(hard, most)}", "--")


def clock(folder: Path) -> tuple[dict[str, str | None], Path]:
    """An environment whose processes read the time of day through a file of seconds, and that file."""
    source, shim, moved = folder / "clock.c", folder / "clock.so", folder / "moved"
    source.write_text(CLOCK)
    moved.write_text("0")
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", shim, source, "-ldl"], check=True)
    return {"LD_PRELOAD": str(shim), "CLOCK_FILE": str(moved)}, moved


def can_mount() -> bool:
    """Whether this process is root and may mount file systems, which root in a container often may not."""
    return os.geteuid() == 0 and subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode == 0


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A file system of so many MB in memory, mounted at `folder`."""
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def resize(disk: Path, megabytes: int) -> None:
    """Give a `small_disk` another size."""
    subprocess.run(["mount", "-o", f"remount,size={megabytes}m", disk], check=True)


def fill(disk: Path, leave: int = 0) -> Path:
    """Fill a file system up but for `leave` bytes; returns the file to be removed again."""
    ballast = disk / "ballast"
    room = os.statvfs(disk)
    wanted = room.f_bavail * room.f_frsize - leave
    with open(ballast, "ab", buffering=0) as file, contextlib.suppress(OSError):
        os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, max(1, wanted))
    if leave == 0:
        with open(ballast, "ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"\0" * 4096)
    return ballast
