"""Build an uploaded evaluator: unpack, make its environment, import it once, put the result in place.

Everything happens in a working folder beside the account's evaluators (one mount, so that uv can hard-link from its cache) and
is renamed into `evaluators/{account}/{id}/{version}` at the end: a build is there whole or not at all, and can be run again.

uv runs confined, with the network and the way to the package index, and takes wheels only: no code of a package runs there. The user's
module is imported confined as in a job: what was built is read-only, there is no index and no network but what the owner declared.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tunesmith import launch
from tunesmith.errors import InvalidArgument, Unavailable
from tunesmith.evaluators import archive, protection, requirements, sandbox
from tunesmith.evaluators.declaration import Declaration
from tunesmith.evaluators.environment import WHEELS, Toolchain, environment_digest, overrides, uv_environment
from tunesmith.evaluators.hosts import environment, host_command, limits, network
from tunesmith.evaluators.manifest import MANIFEST, Manifest
from tunesmith.runs.files import write_atomic
from tunesmith.settings import Settings

_IMPORT_SECONDS = 120.0
_LONGEST_OUTPUT = 1024 * 1024
_SIZE_SECONDS = 1.0
"""How often the size of a growing environment is looked at."""
_LARGEST_FILE = 4 * 1024**3
_DEEPEST = 20
"""Folders below each other whose modules are compiled."""
_ONLY_WHEELS = re.compile(
    r"no usable wheels|no wheels|Building source distributions .* is disabled|only-binary|no-build", re.IGNORECASE
)
_UNREACHABLE = (
    "error sending request",
    "dns error",
    "failed to fetch",
    "could not connect",
    "tcp connect error",
    "timed out",
)


class BuildTimedOut(InvalidArgument):
    """The build or the import of the module took longer than allowed."""

    code = "DEADLINE_EXCEEDED"


@dataclass(frozen=True)
class BuildRequest:
    """What to build, and where."""

    archive: Path
    """The uploaded .tar.gz."""
    entry_point: str
    """`path.py::function`, relative to the project's folder."""
    target: Path
    """`evaluators/{account}/{id}/{version}`."""
    work: Path
    """The account's working folder, on the same file system."""
    log_path: Path
    """What happened, appended as it happens."""
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The account's secrets by environment name: modules may read them while they are imported."""
    wheels: Path = WHEELS
    """Folder with the two SDK wheels."""
    previous: Path | None = None
    """An earlier build of the evaluator, whose environment serves again where the requirements are the same."""


async def build(request: BuildRequest, settings: Settings) -> Manifest:
    """Build, or find that it was built already.

    Raises:
        InvalidArgument: something about the upload; the message is the reason a user sees.
        BuildTimedOut: it took longer than `settings.build_timeout_seconds`.
        Unavailable: the package index could not be reached and the cache does not hold what is needed.
        FailedPrecondition: the sandbox policy is strict and there is no sandbox.
    """
    digest = await asyncio.to_thread(_sha256, request.archive)
    done = Manifest.read(request.target)
    if done is not None and (done.archive_sha256, done.entry_point) == (digest, request.entry_point):
        return done
    folder = request.work / f"{request.target.parent.name}-{request.target.name}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        manifest = await _Build(request, settings, folder).run(digest)
        write_atomic(folder / MANIFEST, manifest.model_dump_json(indent=2))
        _put_in_place(folder, request.target)
        return manifest
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Build:
    """One build in progress."""

    def __init__(self, request: BuildRequest, settings: Settings, folder: Path) -> None:
        self.request = request
        self.settings = settings
        self.folder = folder
        self.source, self.venv = folder / "src", folder / "venv"
        self.deadline = time.monotonic() + settings.build_timeout_seconds
        self.toolchain = Toolchain.find(request.wheels)
        self.declaration = Declaration()

    async def run(self, digest: str) -> Manifest:
        confined = protection.describe(self.settings.sandbox)
        self._log(confined)
        self._log("unpacking the upload")
        files = await asyncio.to_thread(archive.unpack, self.request.archive, self.source)
        self._log(f"{len(files)} files")
        self._require(files)
        self.declaration = Declaration.read(self.source)
        for line in self.declaration.describe():
            self._log(line)
        await asyncio.to_thread(requirements.judge, self.source)
        digest_of_environment = await asyncio.to_thread(environment_digest, self.toolchain, self.source)
        if not await asyncio.to_thread(self._reuse, digest_of_environment):
            await self._make_environment()
        await self._compile()
        described = await self._import()
        described["sandbox"] = protection.chosen(self.settings.sandbox).as_json()
        Declaration().allowing(described.get("agent_server"))
        self._log(f"built: {described['name']} ({described['mode']})")
        entry = self.request.entry_point
        return Manifest(
            archive_sha256=digest,
            entry_point=entry,
            described=described,
            packages=installed(self.venv),
            environment=digest_of_environment,
            sandbox=confined,
            declaration=self.declaration,
            built=time.time(),
        )

    def _require(self, files: list[str]) -> None:
        if "requirements.txt" not in files:
            raise InvalidArgument(
                "The project has no requirements.txt in its top folder. Add one that lists what the evaluator imports "
                "(at least the line `eval-protocol`), then upload it again with --force."
            )
        path = self.request.entry_point.split("::")[0]
        if path.endswith(".py") and path not in files:
            found = ", ".join([name for name in files if name.endswith(".py")][:10]) or "none"
            raise InvalidArgument(
                f"The entry point {self.request.entry_point} names {path}, which is not in the upload. "
                f"Python files in it: {found}. Correct the entry point and upload it again with --force."
            )

    def _reuse(self, digest: str) -> bool:
        """Take the environment of the previous build, where it was made from the same requirements.

        In the sandbox its files are shared (hard links) and cannot be written; without one they are copied, so that whatever this
        version does, the environment that jobs have pinned stays as it is.
        """
        previous = self.request.previous
        before = Manifest.read(previous) if previous is not None else None
        if previous is None or before is None or not digest or before.environment != digest:
            return False
        try:
            copy = os.link if protection.active(self.settings.sandbox) else shutil.copy2
            shutil.copytree(previous / "venv", self.venv, symlinks=True, copy_function=copy)
        except (OSError, shutil.Error):  # it is being removed, or the file system has no hard links
            shutil.rmtree(self.venv, ignore_errors=True)
            return False
        self._log("the requirements are those of the version before: its environment serves again")
        return True

    async def _make_environment(self) -> None:
        uv, python = self.toolchain.uv, self.toolchain.python
        made = [uv, "venv", "--quiet", "--relocatable", "--python", python, self.venv]
        await self._step("making the virtual environment", made)
        override = self.folder / "overrides.txt"
        override.write_text(overrides(self.toolchain, self.source))
        # Both names are asked for, also when requirements.txt leaves them out: the host is part of the SDK.
        install = [uv, "pip", "install", "--only-binary", ":all:", "--no-config"]
        install += ["--python", self.venv / "bin" / "python", "--override", override]
        install += ["-r", self.source / "requirements.txt", "eval-protocol", "tunesmith-eval"]
        try:
            await self._step("installing requirements.txt", install)
        except Unavailable:
            self._log("the package index does not answer; trying with what was downloaded before")
            await self._step("installing requirements.txt offline", [*install, "--offline"])

    async def _compile(self) -> None:
        """Byte code of packages and project, made by an interpreter that runs none of it: later the environment is read-only."""
        folders = [self.source, *self.venv.glob("lib/python*/site-packages")]
        script = (
            f"import compileall, sys; [compileall.compile_dir(p, quiet=2, maxlevels={_DEEPEST}) for p in sys.argv[1:]]"
        )
        argv = [self.toolchain.python, "-I", "-S", "-c", script, *folders]
        limit = max(1.0, self.deadline - time.monotonic())
        # Files that do not compile are none of its business; a module that is needed fails when it is imported.
        await self._sandboxed(argv, {"LANG": "C.UTF-8"}, limit, "Compiling", writable=[self.folder])

    async def _import(self) -> dict[str, Any]:
        """Import the user's module the way a host does."""
        command = [*host_command(self.folder, self.request.entry_point), "--check"]
        env = environment(
            self.folder,
            platform_url=self.settings.base_url,
            gateway_url=self.settings.gateway_url,
            api_key="build",
            secrets=self.request.secrets,
            declaration=self.declaration,
        )
        limit = min(_IMPORT_SECONDS, max(1.0, self.deadline - time.monotonic()))
        log_from = self._log(f"importing {self.request.entry_point}")
        what = f"Importing {self.request.entry_point}"
        # A socket's path is short: the account's working folder may lie deep.
        with tempfile.TemporaryDirectory(prefix="tunesmith-") as sockets:
            reach = network(self.settings, Path(sockets) / "net", self.declaration)
            code = await self._sandboxed(command, env, limit, what, read_only=[self.folder], reach=reach)
        output = self._output(log_from)
        answer = _last_json(output)
        if code != 0 or answer.get("type") != "described":
            reason = answer.get("message") or f"exit status {code}\n{_tail(output)}"
            raise InvalidArgument(f"The evaluator {self.request.entry_point} cannot be loaded: {reason}")
        return {key: value for key, value in answer.items() if key != "type"}

    async def _step(self, what: str, argv: Sequence[str | Path]) -> None:
        """A step of uv's: with the network, and without any code of the project's."""
        log_from = self._log(what)
        cache = self.request.work / "cache"
        env = uv_environment(cache)
        seconds = max(1.0, self.deadline - time.monotonic())
        reach, work = sandbox.Network(shared=True), self.request.work
        running = asyncio.ensure_future(
            self._sandboxed(argv, env, seconds, what.capitalize(), writable=[work], reach=reach)
        )
        try:
            await self._watch_size(running, _archives(cache))
        finally:
            running.cancel()
            await asyncio.wait({running})
        code, output = running.result(), self._output(log_from)
        if code == 0:
            return
        if code == 128 + signal.SIGXFSZ or "File too large" in output:
            raise InvalidArgument(
                f"{what.capitalize()} failed: a package has a file that is larger than evaluators may hold."
            )
        if _ONLY_WHEELS.search(output):
            raise InvalidArgument(
                f"{what.capitalize()} failed: a package has no wheel for this machine, and code of packages is not run while they are "
                f"installed. Name a version that has one, or put a wheel into the upload and name its path:\n{_tail(output)}"
            )
        if any(sign in output.lower() for sign in _UNREACHABLE):
            raise Unavailable(
                f"{what.capitalize()} failed, because the package index does not answer:\n{_tail(output)}"
            )
        raise InvalidArgument(f"{what.capitalize()} failed:\n{_tail(output)}")

    async def _watch_size(self, running: asyncio.Future[int], before: set[Path]) -> None:
        """Wait for a step; raises InvalidArgument when the environment, or what is new in the cache, grows beyond what it may hold."""
        cache = self.request.work / "cache"
        most = self.settings.max_environment_bytes
        while not running.done():
            await asyncio.wait({running}, timeout=_SIZE_SECONDS)
            size = await asyncio.to_thread(lambda: sum(map(_bytes_below, _archives(cache) - before)))
            if max(size, await asyncio.to_thread(_bytes_below, self.venv)) > most:
                raise InvalidArgument(
                    f"The environment of the evaluator grows beyond {most} bytes. Ask for less in requirements.txt (of torch, say, "
                    "the build for CPUs), or have the operator raise TUNESMITH_MAX_ENVIRONMENT_BYTES."
                )

    async def _sandboxed(
        self,
        argv: Sequence[str | Path],
        env: Mapping[str, str],
        seconds: float,
        what: str,
        *,
        writable: Sequence[Path] = (),
        read_only: Sequence[Path] = (),
        reach: sandbox.Network = sandbox.Network(),
    ) -> int:
        bounds = replace(
            limits(self.settings),
            cpu_seconds=int(self.settings.build_timeout_seconds) + 1,
            file_bytes=min(_LARGEST_FILE, self.settings.max_environment_bytes),
        )
        command = sandbox.command(
            argv,
            policy=self.settings.sandbox,
            read_only=[*self.toolchain.paths, *read_only],
            writable=writable,
            hidden=[self.settings.data_dir],
            limits=bounds,
            network=reach,
            own_ports=[self.settings.port],
            cwd=self.source if self.source.exists() else self.folder,
        )
        name, log_path = f"build {self.request.target.parent.name}", self.request.log_path
        try:
            safe = sandbox.safe_environment(env)
            return await launch.run(command, name=name, timeout=seconds, log_path=log_path, env=safe)
        except TimeoutError:
            raise BuildTimedOut(
                f"{what} did not end within {seconds:.0f} seconds and was stopped. "
                "Move slow work out of import time, or raise TUNESMITH_BUILD_TIMEOUT_SECONDS."
            ) from None

    def _log(self, line: str) -> int:
        """Append a line of ours; the offset after it."""
        with open(self.request.log_path, "ab") as file:
            file.write(f"# {line}\n".encode())
            return file.tell()

    def _output(self, offset: int) -> str:
        """What was written from `offset` on; of more than `_LONGEST_OUTPUT` bytes the end, where the answer stands."""
        with open(self.request.log_path, "rb") as file:
            file.seek(max(offset, self.request.log_path.stat().st_size - _LONGEST_OUTPUT))
            return file.read().decode(errors="replace")


def _archives(cache: Path) -> set[Path]:
    """The unpacked wheels in uv's cache, and what is being unpacked."""
    return {*cache.glob("archive-v*/*"), *cache.glob(".tmp*")}


def _bytes_below(folder: Path) -> int:
    """Bytes of the files in a folder, links not followed."""
    size = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                size += os.lstat(os.path.join(path, name)).st_size
    return size


def installed(venv: Path) -> list[str]:
    """`name==version` of everything in a virtual environment, from the names of its metadata folders (nothing of it is opened)."""
    found = venv.glob("lib/python*/site-packages/*.dist-info")
    pairs = (folder.name.removesuffix(".dist-info").partition("-") for folder in found)
    return sorted(f"{name.replace('_', '-')}=={version}" for name, _, version in pairs)


def remove_build(target: Path, work: Path) -> None:
    """Delete a finished build and its working folder. Harmless when there is none."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.rmtree(work / f"{target.parent.name}-{target.name}", ignore_errors=True)


def _put_in_place(folder: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():  # an older upload under the same version: a folder with content cannot be renamed onto
        old = folder.with_name(f"{folder.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        target.rename(old)
        shutil.rmtree(old, ignore_errors=True)
    folder.rename(target)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _last_json(output: str) -> dict[str, Any]:
    """The host's answer: the last line that is a JSON object with a type; the module may print what it likes before it."""
    for line in reversed(output.splitlines()):
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict) and "type" in value:
            return value
    return {}


def _tail(output: str, lines: int = 15, characters: int = 2000) -> str:
    return "\n".join(output.strip().splitlines()[-lines:])[-characters:]
