"""Start an evaluator host: the user's module in its own environment and sandbox, behind a unix socket.

The wire is `docs/reference/seams.md`, "Evaluator host". The host sees its build, read-only, and the folder of its socket; its
environment holds the gateway's address, the job's rollout key, the account's secrets, and nothing of the platform's.
Restarting a host that crashed is the caller's business: `EvaluatorHost.process` says when.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.errors import FailedPrecondition, InvalidArgument, Unavailable
from tunesmith.evaluators import sandbox
from tunesmith.evaluators.client import HostClient
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

    async def stop(self, grace: float = 3.0) -> None:
        """Stop it with everything that it started."""
        await self.process.stop(grace)
        self.socket.unlink(missing_ok=True)


def environment(
    build_dir: Path, *, platform_url: str, gateway_url: str, api_key: str, secrets: Mapping[str, str]
) -> dict[str, str]:
    """The whole environment of an evaluator. Our names win over a secret of the same name (clients upload FIREWORKS_API_KEY).

    Args:
        build_dir: Folder with `src/` and `venv/`.
        platform_url: Address of control plane and gateway. Key and address go together: a key alone would be sent to the
            hosted service by clients that know no other.
        gateway_url: Address of the gateway, for model calls, status, logs and traces; the evaluator hands it on to agents, which
            may run on other machines.
        api_key: The job's rollout key.
        secrets: The account's secrets, by environment name.
    """
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
    return sandbox.safe_environment({**secrets, **ours})


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
    limits: sandbox.Limits = sandbox.Limits(),
    timeout: float = 60.0,
) -> EvaluatorHost:
    """Start a host and wait until it answers `describe`. Main thread only.

    Args:
        build_dir: An ACTIVE build, with `src/` and `venv/`.
        entry_point: `path.py::function`.
        socket: Where it listens. Its folder is shown to the evaluator, writable: it must hold nothing else.
        env: From `environment`.
        settings: For the sandbox policy and the data folder to hide.
        log_path: Its output.
        limits: Of each of its processes.
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
    command = sandbox.command(
        [
            *host_command(build_dir, entry_point),
            "--socket",
            str(socket),
            "--evaluation-timeout",
            str(settings.evaluation_timeout_seconds),
        ],
        policy=settings.sandbox,
        read_only=[build_dir],
        writable=[socket.parent],
        hidden=[settings.data_dir],
        limits=limits,
        cwd=build_dir / "src",
    )
    process = start(command, name=f"evaluator host {entry_point}", log_path=log_path, env=sandbox.safe_environment(env))
    try:
        described = await _describe(process, socket, timeout)
    except BaseException:
        await process.stop(grace=1.0)
        raise
    return EvaluatorHost(process, socket, described)


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
