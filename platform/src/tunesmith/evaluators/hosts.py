"""Start an evaluator host: the user's module in its own environment and sandbox, behind a unix socket.

The wire is `docs/reference/seams.md`, "Evaluator host". The host sees its build, read-only, and gets its socket open; its
environment holds the gateway's address, the job's rollout key, the secrets that it declares, and nothing of the platform's.
Restarting a host that crashed is the caller's business: `EvaluatorHost.process` says when.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tunesmith.errors import FailedPrecondition, InvalidArgument, Unavailable
from tunesmith.evaluators import sandbox
from tunesmith.evaluators.client import HostClient
from tunesmith.evaluators.declaration import Declaration
from tunesmith.evaluators.manifest import Manifest
from tunesmith.evaluators.protection import Kind, Protection, chosen
from tunesmith.launch import Process, start
from tunesmith.settings import Settings

_LONGEST_SOCKET_PATH = 107  # bytes of sun_path, less the closing zero


@dataclass(frozen=True)
class EvaluatorHost:
    """A host that answers."""

    process: Process
    socket: Path
    described: dict[str, Any]
    """`{"name", "mode", "file", "line", "timeout"}`."""
    protection: Protection
    """What confines it."""

    async def stop(self, grace: float = 3.0) -> None:
        """Stop it with everything that it started."""
        await self.process.stop(grace)
        self.socket.unlink(missing_ok=True)


def environment(
    build_dir: Path,
    *,
    platform_url: str,
    gateway_url: str,
    api_key: str,
    secrets: Mapping[str, str],
    declaration: Declaration | None = None,
) -> dict[str, str]:
    """The whole environment of an evaluator. Our names win over a secret of the same name (clients upload FIREWORKS_API_KEY).

    Args:
        build_dir: Folder with `src/` and `venv/`.
        platform_url: Address of control plane and gateway. Key and address go together: a key alone would be sent to the
            hosted service by clients that know no other.
        gateway_url: Address of the gateway, for model calls, status, logs and traces; the evaluator hands it on to agents, which
            may run on other machines.
        api_key: The job's rollout key.
        secrets: The account's secrets, by environment name; those that the evaluator declares are taken.
        declaration: What it declares; None = as its build has it.
    """
    if declaration is None:
        manifest = Manifest.read(build_dir)
        declaration = manifest.network() if manifest is not None else Declaration()
    ours = {
        "EP_MODEL_BASE_URL": gateway_url,
        "FW_TRACING_GATEWAY_BASE_URL": gateway_url,
        "FIREWORKS_API_BASE": platform_url,
        "FIREWORKS_BASE_URL": platform_url,
        "FIREWORKS_API_KEY": api_key,
        "EP_REMOTE_API_KEY": api_key,
        "PATH": f"{build_dir / 'venv' / 'bin'}:/usr/local/bin:/usr/bin:/bin",
        "HOME": "/tmp",
        "LANG": "C.UTF-8",
    }
    return sandbox.safe_environment({**declaration.select(secrets), **ours})


def network(settings: Settings, folder: Path, declaration: Declaration) -> sandbox.Network:
    """What an evaluator may reach: the gateway, and what its owner declared.

    Args:
        settings: For the addresses under which the gateway is known.
        folder: For the proxy's socket; shown to the evaluator.
        declaration: The owner's.
    """
    gateways, hosts = [_address(settings.base_url)], list(declaration.hosts)
    if settings.public_url:
        # With TLS it is reached as any other host; without, its requests can be led to the gateway's socket.
        (hosts if settings.public_url.startswith("https") else gateways).append(_address(settings.public_url))
    gateway_folder = settings.path("gateway", "x").parent
    gateway_folder.mkdir(exist_ok=True, mode=0o700)
    return sandbox.Network(folder, gateways, gateway_folder, hosts, declaration.everything)


def limits(settings: Settings) -> sandbox.Limits:
    """Of a host, from the settings."""
    return sandbox.Limits(total_memory_bytes=settings.evaluator_memory_bytes, processes=settings.evaluator_processes)


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return str(parts.hostname), parts.port or (443 if parts.scheme == "https" else 80)


def host_command(build_dir: Path, entry_point: str) -> list[str]:
    """The host's argv without `--socket` or `--check`."""
    return [str(build_dir / "venv" / "bin" / "python"), "-m", "eval_protocol.host", "--entry", entry_point]


async def start_host(
    *,
    build_dir: Path,
    entry_point: str,
    socket: Path,
    env: Mapping[str, str],
    settings: Settings,
    log_path: Path,
    bounds: sandbox.Limits | None = None,
    timeout: float = 60.0,
) -> EvaluatorHost:
    """Start a host and wait until it answers `describe`. Main thread only.

    Args:
        build_dir: An ACTIVE build, with `src/` and `venv/`.
        entry_point: `path.py::function`.
        socket: Where it listens. Its folder must hold nothing else: a host built by an earlier version binds the socket itself, and
            may write there.
        env: From `environment`.
        settings: For the sandbox policy and the data folder to hide.
        log_path: Its output.
        bounds: What its processes may use; None = as the settings say.
        timeout: Seconds until it must answer.

    Raises:
        InvalidArgument: the host reports that the module cannot be loaded.
        Unavailable: it ended or did not answer in time; the message has the end of its log.
        FailedPrecondition: no sandbox under the strict policy, or the socket's path is too long for the kernel.
    """
    if len(os.fsencode(socket)) > _LONGEST_SOCKET_PATH:
        raise FailedPrecondition(
            f"The path {socket} is too long for a unix socket. Use a data folder with a shorter path."
        )
    socket.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    socket.unlink(missing_ok=True)
    protection = chosen(settings.sandbox)
    manifest = Manifest.read(build_dir)
    takes_socket = manifest is not None and manifest.described.get("listens") == "fd"
    reach = network(settings, socket.parent / "net", manifest.network() if manifest is not None else Declaration())
    argv = [*host_command(build_dir, entry_point), "--evaluation-timeout", str(settings.evaluation_timeout_seconds)]
    argv += ["--listen-fd", sandbox.LISTEN_FD] if takes_socket else ["--socket", str(socket)]
    writable = [] if takes_socket else [socket.parent]
    scratch: dict[str, str] = {}
    if protection.kind is Kind.LANDLOCK:  # there is no /tmp of its own
        folder = socket.parent / "tmp"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        writable.append(folder)
        scratch = {"HOME": str(folder), "TMPDIR": str(folder)}
    own = {Kind.BUBBLEWRAP: ["/tmp", "/dev/shm"], Kind.LANDLOCK: list(scratch.values())[:1]}
    for folder in own.get(protection.kind, []) if takes_socket else []:
        argv += ["--scratch", str(folder)]
    command = sandbox.command(
        argv,
        policy=settings.sandbox,
        read_only=[build_dir],
        writable=writable,
        protected=[] if takes_socket else [socket.parent / "net"],
        hidden=[settings.data_dir],
        limits=bounds or limits(settings),
        network=reach,
        own_ports=[settings.port],
        listen=socket if takes_socket else None,
        cwd=build_dir / "src",
        name=f"evaluator host {entry_point}",
    )
    safe = sandbox.safe_environment({**env, **scratch})
    process = start(command, name=f"evaluator host {entry_point}", log_path=log_path, env=safe)
    try:
        described = await _describe(process, socket, timeout)
    except BaseException:
        await process.stop(grace=1.0)
        raise
    return EvaluatorHost(process, socket, described, protection)


async def _describe(process: Process, socket: Path, timeout: float) -> dict[str, Any]:
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if not process.running:
            tail = process.log_tail()
            raise Unavailable(f"The {process.name} ended with status {process.returncode} before it answered:\n{tail}")
        try:
            answer = await asyncio.wait_for(HostClient(socket).describe(), deadline - time.monotonic())
        except Unavailable:
            await asyncio.sleep(0.05)
            continue
        except TimeoutError:
            break
        except FailedPrecondition as error:
            raise InvalidArgument(f"The {process.name} cannot run: {error.message}") from error
        return {key: value for key, value in answer.items() if key != "type"}
    raise Unavailable(f"The {process.name} did not answer within {timeout:.0f} seconds:\n{process.log_tail()}")
