"""`python -m tunesmith.engines.vllm`: serves the Engine API for one base model, computed by vLLM, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

from tunesmith.engines.app import create_app
from tunesmith.engines.serving import listen, read_key, serve
from tunesmith.engines.vllm.engine import VllmEngine
from tunesmith.engines.vllm.environment import find_vllm
from tunesmith.engines.vllm.server import ServerOptions, VllmServer
from tunesmith.errors import InvalidArgument, TunesmithError, Unavailable
from tunesmith.settings import Settings

logger = logging.getLogger("tunesmith.engines.vllm")


def main(arguments: list[str] | None = None) -> int:
    """Run the process; returns its exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        asyncio.run(_serve(options))
    except TunesmithError as error:
        print(f"engine: {error.message}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 0
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tunesmith.engines.vllm",
        description=__doc__,
        epilog="Arguments after -- go to vLLM's server and win over ours, for example: -- --max-model-len 8192",
    )
    parser.add_argument(
        "--model", type=Path, required=True, help="folder with config.json, safetensors, tokenizer.json"
    )
    parser.add_argument("--name", required=True, help="resource name of the base model")
    parser.add_argument("--port", type=int, required=True, help="0 = any free port")
    parser.add_argument("--key-file", type=Path, required=True, help="file with the bearer key")
    parser.add_argument("--vllm-python", type=Path, help="Python of the environment that has vLLM (or VLLM_PYTHON)")
    parser.add_argument("--threads", type=int, default=Settings().torch_threads, help="on the CPU (%(default)s)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port-file", type=Path, help="write the port here once the engine answers")
    parser.add_argument("--vllm-log", type=Path, help="vLLM's own output (default: a file that goes with the engine)")
    parser.add_argument(
        "--max-loras", type=int, default=10, help="adapters that one batch may use: staleness + 2 (%(default)s)"
    )
    parser.add_argument(
        "--max-lora-rank", type=int, default=64, help="1, 8, 16, 32, 64, 128, 256, 320 or 512 (%(default)s)"
    )
    parser.add_argument("vllm_arguments", nargs="*", metavar="-- ARGUMENT", help="arguments of vLLM's server")
    return parser


async def _serve(options: argparse.Namespace) -> None:
    for name in ("threads", "max_loras", "max_lora_rank"):
        if getattr(options, name) < 1:
            raise InvalidArgument(f"--{name.replace('_', '-')} = {getattr(options, name)} must be at least 1.")
    if not (options.model / "config.json").is_file():
        raise InvalidArgument(f"{options.model} is not a model's folder: it has no config.json.")
    key = read_key(options.key_file)
    listener = listen(options.host, options.port)
    python = options.vllm_python or (Path(named) if (named := os.environ.get("VLLM_PYTHON")) else None)
    environment = find_vllm(python)
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):  # until the web server takes them over: vLLM needs a minute to start
        loop.add_signal_handler(number, task.cancel)
    server = VllmServer(
        ServerOptions(
            environment,
            options.model.resolve(),
            options.name,
            options.threads,
            options.max_loras,
            options.max_lora_rank,
            tuple(options.vllm_arguments),
            options.vllm_log,
        )
    )
    try:
        engine = await VllmEngine.start(server)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
        ended = asyncio.create_task(server.wait())

        def started(port: int) -> None:
            logger.info("%s answers on http://%s:%d (%s).", options.name, options.host, port, engine.describe())

        await serve(create_app(engine, key), listener, options.port_file, started, ended)
        if ended.done():
            raise Unavailable(f"vLLM ended: {server.cause()}")
        ended.cancel()
        await engine.close()
    finally:
        await server.stop()


if __name__ == "__main__":
    sys.exit(main())
