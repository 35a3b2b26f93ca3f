"""Rewinding and extending: a new run directory that begins as another run was at policy version k.

It has that run's data, sealed batches 0..k-1, adapters 0..k and checkpoint k (hard links: none of them is ever written to again), and what
was recorded up to there: rollouts, events, metrics. Rollouts draw the noise of the run it came from, so that without any change it
repeats what that one did, bit for bit.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tunesmith.errors import FailedPrecondition
from tunesmith.runs.config import RunConfig
from tunesmith.runs.files import BUDGETS_FILE, adapter_path, batch_path, checkpoint_path, read_json_lines, write_atomic

_CHECKPOINT = re.compile(r"step-(\d{6,})")
Keep = Callable[[dict[str, Any]], bool]


def rewindable_versions(run_dir: Path) -> list[int]:
    """Policy versions that a run can be rewound to: those whose checkpoint is there, and 0 once the first adapter is."""
    folder = run_dir / "checkpoints"
    found = (_CHECKPOINT.fullmatch(path.name) for path in (folder.iterdir() if folder.is_dir() else ()))
    first = [0] if adapter_path(run_dir, 0).exists() else []
    return [*first, *sorted(int(match[1]) for match in found if match)]


def hold_checkpoint(source: Path, target: Path, version: int) -> None:
    """Link the checkpoint of a version into a new run directory: a learner that still runs may drop its own any time.

    Raises FailedPrecondition naming the versions that are there.
    """
    if version:
        try:
            _link_folder(checkpoint_path(source, version), checkpoint_path(target, version))
            return
        except FileNotFoundError:
            shutil.rmtree(checkpoint_path(target, version), ignore_errors=True)
    elif adapter_path(source, 0).exists():
        return
    versions = rewindable_versions(source)
    there = f"There are those of {', '.join(map(str, versions))}." if versions else "There is none yet."
    raise FailedPrecondition(
        f"The checkpoint of policy version {version} is not kept. {there} "
        "A job that is created with keepAllCheckpoints can be rewound to every version."
    )


def evaluator_in_force(run_dir: Path, version: int) -> tuple[int | None, float | None]:
    """(evaluator version, learning rate) with which the step that led to policy version `version` was taken; None: the job's own."""
    for _, event in read_json_lines(run_dir / "events.jsonl"):
        if event["kind"] == "chunk" and event["sealed"] and event["step"] == version - 1:
            evaluator = event.get("evaluator_version")
            return evaluator if isinstance(evaluator, int) else None, event.get("learning_rate")
    return None, None


def fork_run(
    source: Path,
    target: Path,
    version: int,
    *,
    job: str,
    evaluator_version: str,
    host_socket: Path,
    gateway_url: str,
    epochs: int | None = None,
) -> RunConfig:
    """Fill the run directory `target`, whose checkpoint is held; run.json comes last. Doing it again does no harm.

    `epochs` are those of the new run, None: as many as the source's. An epoch's order depends on its number alone, so that a run of one
    epoch that is forked at its end with two of them goes on as one of two epochs would have.

    Raises FailedPrecondition when `source` was deleted meanwhile, or its records are not complete.
    """
    try:
        return _fork(
            source,
            target,
            version,
            job=job,
            evaluator_version=evaluator_version,
            host_socket=host_socket,
            gateway_url=gateway_url,
            epochs=epochs,
        )
    except FileNotFoundError as error:
        raise FailedPrecondition(
            f"The run that {job} goes on from is not complete any more ({error.filename} is missing); create a new job."
        ) from None


def _fork(
    source: Path,
    target: Path,
    version: int,
    *,
    job: str,
    evaluator_version: str,
    host_socket: Path,
    gateway_url: str,
    epochs: int | None,
) -> RunConfig:
    config = RunConfig.read(source)
    events = [event for _, event in read_json_lines(source / "events.jsonl")]
    chunks = _chunks_up_to(events, version)

    def is_past(record: dict[str, Any]) -> bool:
        if record["kind"] in ("train", "chunk"):
            return record["chunk"] in chunks
        if record["kind"] == "control":
            return record["step"] < version
        return record["version"] <= version

    (target / "data").mkdir(parents=True, exist_ok=True)
    for rows in (source / "data").iterdir():
        _link(rows, target / "data" / rows.name)
    for step in range(version):
        _link(batch_path(source, step), batch_path(target, step))
    for number in range(version + 1):
        _link_folder(adapter_path(source, number), adapter_path(target, number))
    _copy_lines(source / "rollouts.jsonl", target / "rollouts.jsonl", is_past)
    _copy_lines(source / "events.jsonl", target / "events.jsonl", is_past)
    _copy_lines(source / "metrics.jsonl", target / "metrics.jsonl", lambda line: line["step"] < version)
    past = [event for event in events if is_past(event)]
    if (source / BUDGETS_FILE).exists():  # how a step was cut decides its last bits, and this run repeats that one's
        _copy_lines(source / BUDGETS_FILE, target / BUDGETS_FILE, lambda line: True)
    write_atomic(target / "status.json", json.dumps(_status(past, version)))
    held_out = config.evaluation.dataset
    forked = config.model_copy(
        update={
            "job": job,
            "dataset": target / "data" / config.dataset.name,
            "evaluation": config.evaluation.model_copy(
                update={"dataset": target / "data" / held_out.name if held_out else None}
            ),
            "host_socket": host_socket,
            "gateway_url": gateway_url,
            "noise_job": config.noise_job or config.job,
            "epochs": epochs or config.epochs,
            **({"evaluator_version": evaluator_version} if evaluator_version else {}),
        }
    )
    write_atomic(target / "run.json", forked.model_dump_json(indent=1))
    return forked


def _chunks_up_to(events: list[dict[str, Any]], version: int) -> set[int]:
    """The chunks that were done when policy version `version` was made: up to the one that sealed the batch before it."""
    done: set[int] = set()
    if version == 0:
        return done
    for event in events:
        if event["kind"] == "chunk":
            done.add(event["chunk"])
            if event["sealed"] and event["step"] == version - 1:
                return done
    raise FailedPrecondition(f"No chunk made policy version {version}; its events are not complete.")


def _status(past: list[dict[str, Any]], version: int) -> dict[str, Any]:
    chunks = [event for event in past if event["kind"] == "chunk"]
    scored = [event for event in past if event["kind"] == "evaluation" and event["version"] > 0]
    scored = [event for event in scored if event.get("evaluator_version") == scored[-1].get("evaluator_version")]
    best = max(scored, key=lambda event: (event["score"], event["version"]), default=None)
    last = chunks[-1] if chunks else {}
    controls = [event for event in past if event["kind"] == "control"]
    control = (
        {name: value for name, value in controls[-1].items() if name not in ("kind", "time")} if controls else None
    )
    return {
        "state": "RUNNING",
        "epoch": last.get("epoch", 0),
        "step": version,
        "mean_score": last.get("mean_score"),
        "optimizer_steps": version,
        "version": version,
        "best_version": best["version"] if best else None,
        "best_score": best["score"] if best else None,
        "control": control,
    }


def _copy_lines(source: Path, target: Path, keep: Keep) -> None:
    lines = (json.dumps(record, separators=(",", ":")) for _, record in read_json_lines(source) if keep(record))
    temporary = target.with_name(f".{target.name}.tmp")
    with open(temporary, "w") as file:
        file.writelines(f"{line}\n" for line in lines)
    temporary.rename(target)


def _link_folder(source: Path, target: Path) -> None:
    """Link the files of a folder into a new one that is renamed into place. Raises FileNotFoundError when one is gone."""
    if target.exists():
        return
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for name in sorted(os.listdir(source)):
        _link(source / name, temporary / name)
    temporary.rename(target)


def _link(source: Path, target: Path) -> None:
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except (FileNotFoundError, FileExistsError):
        if not target.exists():
            raise
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)
