"""Builds as jobs: from an uploaded archive to ACTIVE or BUILD_FAILED, through cancels, crashes of the worker, and newer uploads."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from pathlib import Path

import pytest
from tunesmith.db import evaluators, jobs
from tunesmith.db.evaluator_versions import list_versions, newest_version
from tunesmith.db.secrets import create_secret
from tunesmith.db.session import reading
from tunesmith.db.tables import Evaluator
from tunesmith.evaluators import protection
from tunesmith.evaluators.build import MANIFEST
from tunesmith.jobs.evaluator_build import EvaluatorBuild
from tunesmith.launch import start
from tunesmith.storage.keys import load_keys
from tunesmith.storage.objects import ObjectStore

from tests.evaluators.standin import ENTRY, make_wheels, pack
from tests.jobs.conftest import ACCOUNT, final, until, working

NAME = f"{ACCOUNT}/evaluators/demo"
GOOD = {"requirements.txt": "eval-protocol\n", "evaluation.py": "def test_it(row): ...\n"}
SLOW = "import time\nprint('importing', flush=True)\ntime.sleep({})\ndef test_it(row): ...\n"
WORKER = """
import asyncio, sys
from pathlib import Path
from tunesmith.jobs import handlers, __main__
from tunesmith.jobs.evaluator_build import EvaluatorBuild
from tunesmith.settings import Settings
__main__.handlers = lambda settings: [(EvaluatorBuild(Path(sys.argv[2])), 2)]
asyncio.run(__main__.work(Settings.load(data_dir=sys.argv[1], lease_seconds=20)))
"""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory) -> Path:
    return make_wheels(tmp_path_factory.mktemp("wheels"))


@pytest.fixture
def upload(settings, sessions, tmp_path):
    """Create the evaluator if need be and queue the build of these files; the job's name."""

    def send(files: dict[str, str], entry: str = ENTRY) -> str:
        archive = pack(tmp_path / "project.tar.gz", files)
        with sessions.begin() as session:
            if session.get(Evaluator, NAME) is None:
                evaluators.create_evaluator(session, ACCOUNT, NAME, {"entryPoint": entry})
            key = evaluators.set_pending_source(session, NAME, "project.tar.gz", archive.stat().st_size)
            ObjectStore.open(settings).put_file(key, archive)
            job = evaluators.start_build(session, NAME)
            assert job is not None
            return job.name

    return send


def evaluator(sessions) -> Evaluator:
    with reading(sessions) as session:
        return evaluators.get_evaluator(session, NAME)


def build_dir(sessions) -> Path:
    folder = evaluator(sessions).build_dir
    assert folder is not None
    return Path(folder)


async def test_an_upload_becomes_active(settings, sessions, wheels, upload):
    name = upload(GOOD)
    async with working(settings, sessions, [(EvaluatorBuild(wheels), 2)]):
        job = await final(sessions, name)
    assert job.state == jobs.COMPLETED
    row = evaluator(sessions)
    assert (row.state, row.status["code"]) == (evaluators.ACTIVE, "OK")
    assert build_dir(sessions) == settings.data_dir / "evaluators" / "local" / "demo" / "1"
    assert (build_dir(sessions) / MANIFEST).exists()
    assert "installing requirements.txt" in row.build_log


async def test_a_failed_build_says_why_and_hides_secrets(settings, sessions, wheels, upload):
    with sessions.begin() as session:
        master = load_keys(settings).master
        create_secret(session, ACCOUNT, f"{ACCOUNT}/secrets/judge", "JUDGE_KEY", "hunter2-hunter2", master)
    leak = "import os\nprint('key is', os.environ['JUDGE_KEY'])\nraise RuntimeError(os.environ['JUDGE_KEY'])\n"
    name = upload({**GOOD, "evaluation.py": leak})
    async with working(settings, sessions, [(EvaluatorBuild(wheels), 2)]):
        job = await final(sessions, name)
    row = evaluator(sessions)
    assert (job.state, row.state, row.build_dir) == (jobs.FAILED, evaluators.BUILD_FAILED, None)
    assert row.status["code"] == "INVALID_ARGUMENT"
    assert row.status["message"] == f"The evaluator {ENTRY} cannot be loaded: RuntimeError: [JUDGE_KEY]"
    assert "key is [JUDGE_KEY]" in row.build_log
    assert "hunter2" not in row.build_log


async def test_the_log_follows_and_a_cancelled_build_fails(settings, sessions, wheels, upload):
    name = upload({**GOOD, "evaluation.py": SLOW.format(50)})
    async with working(settings, sessions, [(EvaluatorBuild(wheels), 2)]):
        await until(sessions, name, lambda job: "importing\n" in evaluator(sessions).build_log)
        with sessions.begin() as session:
            jobs.request_cancel(session, name)
        job = await final(sessions, name)
    row = evaluator(sessions)
    assert (job.state, row.state) == (jobs.CANCELLED, evaluators.BUILD_FAILED)
    assert row.status == {"code": "CANCELLED", "message": "The build was cancelled."}


async def test_a_log_of_any_length_is_kept_by_both_ends(settings, sessions, wheels, upload):
    noisy = "for i in range(40_000):\n    print(f'line {i} ' + 'x' * 60)\n"
    name = upload({**GOOD, "evaluation.py": noisy + GOOD["evaluation.py"]})
    async with working(settings, sessions, [(EvaluatorBuild(wheels), 2)]):
        await final(sessions, name)
    row = evaluator(sessions)
    assert row.state == evaluators.ACTIVE, row.status
    assert len(row.build_log) < 600_000
    assert "unpacking the upload" in row.build_log
    assert "bytes left out ..." in row.build_log
    assert row.build_log.rstrip().splitlines()[-1].startswith("# built: ")


async def test_a_newer_upload_is_never_overwritten_by_an_older_build(settings, sessions, wheels, upload):
    older = upload({**GOOD, "evaluation.py": SLOW.format(2)})
    async with working(settings, sessions, [(EvaluatorBuild(wheels), 2)]):
        await until(sessions, older, lambda job: "importing\n" in evaluator(sessions).build_log)
        newer = upload({**GOOD, "evaluation.py": "raise RuntimeError('newer')\n"})
        await final(sessions, older)
        await final(sessions, newer)
    row = evaluator(sessions)
    assert (row.state, row.version, row.build_dir) == (evaluators.BUILD_FAILED, 2, None)
    assert "newer" in row.status["message"]


async def test_a_deleted_evaluator_cancels_its_build(settings, sessions, wheels, upload):
    name = upload(GOOD)
    with sessions.begin() as session:
        session.delete(evaluators.get_evaluator(session, NAME))
    async with working(settings, sessions, [(EvaluatorBuild(wheels), 2)]):
        job = await final(sessions, name)
    assert job.state == jobs.CANCELLED


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_worker_that_ends_in_the_middle_is_followed_by_one_that_finishes(
    settings, sessions, wheels, upload, number
):
    name = upload({**GOOD, "evaluation.py": SLOW.format(2)})
    command = [sys.executable, "-c", WORKER, settings.data_dir, wheels]
    first = start(command, name="worker 1", log_path=settings.path("logs", "worker1.log"))
    try:
        await until(sessions, name, lambda job: "importing\n" in evaluator(sessions).build_log)
        first.signal(number)
        assert await first.wait() == (-number if number == signal.SIGKILL else 0)
    finally:
        await first.stop()
    with reading(sessions) as session:
        held = jobs.get(session, name)
        assert held.state == jobs.RUNNING
        assert (held.lease_owner is None) == (number == signal.SIGTERM)
    hosts = f"{settings.data_dir}/evaluators/local/.work/demo-1/venv/bin/python"
    deadline = time.monotonic() + 60  # the kernel ends them with the worker; how fast depends on the machine's load
    while any(hosts in command for command in commands()) and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    assert not any(hosts in command for command in commands())
    second = start(command, name="worker 2", log_path=settings.path("logs", "worker2.log"))
    try:
        job = await final(sessions, name)  # well before the lease of 20 s runs out
    finally:
        await second.stop()
    assert job.state == jobs.COMPLETED
    assert job.attempts == (2 if number == signal.SIGKILL else 1)
    assert evaluator(sessions).state == evaluators.ACTIVE


async def test_a_build_that_was_in_place_before_the_crash_is_taken_over(settings, sessions, wheels, upload):
    name = upload(GOOD)
    async with working(settings, sessions, [(EvaluatorBuild(wheels), 2)]):
        await final(sessions, name)
    built = (build_dir(sessions) / MANIFEST).stat().st_mtime_ns
    with sessions.begin() as session:  # as if the worker had died between the rename and the commit
        job = jobs.get(session, name)
        job.state, job.lease_owner, job.lease_expires = jobs.RUNNING, None, 0.0
        evaluators.get_evaluator(session, NAME).state = evaluators.BUILDING
    async with working(settings, sessions, [(EvaluatorBuild(wheels), 2)]):
        await final(sessions, name)
    row = evaluator(sessions)
    assert row.state == evaluators.ACTIVE
    assert (build_dir(sessions) / MANIFEST).stat().st_mtime_ns == built


def commands() -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().decode(errors="replace"))
        except OSError:
            continue
    return found


def edit(settings, sessions, tmp_path, files: dict[str, str]) -> str:
    """Queue the build of the next version as an edit does; the job's name."""
    archive = pack(tmp_path / "edit.tar.gz", files)
    with sessions.begin() as session:
        base = newest_version(session, NAME)
        key = f"evaluators/local/demo/edits/{base + 1}.tar.gz"
        ObjectStore.open(settings).put_file(key, archive)
        return evaluators.start_edit(session, NAME, base, key, "changed").name


async def test_an_edit_with_the_same_requirements_shares_the_environment_and_cannot_change_it(
    settings, sessions, wheels, upload, tmp_path
):
    if not protection.active(settings.sandbox):
        pytest.skip("there is no sandbox here: environments are copied")
    upload(GOOD)
    site = "venv/lib/python3.11/site-packages/eval_protocol/__init__.py"
    spoil = (
        "import eval_protocol, json\n"
        "try:\n    open(eval_protocol.__file__, 'a').write('spoilt = 1')\nexcept OSError as error:\n    print('kept:', error)\n"
    )
    async with working(settings, sessions, [(EvaluatorBuild(wheels), 2)]):
        await final(sessions, f"{NAME}/builds/1")
        first = build_dir(sessions)
        job = await final(
            sessions, edit(settings, sessions, tmp_path, {**GOOD, "evaluation.py": spoil + GOOD["evaluation.py"]})
        )
        assert job.state == jobs.COMPLETED
        second = build_dir(sessions)
        log = evaluator(sessions).build_log
        third = await final(
            sessions, edit(settings, sessions, tmp_path, {**GOOD, "requirements.txt": "eval-protocol[svgbench]\n"})
        )
    assert first != second
    assert "its environment serves again" in log
    assert "installing" not in log
    assert "kept: " in log
    assert (first / site).read_text() == (second / site).read_text() == ""
    assert (first / site).stat().st_ino == (second / site).stat().st_ino
    assert third.state == jobs.FAILED  # tiny-extra is nowhere to be had: it was really installed anew
    with reading(sessions) as session:
        states = [(row.version, row.state) for row in list_versions(session, NAME)]
    assert states == [(3, evaluators.BUILD_FAILED), (2, evaluators.ACTIVE), (1, evaluators.ACTIVE)]
    assert build_dir(sessions) == second


async def test_without_a_sandbox_the_environment_is_copied(settings, sessions, wheels, upload, tmp_path):
    settings = settings.model_copy(update={"sandbox": "off"})
    upload(GOOD)
    async with working(settings, sessions, [(EvaluatorBuild(wheels), 2)]):
        await final(sessions, f"{NAME}/builds/1")
        first = build_dir(sessions)
        await final(
            sessions, edit(settings, sessions, tmp_path, {**GOOD, "evaluation.py": "def test_it(row): return 2\n"})
        )
    second = build_dir(sessions)
    site = "venv/lib/python3.11/site-packages/eval_protocol/host.py"
    assert "serves again" in evaluator(sessions).build_log
    assert (first / site).stat().st_ino != (second / site).stat().st_ino


async def test_every_version_is_built_and_keeps_its_own_log(settings, sessions, wheels, upload, tmp_path):
    upload({**GOOD, "evaluation.py": "print('one')\n" + SLOW.format(1)})
    second = edit(settings, sessions, tmp_path, {**GOOD, "evaluation.py": "print('two')\nraise SystemExit\n"})
    async with working(settings, sessions, [(EvaluatorBuild(wheels), 2)]):
        await final(sessions, f"{NAME}/builds/1")
        await final(sessions, second)
    with reading(sessions) as session:
        two, one = list_versions(session, NAME)
    assert (one.state, two.state) == (evaluators.ACTIVE, evaluators.BUILD_FAILED)
    assert one.described["name"] == "test_it"
    assert "one" in one.build_log
    assert "two" in two.build_log
    row = evaluator(sessions)
    assert (row.version, row.state, row.build_log) == (2, evaluators.BUILD_FAILED, two.build_log)
