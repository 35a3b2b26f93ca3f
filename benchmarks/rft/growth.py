"""Whether cost grows linearly: turns and context at the gateway, tokens at the learner, rows at the orchestrator.

The model has 32,768 tokens of context, random weights, and the bundled model's tokenizer and vocabulary.
"""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from benchmarks.curves import Meter
from benchmarks.gateway.load import cpu_seconds
from benchmarks.rft import job
from benchmarks.rft.peer import MODEL
from tests.loop.platform import FINAL, Platform
from tests.orchestrator.world import World

CONTEXT = 32768
TURNS = (5, 10, 20, 30)
LENGTHS = (1024, 4096, 8192, 16384, 30720)
PIECE = 1024
"""The same tokens in sequences of this length cost what is linear."""
ROWS = (1000, 10_000)
ROW_BYTES = 900
"""Of the rows of a job's dataset beside prompt and answer: about 1 KB in all."""
CHUNKS = 3


def model(folder: Path) -> Path:
    """A small random model with a long context."""
    import torch  # noqa: PLC0415 - only this part needs it
    from transformers import Qwen3Config, Qwen3ForCausalLM  # noqa: PLC0415

    shutil.copytree(MODEL, folder)
    config = Qwen3Config(
        vocab_size=1024,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        eos_token_id=1017,
        pad_token_id=1015,
        bos_token_id=None,
    )
    torch.manual_seed(0)
    Qwen3ForCausalLM(config).save_pretrained(folder)
    return folder


def turns(platform: Platform, base: Path, rollouts: int = 3) -> list[dict[str, float]]:
    """A conversation of 30 turns and about 1,000 tokens each; CPU-seconds of gateway and engine of a turn, mean over five turns.

    Every turn sends the whole conversation again, as agents do, and the gateway records it. A short conversation before them warms up.
    """
    assert platform.process is not None
    rng = random.Random(0)
    spent: dict[int, list[dict[str, float]]] = {}
    for rollout in range(rollouts + 1):
        messages: list[dict[str, Any]] = []
        for turn in range(1, (max(TURNS) if rollout else 3) + 1):
            text = " ".join(str(rng.randrange(10)) for _ in range(480))
            messages.append({"role": "user", "content": text})
            before = _cpu(platform.process.pid)
            path = f"/litellm-gateway/rollout_id/grow-{rollout}/invocation_id/i/experiment_id/e/run_id/r/row_id/w/chat/completions"
            body = {"model": str(base), "messages": messages, "max_tokens": 16, "temperature": 1.0}
            answer = platform.request("POST", path, body)
            after = _cpu(platform.process.pid)
            messages.append({"role": "assistant", "content": answer["choices"][0]["message"]["content"] or ""})
            cost = {name: after[name] - before.get(name, 0.0) for name in after}
            if rollout:
                spent.setdefault(turn, []).append({**cost, "tokens": answer["usage"]["prompt_tokens"]})
    found = []
    for turn in TURNS:
        near = [each for number in range(turn - 4, turn + 1) for each in spent[number]]
        means = {
            name: sum(each.get(name, 0.0) for each in near) / len(near) for name in ("gateway", "engine", "tokens")
        }
        found.append({"turn": turn, **means})
    return found


def learner(base: Path, lengths: Sequence[int] = LENGTHS) -> list[dict[str, float]]:
    """CPU-seconds of forward and backward pass by token: as one sequence, and the same tokens in pieces."""
    import torch  # noqa: PLC0415 - only this part needs it
    from tunesmith.runs.config import BaseModelRef, LearnerConfig  # noqa: PLC0415
    from tunesmith.training.model import load_policy  # noqa: PLC0415
    from tunesmith.training.packing import Sequence, build_pack, plan_packs  # noqa: PLC0415

    torch.set_num_threads(1)
    policy = load_policy(BaseModelRef(name="grow", path=base), LearnerConfig(lora_rank=8), seed=0)
    rng = random.Random(0)

    def seconds(length: int, pieces: int) -> float:
        sequences = []
        for number in range(pieces):
            ids = [rng.randrange(1000) for _ in range(length)]
            trained = list(range(length - 16, length))
            sequences.append(
                Sequence(ids[:-1], trained[0], trained, ids[-16:], mu=[0.0] * 16, advantage=1.0, group=number)
            )
        started = time.process_time()
        for plans in plan_packs(sequences, CONTEXT, policy.costs):
            logp_K, _ = policy.logprobs(build_pack(plans), 1.0)
            logp_K.sum().backward()
        policy.model.zero_grad(set_to_none=True)
        return time.process_time() - started

    seconds(PIECE, 1)
    found = []
    for length in lengths:
        whole, pieces = seconds(length, 1), seconds(PIECE, length // PIECE)
        found.append({"tokens": length, "whole": whole / length, "pieces": pieces / length})
    return found


async def rows(folder: Path) -> list[dict[str, float]]:
    """Peak memory of the orchestrator's process, and its CPU-seconds a rollout, after a few chunks of a dataset of so many rows."""
    found = []
    for count in ROWS:
        async with World(folder / str(count)) as world:
            world.configure(rows=count, n=2, chunk_size=16)
            text = "".join(
                '{"messages": [{"role": "user", "content": "%s"}]}\n' % (f"{number} " * 200) for number in range(count)
            )
            (folder / str(count) / "rows.jsonl").write_text(text)
            process = await world.start()
            events = folder / str(count) / "events.jsonl"
            watched = psutil.Process(process.pid)
            peak, cpu = 0, 0.0
            while not events.exists() or events.read_text().count('"kind":"chunk"') < CHUNKS:
                await asyncio.sleep(0.05)
                if process.returncode is not None:
                    raise SystemExit(
                        f"bench-rft: the orchestrator ended: {(await process.communicate())[1].decode()[-800:]}"
                    )
                times = watched.cpu_times()
                peak, cpu = max(peak, watched.memory_info().rss), times.user + times.system
            process.terminate()
            await process.communicate()
        found.append({"rows": count, "peak_mib": peak / 2**20, "cpu_seconds": cpu})
    return found


def job_peaks(folder: Path, rows: int) -> dict[str, float]:
    """Peak memory of every process during a job over a dataset of so many rows, from its upload to the end of the first chunk, in MiB."""
    project = job.project(folder / "project")
    data = project / "gsm8k_sample.jsonl"
    lines = [json.loads(line) for line in data.read_text().splitlines()]
    with data.open("w") as file:
        for number in range(rows):
            note = f"{number} " * (ROW_BYTES // len(f"{number} "))  # beside the prompt, which has to fit the model
            file.write(json.dumps({**lines[number % len(lines)], "note": note}) + "\n")
    with Platform(folder / "h") as platform:
        assert platform.process is not None
        meter = Meter(platform.process.pid)
        argv = ["ep", "create", "rft", "--yes", "--skip-validation", "--base-model", job.BASE_MODEL, "--json"]
        argv += ["--chunk-size", "4", "--max-output-tokens", "16", "--job-id", "grow"]
        ended = subprocess.run(argv, cwd=project, env=platform.env, capture_output=True, text=True)
        if ended.returncode:
            raise SystemExit(f"bench-rft: {ended.stderr or ended.stdout}")
        name = "accounts/local/reinforcementFineTuningJobs/grow"
        while not any(event["kind"] == "chunk" for event in platform.get(f"/v1/{name}/metrics")["events"]):
            if (found := platform.job(name))["state"] in FINAL:
                raise SystemExit(f"bench-rft: the job ended {found['state']}: {found['status'].get('message')}")
            time.sleep(0.5)
        meter.stop()
    return meter.peak_mib


def _cpu(root: int) -> dict[str, float]:
    """CPU-seconds of the web process and of the engines below a supervisor."""
    names = {"tunesmith.server": "gateway", "tunesmith.engines": "engine"}
    found: dict[str, float] = {}
    for process in psutil.Process(root).children(recursive=True):
        try:
            for module in names.keys() & set(process.cmdline()):
                found[names[module]] = found.get(names[module], 0.0) + cpu_seconds(process.pid)
        except (psutil.NoSuchProcess, OSError):
            continue
    return found
