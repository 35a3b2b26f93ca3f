"""Backups: whole and consistent while others write, and refused where they were cut, changed, or would overwrite something."""

from __future__ import annotations

import io
import json
import os
import tarfile
import threading
from pathlib import Path

import pytest
import zstandard
from click.testing import CliRunner
from tunesmith.cli.backup import command as backup_command
from tunesmith.cli.restore import command
from tunesmith.db import jobs
from tunesmith.db.session import open_database, reading
from tunesmith.db.tables import Evaluator, Job, Model
from tunesmith.errors import FailedPrecondition, InvalidArgument
from tunesmith.jobs.backup import back_up, restore
from tunesmith.storage.keys import load_keys

from tests.jobs.conftest import ACCOUNT

NAME = f"{ACCOUNT}/reinforcementFineTuningJobs/j"


@pytest.fixture
def data(settings, sessions) -> Path:
    """A data folder with a job in flight."""
    load_keys(settings)
    folder = settings.data_dir
    run = folder / "runs" / "j"
    (run / "adapters" / "v000000").mkdir(parents=True)
    (run / "adapters" / "v000000" / "adapter_model.safetensors").write_bytes(b"weights")
    (run / "adapters" / "v000001.tmp").mkdir()
    (run / "run.json").write_text(json.dumps({"dataset": f"{folder}/runs/j/data/train.jsonl", "n": 4}))
    (run / "rollouts.jsonl").write_text('{"a":1}\n{"torn":')
    build = folder / "evaluators" / "local" / "e" / "1" / "venv" / "bin"
    build.mkdir(parents=True)
    (build / "python").symlink_to("/usr/bin/env")
    (folder / "evaluators" / "local" / ".work" / "cache").mkdir(parents=True)
    (folder / "evaluators" / "local" / ".work" / "cache" / "wheel").write_text("again from the index")
    with sessions.begin() as session:
        jobs.enqueue(session, NAME, ACCOUNT, "rft", {"evaluator_dir": str(build.parents[1])})
        jobs.claim(session, "a worker of then", ["rft"], 1e6)
        session.add(Evaluator(name="e", account=ACCOUNT, spec={}, build_dir=str(build.parents[1])))
        path = str(folder / "objects" / "models" / "local" / "m")
        session.add(Model(name="m", account=ACCOUNT, base_model="b", adapter_path=path, sha256=""))
    return folder


def test_what_is_restored_elsewhere_names_its_new_place(data, tmp_path):
    done = back_up(data, tmp_path / "b.tar.zst")
    assert done.path.stat().st_mode & 0o777 == 0o600
    target = tmp_path / "new place" / "with ä"
    restored = restore(done.path, target)
    assert (restored.unfinished, restored.data_dir) == (1, target)
    assert restored.files == done.files == sum(not path.is_dir() for path in target.rglob("*")), (
        "links are counted, too"
    )
    assert json.loads((target / "runs/j/run.json").read_text())["dataset"] == f"{target}/runs/j/data/train.jsonl"
    assert (target / "runs/j/rollouts.jsonl").read_text() == '{"a":1}\n', "half a line is no line"
    assert (target / "runs/j/adapters/v000000/adapter_model.safetensors").read_bytes() == b"weights"
    assert not (target / "runs/j/adapters/v000001.tmp").exists()
    assert os.readlink(target / "evaluators/local/e/1/venv/bin/python") == "/usr/bin/env"
    assert not (target / "evaluators/local/.work").exists()
    for key in (data / "keys").iterdir():
        copy = target / "keys" / key.name
        assert (copy.read_bytes(), copy.stat().st_mode & 0o777) == (key.read_bytes(), 0o600)
    sessions = open_database(target / "tunesmith.db")
    with reading(sessions) as session:
        job = session.get_one(Job, NAME)
        assert job.spec["evaluator_dir"] == f"{target}/evaluators/local/e/1"
        assert job.lease_owner is None
        assert session.get_one(Evaluator, "e").build_dir == job.spec["evaluator_dir"]
        assert session.get_one(Model, "m").adapter_path == f"{target}/objects/models/local/m"
    with sessions.begin() as session:
        assert jobs.claim(session, "a worker of now", ["rft"], 30) is not None, "it is taken up at once"
    sessions.kw["bind"].dispose()


def test_while_others_write_the_copy_is_whole(data, sessions, tmp_path):
    stop = threading.Event()
    log = data / "runs" / "j" / "rollouts.jsonl"
    log.write_text("")

    def write() -> None:
        number = 0
        with open(log, "ab", buffering=0) as file:
            while not stop.is_set():
                with sessions.begin() as session:  # committed before its line is written, as completions are
                    session.get_one(Job, NAME).progress = {"number": number}
                file.write(json.dumps({"number": number, "text": "x" * 200}).encode() + b"\n")
                number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        while log.stat().st_size < 2000:
            stop.wait(0.01)
        archives = [back_up(data, tmp_path / f"{number}.tar.zst").path for number in range(3)]
    finally:
        stop.set()
        writer.join()
    for number, archive in enumerate(archives):
        target = restore(archive, tmp_path / f"restored{number}").data_dir
        lines = [json.loads(line)["number"] for line in (target / "runs/j/rollouts.jsonl").read_text().splitlines()]
        assert lines == list(range(len(lines)))
        copy = open_database(target / "tunesmith.db")
        with reading(copy) as session:
            assert session.get_one(Job, NAME).progress["number"] <= len(lines), (
                "the files are not older than the database"
            )
        copy.kw["bind"].dispose()


NOT_WHOLE = "no manifest|not a whole one|damaged"
DAMAGES = {
    "cut": NOT_WHOLE,
    "flip": NOT_WHOLE,
    "other": NOT_WHOLE,
    "changed": "damaged: 1 of",
    "escapes": "outside the data",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_not_whole_is_refused_and_leaves_nothing(data, tmp_path, damage):
    archive = back_up(data, tmp_path / "b.tar.zst").path
    content = archive.read_bytes()
    if damage == "cut":
        archive.write_bytes(content[: len(content) // 2])
    elif damage == "flip":
        middle = len(content) // 2
        archive.write_bytes(content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :])
    elif damage == "other":
        archive.write_bytes(b"this is a letter to my aunt")
    else:
        archive.write_bytes(_with_another(content, "keys/master.key" if damage == "changed" else "../outside"))
    target = tmp_path / "t"
    with pytest.raises(InvalidArgument, match=DAMAGES[damage]):
        restore(archive, target)
    assert not target.exists()
    assert not (tmp_path / "outside").exists()
    assert [path.name for path in tmp_path.iterdir() if "restoring" in path.name] == []


def _with_another(content: bytes, name: str) -> bytes:
    """The archive with the bytes of one file changed, or a file of that name added."""
    plain = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(content)).read()
    out = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(plain)) as old, tarfile.open(fileobj=out, mode="w") as new:
        members = {member.name: member for member in old}
        for member in members.values():
            file = old.extractfile(member) if member.isreg() else None
            if member.name == name:
                file = io.BytesIO(b"0" * member.size)
            new.addfile(member, file)
        if name not in members:
            new.addfile(tarfile.TarInfo(name), io.BytesIO(b""))
    return zstandard.compress(out.getvalue())


def test_a_file_that_is_there_is_written_over_only_when_asked_to(data, tmp_path):
    file = tmp_path / "b.tar.zst"
    file.write_text("the backup of last night")
    argv = [str(file), "--data-dir", str(data)]
    answer = CliRunner().invoke(backup_command, argv)
    assert (answer.exit_code, "is there already" in answer.output, "--force" in answer.output) == (1, True, True)
    assert file.read_text() == "the backup of last night"
    answer = CliRunner().invoke(backup_command, [*argv, "--force", "--json"])
    assert json.loads(answer.stdout)["bytes"] == file.stat().st_size
    assert restore(file, tmp_path / "restored").unfinished == 1
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_a_folder_that_holds_something_is_refused(data, tmp_path):
    archive = back_up(data, tmp_path / "b.tar.zst").path
    answer = CliRunner().invoke(command, [str(archive), "--data-dir", str(data)])
    assert (answer.exit_code, "is not empty" in answer.output) == (1, True)
    (tmp_path / "empty").mkdir()
    answer = CliRunner().invoke(command, [str(archive), "--data-dir", str(tmp_path / "empty"), "--json"])
    assert json.loads(answer.stdout)["unfinishedJobs"] == 1
    with pytest.raises(FailedPrecondition, match="no data folder"):
        back_up(tmp_path / "elsewhere", tmp_path / "c.tar.zst")
    with pytest.raises(FailedPrecondition, match="cannot be written"):
        back_up(data, tmp_path / "nowhere" / "c.tar.zst")
