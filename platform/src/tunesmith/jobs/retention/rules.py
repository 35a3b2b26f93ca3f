"""The rules: what of a data folder is needed, and what is left over. They read; nothing here removes.

Every rule looks at one snapshot of the database and at the files. A path that is younger than `YOUNG_SECONDS` is never left over: somebody may
be about to name it in the database.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from tunesmith.catalog import canonical_name
from tunesmith.catalog.known import KNOWN
from tunesmith.db.captured_retention import Owner, captured_size, unnamed_answers
from tunesmith.db.evaluators import ACTIVE
from tunesmith.db.jobs import FAILED, FINAL_STATES
from tunesmith.db.tables import Dataset, Deployment, Evaluator, EvaluatorVersion, Job, Model
from tunesmith.jobs.retention.files import freed, newest
from tunesmith.settings import Settings

YOUNG_SECONDS = 86_400.0
TRAINING_KINDS = ("rft", "sft", "dpo")
KEPT_OF_A_RUN = ("run.json", "status.json", "events.jsonl", "metrics.jsonl", "control.json")
"""Small, and what explains an old job."""


@dataclass(frozen=True)
class Leftover:
    """Something that is not needed."""

    category: str
    name: str
    """What people call it: a path in the data folder, or a job."""
    bytes: int
    paths: tuple[Path, ...] = ()
    """Files and folders to remove."""
    job: str | None = None
    """Resource name of the job whose run directory is thinned."""
    captured: Owner | None = None
    """Whose completions and logs are forgotten."""
    version: str | None = None
    """Resource name of the evaluator version whose build it is."""


class Rules:
    """What is left over in one data folder at one moment.

    Args:
        settings: of the platform.
        session: a snapshot.
        before: what ended before (Unix seconds) is past its retention.
        models: also base models that nothing uses.
    """

    def __init__(self, settings: Settings, session: Session, before: float, *, models: bool = False) -> None:
        self._data = settings.data_dir
        self._session = session
        self._before = before
        self._models = models
        self._young = time.time() - YOUNG_SECONDS
        self._jobs = list(session.scalars(select(Job)))

    def leftovers(self) -> Iterator[Leftover]:
        """Everything, in the order in which it is removed."""
        yield from self._runs()
        yield from self._runs_of_nobody()
        yield from self._captured()
        yield from self._builds()
        yield from self._caches()
        yield from self._uploads()
        yield from self._objects()
        yield from self._logs()
        if self._models:
            yield from self._base_models()

    def past(self, job: Job) -> bool:
        """Whether a job has ended for good before the retention began: a FAILED one can be resumed, and what others fork from is needed."""
        ended = job.state in FINAL_STATES and job.state != FAILED and not job.delete_requested
        return ended and (job.completed or 0) < self._before and not self._is_forked_from(job.name)

    def _is_forked_from(self, name: str) -> bool:
        unfinished = (job for job in self._jobs if job.state not in FINAL_STATES or job.state == FAILED)
        return any(job.spec.get("rewound_from") == name for job in unfinished)

    def _runs(self) -> Iterator[Leftover]:
        served = [Path(path) for path in self._session.scalars(select(Model.adapter_path))]
        for job in self._jobs:
            folder = self._data / "runs" / job.name.rsplit("/", 1)[-1]
            if job.kind not in TRAINING_KINDS or not self.past(job) or not folder.is_dir():
                continue
            parts = tuple(part for part in sorted(folder.iterdir()) if part.name not in KEPT_OF_A_RUN)
            if parts and not any(path.is_relative_to(folder) for path in served):
                yield Leftover("run directories", job.name, freed(parts), parts, job=job.name)

    def _runs_of_nobody(self) -> Iterator[Leftover]:
        known = {job.name.rsplit("/", 1)[-1] for job in self._jobs}
        for name in ("runs", "evaluations", "sessions", "hosts"):
            for folder in _children(self._data / name):
                owner = folder.name.split(".")[0] if name == "hosts" else folder.name
                if owner not in known and newest(folder) < min(self._young, self._before):
                    yield self._files("folders of deleted jobs", folder)

    def _captured(self) -> Iterator[Leftover]:
        database = self._data / "completions.db"
        gone: list[Owner] = []
        for job in self._jobs:
            if not self.past(job):
                continue
            owner = (job.account, job.name.rsplit("/", 1)[-1])
            rows, size = captured_size(database, owner)
            if rows:
                gone.append(owner)
                yield Leftover("completions and logs of ended jobs", job.name, size, captured=owner)
        if database.exists():
            for file in unnamed_answers(database, gone):
                yield self._files("answers that no completion names", file)

    def _builds(self) -> Iterator[Leftover]:
        used = {
            job.spec.get("evaluator_dir") for job in self._jobs if job.state not in FINAL_STATES or job.state == FAILED
        }
        used |= {build for build in self._session.scalars(select(Evaluator.build_dir)) if build}
        steered = {job.spec.get("evaluator") for job in self._jobs if job.state not in FINAL_STATES}
        known: set[str] = set()
        for version in self._session.scalars(select(EvaluatorVersion)):
            build = version.build_dir
            if build is None:
                continue
            known.add(build)
            # A running job may be told to score with any version of its evaluator.
            needed = build in used or version.evaluator in steered or version.state != ACTIVE
            if not needed and version.updated < self._before and Path(build).is_dir():
                yield Leftover(
                    "builds of old evaluator versions",
                    version.name,
                    freed([Path(build)]),
                    (Path(build),),
                    version=version.name,
                )
        building = any(job.kind == "evaluator_build" and job.state not in FINAL_STATES for job in self._jobs)
        for account in () if building else _children(self._data / "evaluators"):
            for evaluator in _children(account):
                for build in _children(evaluator) if evaluator.name != ".work" else ():
                    if str(build) not in known | used and newest(build) < min(self._young, self._before):
                        yield self._files("builds of old evaluator versions", build)

    def _caches(self) -> Iterator[Leftover]:
        """uv's: it fills again, from the package index, with the next build."""
        if any(job.kind == "evaluator_build" and job.state not in FINAL_STATES for job in self._jobs):
            return
        for work in self._data.glob("evaluators/*/.work"):
            if work.is_dir() and any(work.iterdir()) and newest(work) < self._before:
                yield self._files("cache of packages", work)

    def _uploads(self) -> Iterator[Leftover]:
        for file in _children(self._data / "uploads"):
            if newest(file) < self._young:
                yield self._files("uploads that were not finished", file)

    def _objects(self) -> Iterator[Leftover]:
        session, store = self._session, self._data / "objects"
        keys = {key for key in session.scalars(select(Dataset.object_key)) if key}
        keys |= {key for key in session.scalars(select(Evaluator.archive_key)) if key}
        keys |= set(session.scalars(select(EvaluatorVersion.archive_key)))
        for spec in [*session.scalars(select(Dataset.spec)), *session.scalars(select(Evaluator.spec))]:
            pending = spec.get("pendingUpload") or {}
            keys |= {entry["key"] for entry in ([pending] if "key" in pending else pending.values())}
        for job in self._jobs:  # a build, or an evaluation, names its object in its spec before anybody else does
            keys |= {value for value in job.spec.values() if isinstance(value, str)}
        for noun in ("datasets", "evaluators"):
            for file in sorted((store / noun).rglob("*")) if (store / noun).is_dir() else ():
                if file.is_file() and str(file.relative_to(store)) not in keys and newest(file) < self._young:
                    yield self._files("objects that nothing names", file)
        models = {Path(path) for path in session.scalars(select(Model.adapter_path))}
        for account in _children(store / "models"):
            for folder in _children(account):
                if folder not in models and newest(folder) < self._young and folder.stat().st_ctime < self._young:
                    yield self._files("objects that nothing names", folder)

    def _logs(self) -> Iterator[Leftover]:
        alive = {job.name.rsplit("/", 1)[-1] for job in self._jobs if not self.past(job)}
        for file in _children(self._data / "logs"):
            if file.name in ("web.log", "worker.log") or newest(file) >= self._before:
                continue
            if not any(file.name.startswith(f"{job}-") for job in alive):
                yield self._files("logs", file)

    def _base_models(self) -> Iterator[Leftover]:
        jobs = [job for job in self._jobs if job.state not in FINAL_STATES or job.state == FAILED]
        named = {str(job.spec.get("base_model")) for job in jobs}
        named |= set(self._session.scalars(select(Model.base_model))) | set(
            self._session.scalars(select(Deployment.base_model))
        )
        used = {canonical_name(name) for name in named}
        repos = {known.repo for known in KNOWN.values() if known.repo is not None and known.name in used}
        used |= {repo.replace("/", "--") for repo in repos}
        used |= {name.replace("/", "--") for name in used}
        for folder in _children(self._data / "models"):
            plain = folder.name.removeprefix("models--")
            if plain not in used and not folder.name.startswith(".") and newest(folder) < self._young:
                yield self._files("base models that nothing uses", folder)

    def _files(self, category: str, path: Path) -> Leftover:
        return Leftover(category, str(path.relative_to(self._data)), freed([path]), (path,))


def still_past(session: Session, name: str, before: float) -> bool:
    """Whether a job is still one whose run directory may be thinned; asked under the write lock, before anything is removed."""
    job = session.get(Job, name)
    if job is None:
        return False
    forked = select(Job.name).where(
        Job.spec["rewound_from"].as_string() == name, or_(Job.state.not_in(FINAL_STATES), Job.state == FAILED)
    )
    ended = job.state in FINAL_STATES and job.state != FAILED and (job.completed or 0) < before
    return ended and session.scalar(forked.limit(1)) is None


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
