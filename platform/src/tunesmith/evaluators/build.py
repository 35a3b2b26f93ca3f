"""Build an uploaded evaluator: unpack, make its environment, import it once, put the result in place.

Everything happens in a working folder beside the account's evaluators (one mount, so that uv can hard-link from its cache) and
is renamed into `evaluators/{account}/{id}/{version}` at the end: a build is there whole or not at all, and can be run again.
uv and the user's code run inside the sandbox. uv's cache is the account's own, since a package's build code may write to it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from tunesmith import launch
from tunesmith.errors import InvalidArgument, Unavailable
from tunesmith.evaluators import archive, sandbox
from tunesmith.evaluators.environment import WHEELS, Toolchain, environment_digest, overrides, uv_environment
from tunesmith.evaluators.hosts import environment, host_command
from tunesmith.runs.files import write_atomic
from tunesmith.settings import Settings

MANIFEST = "built.json"
_IMPORT_SECONDS = 120.0
_LONGEST_OUTPUT = 1024 * 1024
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


class Manifest(BaseModel):
    """`built.json` of a finished build."""

    archive_sha256: str
    entry_point: str
    described: dict[str, Any]
    """The host's `described` object."""
    packages: list[str]
    """`name==version` of everything installed."""
    environment: str = ""
    """Digest of what the environment was made from; empty where it cannot serve another version."""
    sandbox: str
    built: float

    @classmethod
    def read(cls, folder: Path) -> Manifest | None:
        """The manifest of a build, or None when there is no whole build in `folder`."""
        file = folder / MANIFEST
        return cls.model_validate_json(file.read_text()) if file.exists() else None


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
        self.shares = False
        """Whether files of the environment are those of an earlier build, too."""

    async def run(self, digest: str) -> Manifest:
        protection = sandbox.describe(self.settings.sandbox)
        self._log(protection)
        self._log("unpacking the upload")
        files = await asyncio.to_thread(archive.unpack, self.request.archive, self.source)
        self._log(f"{len(files)} files")
        self._require(files)
        digest_of_environment = await asyncio.to_thread(environment_digest, self.toolchain, self.source)
        if not await asyncio.to_thread(self._reuse, digest_of_environment):
            await self._make_environment()
        described = await self._import()
        self._log(f"built: {described['name']} ({described['mode']})")
        entry = self.request.entry_point
        return Manifest(
            archive_sha256=digest,
            entry_point=entry,
            described=described,
            packages=installed(self.venv),
            environment=digest_of_environment,
            sandbox=protection,
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
        self.shares = sandbox.active(self.settings.sandbox)
        try:
            copy = os.link if self.shares else shutil.copy2
            shutil.copytree(previous / "venv", self.venv, symlinks=True, copy_function=copy)
        except (OSError, shutil.Error):  # it is being removed, or the file system has no hard links
            shutil.rmtree(self.venv, ignore_errors=True)
            self.shares = False
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
        install = [uv, "pip", "install", "--python", self.venv / "bin" / "python", "--override", override]
        install += ["-r", self.source / "requirements.txt", "eval-protocol", "tunesmith-eval"]
        try:
            await self._step("installing requirements.txt", install)
        except Unavailable:
            self._log("the package index does not answer; trying with what was downloaded before")
            await self._step("installing requirements.txt offline", [*install, "--offline"])

    async def _import(self) -> dict[str, Any]:
        """Import the user's module the way a host does; the virtual environment keeps the byte code that this makes."""
        command = [*host_command(self.folder, self.request.entry_point), "--check"]
        env = environment(
            self.folder,
            platform_url=self.settings.base_url,
            gateway_url=self.settings.gateway_url,
            api_key="build",
            secrets=self.request.secrets,
        )
        limit = min(_IMPORT_SECONDS, max(1.0, self.deadline - time.monotonic()))
        log_from = self._log(f"importing {self.request.entry_point}")
        code = await self._sandboxed(command, env, limit, f"Importing {self.request.entry_point}")
        output = self._output(log_from)
        answer = _last_json(output)
        if code != 0 or answer.get("type") != "described":
            reason = answer.get("message") or f"exit status {code}\n{_tail(output)}"
            raise InvalidArgument(f"The evaluator {self.request.entry_point} cannot be loaded: {reason}")
        return {key: value for key, value in answer.items() if key != "type"}

    async def _step(self, what: str, argv: Sequence[str | Path]) -> None:
        log_from = self._log(what)
        env = uv_environment(self.request.work / "cache")
        code = await self._sandboxed(argv, env, max(1.0, self.deadline - time.monotonic()), what.capitalize())
        output = self._output(log_from)
        if code == 0:
            return
        if any(sign in output.lower() for sign in _UNREACHABLE):
            raise Unavailable(
                f"{what.capitalize()} failed, because the package index does not answer:\n{_tail(output)}"
            )
        raise InvalidArgument(f"{what.capitalize()} failed:\n{_tail(output)}")

    async def _sandboxed(self, argv: Sequence[str | Path], env: Mapping[str, str], seconds: float, what: str) -> int:
        command = sandbox.command(
            argv,
            policy=self.settings.sandbox,
            read_only=self.toolchain.paths,
            writable=[self.request.work],
            protected=[self.venv] if self.shares else [],
            hidden=[self.settings.data_dir],
            limits=sandbox.Limits(cpu_seconds=int(self.settings.build_timeout_seconds) + 1),
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
