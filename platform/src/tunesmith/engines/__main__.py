"""`python -m tunesmith.engines`: serves the Engine API for one base model until SIGTERM or Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import logging
import os
import sys
from pathlib import Path

from tunesmith.engines.serving import listen, read_key, serve
from tunesmith.errors import InvalidArgument, TunesmithError
from tunesmith.settings import Settings

logger = logging.getLogger("tunesmith.engines")

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
"""mallopt's parameters (glibc's malloc.h)."""


def main(arguments: list[str] | None = None) -> int:
    """Run the process; returns its exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # Read by MKL at its first call: results of a matrix product no longer depend on how many rows it has. Costs nothing
    # measurable (docs: "Conditional Numerical Reproducibility", strict mode).
    os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    _keep_freed_memory()
    try:
        asyncio.run(_serve(options))
    except TunesmithError as error:
        print(f"engine: {error.message}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    return 0


def _keep_freed_memory() -> None:
    """Have glibc keep what a step frees for the next one: handing it back and faulting it in again costs 5 % of CPU time."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # glibc's; another C library does as it does
        for parameter, most in ((_M_MMAP_THRESHOLD, 2**25), (_M_TRIM_THRESHOLD, 2**27), (_M_TOP_PAD, 2**24)):
            mallopt(parameter, most)


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
    key = read_key(options.key_file)
    listener = listen(options.host, options.port)
    # Only now the seconds that torch takes to import: a taken port or a missing key is reported at once.
    import torch  # noqa: PLC0415 - see above
    import transformers  # noqa: PLC0415 - see above

    from tunesmith.engines.app import create_app  # noqa: PLC0415 - see above
    from tunesmith.engines.builtin import BuiltinEngine  # noqa: PLC0415 - see above

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(options.threads)
    engine = BuiltinEngine(options.model, options.name, options.kv_tokens)

    def started(port: int) -> None:
        logger.info("%s answers on http://%s:%d (%s).", options.name, options.host, port, engine.describe())

    try:
        await serve(create_app(engine, key), listener, options.port_file, started)
    finally:
        engine.close()


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    sys.stdout.flush()
    # Nothing is left to save, and taking torch and transformers apart module by module costs a CPU-second.
    os._exit(code)
