"""The job that makes an uploaded evaluator ACTIVE: `evaluators.build` between two looks at the database.

Its spec is `{"evaluator", "version", "archive_key"}`. The version's row changes in the transaction that ends the job; the evaluator's,
too, while it still is at this version: a newer upload or edit, or a deletion, is never overwritten.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from tunesmith.db import jobs
from tunesmith.db.evaluator_versions import built_before, settle_version, version_name
from tunesmith.db.evaluators import ACTIVE, BUILD_FAILED, BUILD_KIND
from tunesmith.db.secrets import secret_values
from tunesmith.db.tables import Evaluator, EvaluatorVersion
from tunesmith.disk import trouble
from tunesmith.errors import InvalidArgument, TunesmithError
from tunesmith.evaluators.build import BuildRequest, build, remove_build
from tunesmith.evaluators.environment import WHEELS
from tunesmith.jobs.handler import ClaimedJob, Handler, JobContext, Outcome
from tunesmith.settings import Settings
from tunesmith.storage.keys import load_keys
from tunesmith.storage.objects import ObjectStore

_LOG_SECONDS = 0.5
_LONGEST_LOG = 512 * 1024  # bytes kept in the row: the beginning and the end of a longer one
_SHORTEST_SECRET = 6  # replacing shorter values would riddle the log without hiding anything


@dataclass(frozen=True)
class _Source:
    entry_point: str
    secrets: Mapping[str, str]
    previous: Path | None
    """Folder of the newest build before this one."""


class EvaluatorBuild(Handler):
    """Handler of `evaluator_build`."""

    kind = BUILD_KIND

    def __init__(self, wheels: Path = WHEELS) -> None:
        self.wheels = wheels

    async def run(self, job: ClaimedJob, context: JobContext) -> Outcome:
        """Build; the evaluator's log follows as it is written."""
        source = await context.query(lambda session: _source(session, job, context.settings))
        if source is None:
            return Outcome(jobs.CANCELLED, "The evaluator was deleted before this build.", "CANCELLED")
        target, work = folders(context.settings, job)
        work.mkdir(parents=True, exist_ok=True)
        log_path = context.settings.path("logs", f"build-{'-'.join(target.parts[-3:])}.log")
        log_path.unlink(missing_ok=True)
        archive = work / f"{target.parent.name}-{target.name}.tar.gz"
        try:
            await asyncio.to_thread(ObjectStore.open(context.settings).download, job.spec["archive_key"], archive)
            request = BuildRequest(
                archive,
                source.entry_point,
                target,
                work,
                log_path,
                secrets=source.secrets,
                wheels=self.wheels,
                previous=source.previous,
            )
            return await self._build(request, job, context)
        except OSError as error:
            if (full := trouble(error, context.settings.data_dir)) is None:
                raise
            # It made room when it gave up: tried again by itself, it would fill the disk over and over.
            return Outcome(jobs.FAILED, f"The evaluator was not built. {full.message} Then upload it again.", full.code)
        except TunesmithError as error:
            raise type(error)(redact(error.message, source.secrets)) from error
        finally:
            archive.unlink(missing_ok=True)
            if log_path.exists():
                await _copy_log(log_path, source.secrets, job, context)

    async def _build(self, request: BuildRequest, job: ClaimedJob, context: JobContext) -> Outcome:
        building = asyncio.create_task(build(request, context.settings))
        asked = asyncio.create_task(context.cancelled.wait())
        size = -1
        try:
            while not building.done() and not asked.done():
                await asyncio.wait({building, asked}, timeout=_LOG_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                if request.log_path.exists() and (now := request.log_path.stat().st_size) != size:
                    size = now
                    await _copy_log(request.log_path, request.secrets, job, context)
            if not building.done():
                return Outcome(jobs.CANCELLED, "The build was cancelled.", "CANCELLED")
            manifest = building.result()
            return Outcome(jobs.COMPLETED, data={"build_dir": str(request.target), "described": manifest.described})
        finally:
            asked.cancel()
            if not building.done():
                building.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await building

    def settle(self, session: Session, job: ClaimedJob, outcome: Outcome) -> None:
        """Make the version, and the evaluator that is at it, ACTIVE, or BUILD_FAILED with the reason."""
        built = outcome.data if outcome.state == jobs.COMPLETED else None
        state = BUILD_FAILED if built is None else ACTIVE
        name, version = job.spec["evaluator"], job.spec["version"]
        settle_version(session, name, version, state=state, status=outcome.status, built=built)
        evaluator = session.get(Evaluator, name)
        if evaluator is None:
            return
        evaluator.updated = time.time()  # also of an older version: the list of versions is shown with it
        if evaluator.version == version:
            evaluator.state, evaluator.status = state, outcome.status
            evaluator.build_dir = evaluator.build_dir if built is None else built["build_dir"]

    async def discard(self, job: ClaimedJob, context: JobContext) -> None:
        """Remove the built folder."""
        await asyncio.to_thread(remove_build, *folders(context.settings, job))


def folders(settings: Settings, job: ClaimedJob) -> tuple[Path, Path]:
    """The build's folder, `evaluators/{account}/{id}/{version}`, and the account's working folder beside it."""
    _, account, _, identity = job.spec["evaluator"].split("/")
    root = settings.path("evaluators", account, ".work").parent
    return root / identity / str(job.spec["version"]), root / ".work"


def redact(text: str, secrets: Mapping[str, str]) -> str:
    """The text with every secret's value replaced by its name."""
    for name, value in sorted(secrets.items(), key=lambda item: -len(item[1])):
        if len(value) >= _SHORTEST_SECRET:
            text = text.replace(value, f"[{name}]")
    return text


async def _copy_log(path: Path, secrets: Mapping[str, str], job: ClaimedJob, context: JobContext) -> None:
    def copy(session: Session) -> None:
        name, version = job.spec["evaluator"], job.spec["version"]
        log = redact(_both_ends(path), secrets)
        row = session.get(EvaluatorVersion, version_name(name, version))
        if row is not None:
            row.build_log = log
        evaluator = session.get(Evaluator, name)
        if evaluator is not None and evaluator.version == version:
            evaluator.build_log = log

    try:
        await context.transaction(copy)
    except OperationalError as error:
        if not trouble(error, context.settings.data_dir):
            raise  # else the build itself may still end, and says better what there is no room for


def _both_ends(path: Path) -> str:
    """A log that may be of any length, cut to whole lines where its middle is left out: no half of a secret stays at the cut."""
    half = _LONGEST_LOG // 2
    with open(path, "rb") as file:
        head = file.read(half)
        size = path.stat().st_size
        file.seek(max(half, size - half))
        tail = file.read(half)
    if left_out := max(0, size - 2 * half):
        head, tail = head.rpartition(b"\n")[0], tail.partition(b"\n")[2]
        head += f"\n... about {left_out} bytes left out ...\n".encode()
    return (head + tail).decode(errors="replace").replace("\0", "")


def _source(session: Session, job: ClaimedJob, settings: Settings) -> _Source | None:
    name, version = job.spec["evaluator"], job.spec["version"]
    row = session.get(EvaluatorVersion, version_name(name, version))
    if row is None or session.get(Evaluator, name) is None:
        return None
    if not row.entry_point:
        raise InvalidArgument(
            f"The evaluator {name} names no entry point. Create it again with entryPoint `file.py::function`."
        )
    account = "/".join(name.split("/")[:2])
    previous = built_before(session, name, version)
    secrets = secret_values(session, account, load_keys(settings).master)
    return _Source(row.entry_point, secrets, Path(previous) if previous else None)
