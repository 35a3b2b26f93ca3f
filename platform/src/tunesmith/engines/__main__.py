"""`python -m tunesmith.engines`: serves the Engine API for one base model until SIGTERM or Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
from pathlib import Path

from tunesmith.errors import InvalidArgument, TunesmithError
from tunesmith.runs.files import write_atomic
from tunesmith.settings import Settings

logger = logging.getLogger("tunesmith.engines")


def main(arguments: list[str] | None = None) -> int:
    """Run the process; returns its exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # Read by MKL at its first call: results of a matrix product no longer depend on how many rows it has. Costs nothing
    # measurable (docs: "Conditional Numerical Reproducibility", strict mode).
    os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        asyncio.run(_serve(options))
    except TunesmithError as error:
        print(f"engine: {error.message}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tunesmith.engines", description=__doc__)
    parser.add_argument(
        "--model", type=Path, required=True, help="folder with config.json, safetensors, tokenizer.json"
    )
    parser.add_argument("--name", required=True, help="resource name of the base model")
    parser.add_argument("--port", type=int, required=True, help="0 = any free port")
    parser.add_argument("--key-file", type=Path, required=True, help="file with the bearer key")
    parser.add_argument("--threads", type=int, default=Settings().torch_threads, help="torch threads (%(default)s)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port-file", type=Path, help="write the port here once the engine answers")
    parser.add_argument(
        "--kv-tokens", type=int, help="tokens whose keys and values are kept (default: from the memory)"
    )
    return parser


async def _serve(options: argparse.Namespace) -> None:
    for name in ("threads", "kv_tokens"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise InvalidArgument(f"--{name.replace('_', '-')} = {value} must be at least 1.")
    key = _read_key(options.key_file)
    listener = _listen(options.host, options.port)
    # Only now the seconds that torch takes to import: a taken port or a missing key is reported at once.
    import torch  # noqa: PLC0415 - see above
    import transformers  # noqa: PLC0415 - see above
    import uvicorn  # noqa: PLC0415 - see above

    from tunesmith.engines.app import create_app  # noqa: PLC0415 - see above
    from tunesmith.engines.builtin import BuiltinEngine  # noqa: PLC0415 - see above

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(options.threads)
    engine = BuiltinEngine(options.model, options.name, options.kv_tokens)
    # Kept open for long: a pooled connection that closes just as the gateway writes to it would cost a failed call.
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(engine, key),
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_keep_alive=120,
            timeout_graceful_shutdown=2,
        )
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn ends on these, restores this handler and raises the signal again: an orderly end is exit code 0.
        signal.signal(number, lambda *_: None)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started and not serving.done():
            await asyncio.sleep(0.01)
        port = listener.getsockname()[1]
        if options.port_file is not None:
            write_atomic(options.port_file, f"{port}\n")
        logger.info("%s answers on http://%s:%d (%s).", options.name, options.host, port, engine.describe())
        await serving
    finally:
        engine.close()


def _read_key(file: Path) -> str:
    try:
        key = file.read_text().strip()
    except OSError as error:
        raise InvalidArgument(f"The key file {file} cannot be read ({error.strerror}).") from error
    if not key:
        raise InvalidArgument(f"The key file {file} is empty.")
    return key


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), backlog=2048)
    except OSError as error:
        raise InvalidArgument(
            f"Cannot listen on {host}:{port} ({error.strerror}). Is another engine running there?"
        ) from error


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    sys.stdout.flush()
    # Nothing is left to save, and taking torch and transformers apart module by module costs a CPU-second.
    os._exit(code)
