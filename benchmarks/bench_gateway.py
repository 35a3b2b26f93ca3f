"""What the gateway costs beside a bare forwarder, a floor and the LiteLLM proxy: CPU per recorded request, latency, first token.

All contenders run in turn in every round, on the same answers of a fake instant engine; ratios are taken within a round and their median
counts, since machines are noisy. Everything that the gateway answers is recorded, and counted in its database at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import math
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from tunesmith.cli.account import ensure_account_key
from tunesmith.db.completions import CompletionFilter, CompletionStore, CorrelationIds
from tunesmith.settings import Settings

from benchmarks.gateway.conversation import Turns, measure_short, measure_turns
from benchmarks.gateway.load import Load, cpu_seconds, drive, memory_mb, prepared
from benchmarks.gateway.material import REPO, make_model, request_body
from benchmarks.gateway.report import WHOLE_TIMES, Figures, Sample, report

LITELLM = REPO / ".tools" / "litellm"
SLICES = 4
"""Of a round's calls: contenders take turns in these, so that what else the machine does falls on all alike."""


@dataclass(frozen=True)
class Contender:
    """A running process and how it is called."""

    name: str
    process: subprocess.Popen[bytes]
    url: str
    path: str
    model: str
    key: str = "none"


def main() -> None:
    """Measure, print the table, write it. Exit 1 when a record is lost or does not read as the answer was, and with `--check` when a
    ratio is beyond its target."""
    options = _options()
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="bench-gateway-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        figures = asyncio.run(_measure(options, folder, stack))
    missed = report(figures, options)
    lost = figures.expected != figures.recorded or figures.misread > 0
    sys.exit(1 if lost or (missed and options.check) else 0)


async def _measure(options: argparse.Namespace, folder: Path, stack: ExitStack) -> Figures:
    model = make_model(folder / "model")
    data = folder / "data"
    key = ensure_account_key(Settings(data_dir=data))
    engine = _start(
        stack,
        folder,
        "engine",
        ["-m", "benchmarks.gateway.engine", str(model), str(options.tokens)],
        [str(data / "supervisor.sock")],
    )
    contenders = _contenders(options, stack, folder, model, engine, key)
    engine_alone = Contender("engine", contenders[0].process, engine, "/v1/chat/completions", "remote")
    figures = Figures(tokens=options.tokens)
    await _load(engine_alone, True, 4, 4)
    for round_ in range(options.rounds + 1):
        for stream in (False, True):
            # LiteLLM takes minutes, and nothing hangs on its last digit.
            running = [c for c in contenders if c.name != "LiteLLM" or round_ <= 2]
            costs = await _costs(running, stream, options)
            crowds = await _crowds([engine_alone, *running], stream, options)
            for contender in running:
                if contender.key == key:
                    figures.expected += _calls(contender, stream, options) + len(crowds[contender.name].latencies)
                if round_:  # the first round warms up
                    sample = _sample(costs[contender.name], crowds[contender.name], crowds[engine_alone.name])
                    figures.add(contender.name, stream, sample)
    gateway = next(c for c in contenders if c.name == "token path")
    figures.turns = await measure_turns(
        gateway.url, gateway.process.pid, gateway.key, gateway.model, Turns(options.turns, 8)
    )
    figures.short = await measure_short(
        gateway.url, gateway.process.pid, gateway.key, gateway.model, options.short_calls
    )
    figures.memory = {c.name: memory_mb(c.process.pid) for c in contenders if c.name != "pass-through"}
    figures.recorded, figures.misread = _recorded(data), _misread(data, engine)
    figures.expected += options.turns * 8 + options.short_calls
    return figures


async def _costs(contenders: list[Contender], stream: bool, options: argparse.Namespace) -> dict[str, float]:
    """CPU-seconds of a call with a few agents, by contender."""
    spent = dict.fromkeys((c.name for c in contenders), 0.0)
    for slice_ in range(SLICES):
        for contender in contenders:
            calls = _calls(contender, stream, options)
            before = cpu_seconds(contender.process.pid)
            await _load(contender, stream, 16, calls * (slice_ + 1) // SLICES - calls * slice_ // SLICES)
            spent[contender.name] += (cpu_seconds(contender.process.pid) - before) / calls
    return spent


def _calls(contender: Contender, stream: bool, options: argparse.Namespace) -> int:
    """Of which the CPU time is taken. LiteLLM would take hours of these; a whole answer costs a tenth of a streamed one."""
    if contender.name == "LiteLLM":
        return 2 * SLICES
    return options.calls * (1 if stream else WHOLE_TIMES)


async def _crowds(contenders: list[Contender], stream: bool, options: argparse.Namespace) -> dict[str, Load]:
    """What 64 agents see of each contender; several calls of each agent, since agents keep their connections."""
    found = {contender.name: Load() for contender in contenders}
    for _ in range(2 if stream else SLICES):
        for contender in contenders:
            if contender.name != "LiteLLM":
                seen = await _load(contender, stream, 64, max(64, options.calls // 2) if stream else 64 * 2)
                found[contender.name].latencies += seen.latencies
                found[contender.name].first_tokens += seen.first_tokens
    return found


def _sample(cpu: float, crowd: Load, direct: Load) -> Sample:
    """The CPU time of a call, and latencies with 64 agents, less what the engine alone takes."""
    if not crowd.latencies:
        return Sample(cpu, math.nan, math.nan, math.nan)
    latency = median(crowd.latencies)
    first_token = median(crowd.first_tokens) - median(direct.first_tokens)
    return Sample(cpu, latency - median(direct.latencies), first_token, latency)


async def _load(contender: Contender, stream: bool, agents: int, calls: int) -> Load:
    request = prepared(contender.url, contender.path, contender.key, request_body(contender.model, stream))
    return await drive(contender.url, request, agents, calls)


def _contenders(
    options: argparse.Namespace, stack: ExitStack, folder: Path, model: Path, engine: str, key: str
) -> list[Contender]:
    made: list[Contender] = []
    for kind in ("forwarder", "floor"):
        url, process = _process(stack, folder, kind, ["-m", "benchmarks.gateway.contenders", kind, engine, str(model)])
        made.append(Contender(kind, process, url, "/v1/chat/completions", "remote"))
    environment = {"TUNESMITH_ALLOWED_UPSTREAMS": "127.0.0.1"}
    arguments = ["-m", "tunesmith.server", "--data-dir", str(folder / "data"), "--port", "0"]
    process = _spawn(stack, folder, "gateway", [sys.executable, *arguments], environment)
    url = _url_in_log(folder / "gateway.log", process)
    ids = "/v1/rollout_id/passed/invocation_id/i/experiment_id/e/run_id/n/row_id/w/encoded_base_url/"
    behind = ids + base64.urlsafe_b64encode(f"{engine}/v1".encode()).decode() + "/chat/completions"
    made.append(Contender("pass-through", process, url, behind, "remote", key))
    made.append(Contender("token path", process, url, "/v1/chat/completions", str(model), key))
    if not options.short:
        url, process = _litellm(stack, folder, engine)
        made.append(Contender("LiteLLM", process, url, "/v1/chat/completions", "remote", "sk-bench"))
    return made


def _start(stack: ExitStack, folder: Path, name: str, arguments: list[str], more: list[str]) -> str:
    return _process(stack, folder, name, [*arguments, *more])[0]


def _process(stack: ExitStack, folder: Path, name: str, arguments: list[str]) -> tuple[str, subprocess.Popen[bytes]]:
    """A process that writes its address into the file named last."""
    port_file = folder / f"{name}.url"
    process = _spawn(stack, folder, name, [sys.executable, *arguments, str(port_file)], {})
    return _wait(lambda: port_file.read_text() if port_file.exists() else "", process, folder / f"{name}.log"), process


def _litellm(stack: ExitStack, folder: Path, engine: str) -> tuple[str, subprocess.Popen[bytes]]:
    from benchmarks.gateway.litellm import command, install  # noqa: PLC0415 - only where LiteLLM is measured

    install(LITELLM)
    arguments, port = command(LITELLM, folder, engine)
    process = _spawn(stack, folder, "litellm", arguments, {"LITELLM_MASTER_KEY": "sk-bench", "NO_PROXY": "*"})
    return _url_in_log(
        folder / "litellm.log", process, "Application startup complete", f"http://127.0.0.1:{port}"
    ), process


def _url_in_log(log: Path, process: subprocess.Popen[bytes], mark: str = " at http", url: str = "") -> str:
    def find() -> str:
        line = next((line for line in log.read_text(errors="replace").splitlines() if mark in line), "")
        return url if line and url else line.rpartition(" at ")[2]

    return _wait(find, process, log)


def _wait(ready: Callable[[], str], process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + 120
    while not (found := ready()):
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"A contender did not start:\n{log.read_text(errors='replace')[-3000:]}")
        time.sleep(0.05)
    return found


def _spawn(
    stack: ExitStack, folder: Path, name: str, command: list[str], environment: dict[str, str]
) -> subprocess.Popen[bytes]:
    with open(folder / f"{name}.log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=REPO, env={**os.environ, **environment})

    def stop() -> None:
        process.terminate()
        process.wait()

    stack.callback(stop)
    return process


def _recorded(data: Path) -> int:
    with sqlite3.connect(data / "completions.db") as connection:
        return connection.execute("SELECT count(*) FROM completions WHERE status = 'complete'").fetchone()[0]


def _misread(data: Path, engine: str) -> int:
    """Of the last passed-through calls, whole and streamed, how many do not read as what the upstream sends."""
    with urllib.request.urlopen(f"{engine}/v1/chat/completions", b"{}") as response:
        choice = json.load(response)["choices"][0]
    text, logprobs = choice["message"]["content"], [token["logprob"] for token in choice["logprobs"]["content"]]
    store = CompletionStore(data / "completions.db")
    try:
        found = store.find(CompletionFilter(CorrelationIds(rollout_id="passed"), limit=400))
    finally:
        store.close()
    return sum(
        record.text != text
        or record.message["content"] != text
        or record.finish_reason != "stop"
        or record.logprobs != np.asarray(logprobs, np.float32).tolist()
        for record in found
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="without LiteLLM, fewer calls; for CI")
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    parser.add_argument("--rounds", type=int, help="rounds that count (default 5; short: 2)")
    parser.add_argument(
        "--calls",
        type=int,
        help="streamed calls per contender and round (default 160; short: 80); whole answers: four times as many",
    )
    parser.add_argument("--tokens", type=int, default=2000, help="tokens of an answer")
    parser.add_argument("--turns", type=int, default=30, help="turns of a conversation")
    parser.add_argument("--short-calls", type=int, default=400, help="answers of 60 tokens")
    options = parser.parse_args()
    options.rounds = options.rounds or (2 if options.short else 5)
    options.calls = options.calls or (80 if options.short else 160)
    return options


if __name__ == "__main__":
    main()
