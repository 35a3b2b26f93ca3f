"""Our side of a step on fixed samples: a real engine process and a real learner process, and a driver in the place of what lies between.

Every answer has the same number of tokens (end tokens do not stop it) and every other rollout of a group scores 1, so that no group is
dropped: both contenders train the same number of tokens. The driver's CPU time is told apart; what does its work in a job (gateway,
evaluator host, orchestrator) is measured in the whole step.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
from tunesmith.rendering.renderer import Renderer
from tunesmith.runs.batch import Batch, BatchHeader, BatchRollout, Sample
from tunesmith.runs.config import BaseModelRef, LearnerConfig, RunConfig
from tunesmith.runs.files import adapter_path, batch_path, write_atomic

from benchmarks.rft.peer import MODEL, ONE_THREAD, PROMPTS, N, rows

KEY = "bench"
UNUSED_ID = 1023
"""An id of the bundled model's vocabulary that its tokenizer does not use: as end token it ends nothing."""


def run(folder: Path, steps: int, tokens: int) -> list[dict[str, float]]:
    """`steps` steps with answers of `tokens` tokens; of each {"tokens", "engine", "learner", "driver"} in CPU-seconds."""
    shutil.rmtree(folder, ignore_errors=True)
    model = _without_end(folder / "model")
    run_dir = folder / "run"
    config = RunConfig(
        job="bench",
        base_model=BaseModelRef(name="bench", path=model),
        dataset=run_dir / "none.jsonl",
        gateway_url="http://none",
        host_socket=run_dir / "none.sock",
        learner=LearnerConfig(learning_rate=1e-5, lora_rank=16),
    )
    write_atomic(run_dir / "run.json", config.model_dump_json())
    (folder / "key").write_text(KEY)
    port = folder / "port"
    engine = ["-m", "tunesmith.engines", "--model", str(model), "--name", "bench", "--port", "0", "--threads", "1"]
    engine += ["--key-file", str(folder / "key"), "--port-file", str(port)]
    commands = [engine, ["-m", "tunesmith.training", str(run_dir)]]
    with open(folder / "log", "wb") as log:
        processes = [
            subprocess.Popen([sys.executable, *each], env={**os.environ, **ONE_THREAD}, stdout=log, stderr=log)
            for each in commands
        ]
        try:
            return asyncio.run(_drive(run_dir, port, processes, steps, tokens))
        finally:
            for process in processes:
                process.kill()
                process.wait()


async def _drive(
    run_dir: Path, port: Path, processes: list[subprocess.Popen[bytes]], steps: int, tokens: int
) -> list[dict[str, float]]:
    renderer = Renderer.load(MODEL)
    prompts = [renderer.render(row["prompt"]) for row in rows()[: steps * PROMPTS]]
    await _until(port, processes)
    records = []
    headers = {"Authorization": f"Bearer {KEY}"}
    url = f"http://127.0.0.1:{port.read_text().strip()}"
    await _until(adapter_path(run_dir, 0), processes)
    async with aiohttp.ClientSession(url, headers=headers, connector=aiohttp.TCPConnector(limit=0)) as session:
        for step in range(steps):
            before = _cpu(processes)
            await _post(session, "/load", name=f"v{step}", path=str(adapter_path(run_dir, step)))
            calls = [
                _post(
                    session,
                    "/generate",
                    model=f"v{step}",
                    prompt_ids=prompts[step * PROMPTS + group],
                    max_tokens=tokens,
                    temperature=1.0,
                    seed=(step * PROMPTS + group) * N + k,
                    stream=False,
                )
                for group in range(PROMPTS)
                for k in range(N)
            ]
            answers = await asyncio.gather(*calls)
            _batch(step, prompts[step * PROMPTS :], answers).write(batch_path(run_dir, step))
            await _until(adapter_path(run_dir, step + 1), processes)
            after = _cpu(processes)
            spent = [now - then for now, then in zip(after, before, strict=True)]
            trained = sum(len(answer["token_ids"]) for answer in answers)
            records.append({"tokens": trained, "engine": spent[0], "learner": spent[1], "driver": spent[2]})
            await _post(session, "/unload", name=f"v{step}")
    return records


def _batch(step: int, prompts: list[list[int]], answers: list[dict[str, Any]]) -> Batch:
    samples, rollouts = [], []
    for number, answer in enumerate(answers):
        group, given = number // N, prompts[number // N]
        ids, logprobs = answer["token_ids"], answer["logprobs"]
        rollouts.append(
            BatchRollout(rollout_id=f"{step}-{number}", row_index=group, group=group, score=number % 2, version=step)
        )
        samples.append(Sample([*given, *ids], [0] * len(given) + [1] * len(ids), [0.0] * len(given) + logprobs, number))
    header = BatchHeader(
        step=step, epoch=0, temperature=1.0, learning_rate=1e-5, evaluator_version="", rollouts=rollouts
    )
    return Batch(header, samples)


async def _post(session: aiohttp.ClientSession, path: str, /, **body: Any) -> dict[str, Any]:
    async with session.post(path, json=body) as response:
        if response.status != 200:
            raise SystemExit(f"bench-rft: the engine answered {response.status}: {await response.text()}")
        return json.loads((await response.text()).splitlines()[-1])


async def _until(path: Path, processes: list[subprocess.Popen[bytes]]) -> None:
    while not (path.exists() and (path.is_dir() or path.read_text().strip())):
        if any(process.poll() is not None for process in processes):
            raise SystemExit(f"bench-rft: a process ended while {path} was waited for; see {path.parents[1]}/log")
        await asyncio.sleep(0.01)


def _cpu(processes: list[subprocess.Popen[bytes]]) -> list[float]:
    """CPU-seconds of the processes, threads included, then of this one; from the kernel, to 10 ms."""
    times = []
    for process in processes:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        times.append((int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"))
    return [*times, time.process_time()]


def _without_end(folder: Path) -> Path:
    """A copy of the bundled model that does not stop."""
    shutil.copytree(MODEL, folder)
    for name in ("config.json", "generation_config.json"):
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**content, "eos_token_id": UNUSED_ID}))
    return folder
