"""A job of one epoch that is extended by one is the job of two epochs, bit for bit; its versions can be promoted; its curves have every step once."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.loop import projects
from tests.loop.platform import Platform
from tests.loop.test_story import create_rft

JOBS = "accounts/local/reinforcementFineTuningJobs"
FLAGS = ("--max-output-tokens", "16", "--response-candidates-count", "4", "--chunk-size", "4")
STEPS = 4  # two epochs of eight rows, four at a time


def test_one_epoch_and_one_more_are_two(platform: Platform, short_tmp: Path) -> None:
    project = projects.write(short_tmp / "extended", dataset=projects.rows(8))
    flags = (*FLAGS, "--epochs", "1", "--job-id", "shorter")
    create_rft(platform, project, *flags, "--output-model", "one-epoch")
    ended(platform, "shorter", STEPS // 2)
    command(platform, "extend", "shorter", "--epochs", "1", "--job-id", "longer", "--output-model", "extended")
    ended(platform, "longer", STEPS)
    assert platform.job(f"{JOBS}/shorter")["trainingConfig"]["epochs"] == 1, "the job itself stays as it was"
    # Noise is drawn by a job's id, and a rewound job draws that of the one it came from: this one takes both epochs in one go.
    platform.request("POST", f"/v1/{JOBS}/longer:rewind?reinforcementFineTuningJobId=whole", {"version": 0})
    ended(platform, "whole", STEPS)
    expected = weights(platform, "whole")
    assert [*expected] == [*range(STEPS + 1)]
    assert len(set(expected.values())) == STEPS + 1, "every step changed something"
    assert scores(platform, "longer") == scores(platform, "whole")
    assert weights(platform, "longer") == expected

    promoted = json.loads(command(platform, "promote", "longer", "--step", "3", "--as", "third", "--json"))
    third = {"model": "accounts/local/models/third", "version": 3, "sha256": expected[3]}
    assert promoted == {**third, "versionBefore": None}, "no version of a model that is new was served before"
    assert "There are 0 to 4." in command(platform, "promote", "longer", "--step", "9", status=1)
    asked = {"max_tokens": 12, "temperature": 0, "logprobs": True}
    said = {model: platform.chat(f"accounts/local/models/{model}", "Tom has 3 apples.", **asked)["choices"][0]
            for model in ("third", "extended", "one-epoch")}  # fmt: skip
    assert len({json.dumps(choice["logprobs"]) for choice in said.values()}) == len(said), "three models, by name"

    losses = {line["step"]: line["loss"] for line in platform.get(f"/v1/{JOBS}/longer/metrics")["metrics"]}
    points = [(step, value) for tag, step, value in curves(run_dir(platform, "longer")) if tag == "train/loss"]
    assert points == [(step, struct.unpack("<f", struct.pack("<f", losses[step]))[0]) for step in range(STEPS)]


def ended(platform: Platform, identity: str, steps: int) -> None:
    job = platform.wait(f"{JOBS}/{identity}")
    assert (job["state"], job["run"]["optimizer_steps"]) == ("JOB_STATE_COMPLETED", steps), job


def command(platform: Platform, *arguments: str, status: int = 0) -> str:
    done = platform.run("tunesmith", "job", *arguments, cwd=platform.home)
    assert done.returncode == status, done.stdout
    return done.stdout


def run_dir(platform: Platform, job: str) -> Path:
    return platform.data_dir / "runs" / job


def weights(platform: Platform, job: str) -> dict[int, str]:
    """Hash of every version's adapter."""
    found = sorted((run_dir(platform, job) / "adapters").glob("v*"))
    return {int(path.name[1:]): json.loads((path / "canary.json").read_text())["sha256"] for path in found}


def scores(platform: Platform, job: str) -> dict[tuple[int, int, int], tuple[float, str]]:
    """Score and answer of every rollout, by chunk, row and candidate."""
    records = map(json.loads, (run_dir(platform, job) / "rollouts.jsonl").read_text().splitlines())
    return {
        (record["chunk"], record["row_index"], record["k"]): (record["score"], record["row"]["messages"][-1]["content"])
        for record in records
        if record["kind"] == "train"
    }


def curves(folder: Path) -> Iterator[tuple[str, int, float]]:
    """(tag, step, value) of the job's TensorBoard files, read by the format alone: TFRecords of the protocol buffer `Event`."""
    for path in sorted((folder / "tensorboard").iterdir()):
        content, at = path.read_bytes(), 0
        while at < len(content):
            (size,) = struct.unpack_from("<Q", content, at)
            event = dict(fields(content[at + 12 : at + 12 + size]))
            for _, value in fields(event.get(5, b"")):
                said = dict(fields(value))
                yield said[1].decode(), event.get(2, 0), struct.unpack("<f", said[2])[0]
            at += size + 16
        assert at == len(content), "the last record is whole"


def fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """(number, content: bytes, or an int of a varint) of the fields of a protocol buffer."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at, value, shift = at + 1, value | (byte & 0x7F) << shift, shift + 7
            if not byte & 0x80:
                return value

    while at < len(message):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
            continue
        size = {1: 8, 5: 4}.get(key & 7) or varint()
        yield key >> 3, message[at : at + size]
        at += size
