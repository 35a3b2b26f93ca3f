"""The vLLM server: started as a child on a unix socket in a private folder, awaited, stopped, and explained when it ends."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tunesmith.engines.vllm.client import VllmClient
from tunesmith.engines.vllm.environment import Environment
from tunesmith.errors import Unavailable
from tunesmith.launch import Process, start

_START_SECONDS = 1800.0
"""Reading a large model and capturing its graphs takes minutes."""
_STOP_GRACE_SECONDS = 3.0
_FOLDER = "tunesmith-vllm-"
_PLUGIN = "tunesmith_vllm_plugin"
_CAUSE = re.compile(r"((?:\w+\.)*\w*(?:Error|Exception)\b: .+|.*\berror: .+)$")


@dataclass(frozen=True)
class ServerOptions:
    """What the child is started with."""

    environment: Environment
    folder: Path
    name: str
    """Of the base model."""
    threads: int
    """On the CPU; accelerators do without."""
    max_loras: int
    """Adapters that one batch may use."""
    max_lora_rank: int
    arguments: tuple[str, ...]
    """Further arguments of vLLM's server; they win."""
    log_path: Path | None
    """Where its output goes; None: a file that goes with it."""


class VllmServer:
    """A running child. Its folder holds the socket, the plugin and copies of adapters; it is removed with it."""

    def __init__(self, options: ServerOptions) -> None:
        self.options = options
        _remove_leftovers()
        # Mode 0700. Its path must fit a socket's 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix=f"{_FOLDER}{os.getpid()}-"))
        self.log_path = options.log_path or self.folder / "vllm.log"
        self._process: Process | None = None

    async def start(self) -> VllmClient:
        """Start it and wait until it answers.

        Raises:
            Unavailable: it ended before, with the cause from its log, or took longer than half an hour.
        """
        socket = self.folder / "vllm.sock"
        write_plugin(self.folder / "plugins")
        if self.log_path.exists():
            self.log_path.unlink()
        self._process = start(
            server_arguments(self.options, socket),
            name="vLLM",
            log_path=self.log_path,
            env=server_environment(self.options, self.folder / "plugins", os.environ),
            cwd=self.folder,
        )
        client = VllmClient(socket)
        try:
            deadline = time.monotonic() + _START_SECONDS
            while not await client.healthy():
                if not self._process.running:
                    raise Unavailable(f"vLLM ended before it answered: {self.cause()}")
                if time.monotonic() > deadline:
                    raise Unavailable(f"vLLM did not answer within {_START_SECONDS:.0f} seconds; see {self.log_path}.")
                await asyncio.sleep(0.1)
        except BaseException:
            await client.close()
            raise
        return client

    async def wait(self) -> None:
        """Wait until it has ended."""
        assert self._process is not None
        await self._process.wait()

    async def stop(self) -> None:
        """Stop it and remove its folder."""
        if self._process is not None:
            await self._process.stop(_STOP_GRACE_SECONDS)
        shutil.rmtree(self.folder, ignore_errors=True)

    def cause(self) -> str:
        """Why it ended: the first exception of its log that names one, else its last line."""
        assert self._process is not None
        lines = self._process.log_tail(400).splitlines()
        for line in lines:
            found = _CAUSE.search(line)
            if found and "root cause above" not in line:
                return found[1]
        return (lines or [f"exit status {self._process.returncode}"])[-1]


def _remove_leftovers() -> None:
    """Folders of engines that were killed: they hold copies of adapters."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_FOLDER}*"):
        owner = folder.name.removeprefix(_FOLDER).partition("-")[0]
        if owner.isdigit() and not Path("/proc", owner).exists():
            shutil.rmtree(folder, ignore_errors=True)


def server_arguments(options: ServerOptions, socket: Path) -> list[str | Path]:
    """The command line of vLLM's server. Later arguments win, so the caller's own come last."""
    argv: list[str | Path] = [options.environment.python, "-m", "vllm.entrypoints.openai.api_server"]
    argv += ["--model", options.folder, "--served-model-name", options.name, "--uds", socket]
    argv += ["--skip-tokenizer-init", "--generation-config", "vllm"]  # text and sampling defaults are ours
    argv += ["--enable-scale-out"]  # its token-in, token-out route
    argv += ["--logprobs-mode", "raw_logprobs", "--enable-prompt-tokens-details", "--disable-uvicorn-access-log"]
    argv += ["--enable-lora", "--max-loras", str(options.max_loras), "--max-lora-rank", str(options.max_lora_rank)]
    if options.environment.cpu:
        argv += ["--dtype", "float32", "--enforce-eager"]
    else:  # the learner works on the same device
        argv += ["--gpu-memory-utilization", "0.45"]
    return [*argv, *options.arguments]


def server_environment(options: ServerOptions, plugins: Path, ours: Mapping[str, str]) -> dict[str, str]:
    """The child's environment: ours without what points Python at our packages."""
    kept = {name: value for name, value in ours.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    defaults = {
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_HOST_IP": "127.0.0.1",
        "OMP_NUM_THREADS": str(options.threads),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # bound threads would share their cores with the learner's
        "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    }
    fixed = {
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
        "VLLM_PLUGINS": _PLUGIN,
        "PYTHONPATH": str(plugins),
        "PYTHONUNBUFFERED": "1",
        "VLLM_USE_V2_MODEL_RUNNER": "0",  # whose sampler the plugin does not know
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",  # a forked process would not run the plugin again
    }
    return {**defaults, **kept, **fixed}


def write_plugin(folder: Path) -> None:
    """A folder from which vLLM's processes find the plugin as if it were installed."""
    metadata = folder / f"{_PLUGIN}-1.dist-info"
    metadata.mkdir(parents=True)
    shutil.copyfile(Path(__file__).with_name("plugin.py"), folder / f"{_PLUGIN}.py")
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {_PLUGIN}\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(f"[vllm.general_plugins]\n{_PLUGIN} = {_PLUGIN}:register\n")
