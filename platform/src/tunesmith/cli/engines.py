"""Engines on demand: one process per base model, started by the first call that needs it and again after a crash."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from tunesmith.catalog import canonical_name, resolve
from tunesmith.engines.vllm.environment import find_vllm
from tunesmith.errors import Unavailable
from tunesmith.launch import Process, start
from tunesmith.settings import EngineKind, Settings

_START_SECONDS = 600.0
"""A large model takes minutes to read from disk."""
_STOP_GRACE_SECONDS = 5.0
_HEALTH_SECONDS = 5.0


@dataclass(frozen=True)
class Engine:
    """An engine that answered `/health`."""

    process: Process
    url: str
    base_model: str
    folder: Path
    read: tuple[int, ...]
    """Which folder it read (`_identity`): a model that was deleted, or made anew under its name, must not live on in an engine."""


class Engines:
    """The running engines, by the one name of their base model."""

    def __init__(self, settings: Settings, env: Mapping[str, str], changed: Callable[[], None]) -> None:
        self._settings = settings
        self._env = env
        self._changed = changed
        self._engines: dict[str, Engine] = {}
        self._starting: dict[str, Process] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def get(self, base_model: str) -> Engine:
        """The engine of a base model, started if need be. Callers for one model wait for the same start.

        Raises:
            NotFound: the model cannot be loaded; the catalogue's reason.
            Unavailable: the engine ended or did not answer; the end of its log.
        """
        name = canonical_name(base_model)
        async with self._locks.setdefault(name, asyncio.Lock()):
            await self._stop_replaced()
            engine = self._engines.get(name)
            if engine is None or await _is_gone(engine):
                engine = self._engines[name] = await self._start(name)
                self._changed()
            return engine

    def processes(self) -> list[Process]:
        """All that run or are being started."""
        return [*(engine.process for engine in self._engines.values()), *self._starting.values()]

    def urls(self) -> dict[int, str]:
        """Where each engine that has answered can be asked, by process id."""
        return {engine.process.pid: engine.url for engine in self._engines.values()}

    async def stop(self) -> None:
        """Stop them all at once."""
        await asyncio.gather(*(process.stop(_STOP_GRACE_SECONDS) for process in self.processes()))

    async def _stop_replaced(self) -> None:
        """Stop the engines whose model's folder is not the one any more that they read."""
        replaced = [name for name, engine in self._engines.items() if _identity(engine.folder) != engine.read]
        for engine in [self._engines.pop(name) for name in replaced]:
            await engine.process.stop(_STOP_GRACE_SECONDS)

    async def _start(self, name: str) -> Engine:
        models, made = self._settings.path("models"), self._settings.path("objects", "models")
        entry = await asyncio.to_thread(resolve, name, models_dir=models, account_models=made)  # may download
        read = _identity(entry.path)
        slug = re.sub(r"[^A-Za-z0-9.-]+", "-", entry.name).strip("-")
        port_file = self._settings.path("logs", f"engine-{slug}.port")
        port_file.unlink(missing_ok=True)
        vllm = engine_kind(self._settings, entry.name) == "vllm"
        argv = [sys.executable, "-m", "tunesmith.engines.vllm" if vllm else "tunesmith.engines"]
        argv += ["--model", entry.path, "--name", entry.name, "--port", "0", "--port-file", port_file]
        argv += ["--key-file", self._settings.path("keys", "engine.key")]
        argv += ["--threads", str(self._settings.torch_threads)]
        if vllm:
            argv += ["--vllm-python", find_vllm(self._settings.vllm_python).python]
            argv += ["--vllm-log", self._settings.path("logs", f"engine-{slug}.vllm.log")]
            argv += ["--", *self._settings.vllm_arguments]
        log_path = self._settings.path("logs", f"engine-{slug}.log")
        process = start(argv, name=f"engine {entry.name}", log_path=log_path, env=self._env)
        self._starting[name] = process
        try:
            port = await self._answering(process, port_file)
        except BaseException:
            await process.stop(grace=1.0)
            raise
        finally:
            del self._starting[name]
            port_file.unlink(missing_ok=True)
        return Engine(process, f"http://127.0.0.1:{port}", name, entry.path, read)

    async def _answering(self, process: Process, port_file: Path) -> int:
        deadline = time.monotonic() + _START_SECONDS
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
            while time.monotonic() < deadline:
                if not process.running:
                    reason = process.log_tail(8) or f"exit status {process.returncode}"
                    raise Unavailable(f"The {process.name} ended before it answered: {reason}")
                with contextlib.suppress(FileNotFoundError, ValueError, aiohttp.ClientError, TimeoutError):
                    port = int(port_file.read_text())
                    async with session.get(f"http://127.0.0.1:{port}/health") as answer:
                        if answer.status == 200:
                            return port
                await asyncio.sleep(0.1)
        raise Unavailable(
            f"The {process.name} did not answer within {_START_SECONDS:.0f} seconds; see {process.log_path}."
        )


def engine_kind(settings: Settings, name: str) -> EngineKind:
    """What serves a base model: its entry in `engine_of`, else `engine`."""
    own: dict[str, EngineKind] = {canonical_name(model): kind for model, kind in settings.engine_of.items()}
    return own.get(canonical_name(name), settings.engine)


def describe(settings: Settings) -> str:
    """One line for whoever starts the platform. Raises FailedPrecondition when vLLM is asked for and not there."""
    others = [f"{kind} for {model}" for model, kind in settings.engine_of.items() if kind != settings.engine]
    said = ", ".join([settings.engine, *others])
    if "vllm" not in (settings.engine, *settings.engine_of.values()):
        return said
    return f"{said} ({find_vllm(settings.vllm_python)})"


def _identity(folder: Path) -> tuple[int, ...]:
    """Tells a folder from one that was put in its place; empty where there is none."""
    try:
        found = (folder / "config.json").stat()
    except OSError:
        return ()
    return (found.st_ino, found.st_mtime_ns)


async def _is_gone(engine: Engine) -> bool:
    """Whether an engine has ended, or is ending: a killed process is there until its last thread is, and answers nobody."""
    if not engine.process.running:
        return True
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_HEALTH_SECONDS)) as session:
            async with session.get(f"{engine.url}/health"):
                return False
    except TimeoutError:
        return False  # alive, and busy
    except aiohttp.ClientError:
        await engine.process.stop(_STOP_GRACE_SECONDS)
        return True
