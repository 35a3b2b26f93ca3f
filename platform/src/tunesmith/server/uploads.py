"""From uploaded bytes to a READY dataset: check every row in a scratch file, store the object, then commit.

Killed at any point, the dataset is either READY with all its rows or still UPLOADING, and the same upload can be repeated.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from tunesmith.db import datasets as table
from tunesmith.db.session import reading
from tunesmith.db.tables import Dataset
from tunesmith.errors import AlreadyExists, FailedPrecondition, InvalidArgument
from tunesmith.schemas.names import short_id
from tunesmith.server.control import ControlPlane
from tunesmith.storage.rows import CheckedRows, check_rows, read_lines


def fill_from_file(control: ControlPlane, name: str, file: IO[bytes]) -> Dataset:
    """Give the dataset the rows of one uploaded file. Raises InvalidArgument with the line, NotFound, AlreadyExists."""
    with reading(control.sessions) as session:
        table.get_dataset(session, name)
    return _fill(control, name, [file])


def fill_from_pending(control: ControlPlane, name: str) -> Dataset:
    """Give the dataset the rows of the files that were PUT to its signed URLs, in the order of their names.

    Raises as `fill_from_file`, and FailedPrecondition when a file is missing.
    """
    with reading(control.sessions) as session:
        dataset = table.get_dataset(session, name)
    pending = dataset.spec.get("pendingUpload")
    if not pending:
        if dataset.state == table.READY:
            return dataset  # a repeated call
        raise FailedPrecondition(f"The dataset {name} has no upload to validate: ask for :getUploadEndpoint first.")
    for filename, file in pending.items():
        if control.objects.size(file["key"]) != file["size"]:
            raise FailedPrecondition(
                f"The file {filename!r} has not arrived: PUT its {file['size']} bytes to its URL first."
            )
    with tempfile.TemporaryDirectory(dir=control.scratch()) as folder:
        paths = [
            control.objects.download(pending[filename]["key"], Path(folder, str(index)))
            for index, filename in enumerate(sorted(pending))
        ]
        files = [path.open("rb") for path in paths]
        try:
            filled = _fill(control, name, files)
        finally:
            for file in files:
                file.close()
    for file in pending.values():
        control.objects.delete(file["key"])
    return filled


def _fill(control: ControlPlane, name: str, files: Sequence[IO[bytes]]) -> Dataset:
    with tempfile.NamedTemporaryFile(dir=control.scratch(), suffix=".jsonl") as scratch:
        checked = _check(control, name, itertools.chain.from_iterable(read_lines(file) for file in files), scratch)
        scratch.flush()
        account = name.split("/")[1]
        key = f"datasets/{account}/{short_id(name)}/{checked.sha256[:32]}.jsonl"
        with reading(control.sessions) as session:
            dataset = table.get_dataset(session, name)
            if dataset.state == table.READY and dataset.object_key != key:
                raise AlreadyExists(f"The dataset {name} has other rows already. Create another dataset for these.")
        control.objects.put_file(key, Path(scratch.name))
        with control.sessions.begin() as session:
            facts = {"kind": checked.kind, "unanswered": checked.unanswered}
            return table.fill_dataset(session, name, key, checked.rows, checked.bytes, facts)


def _check(control: ControlPlane, name: str, lines: Iterator[bytes], target: IO[bytes]) -> CheckedRows:
    try:
        return check_rows(lines, target)
    except InvalidArgument as error:
        with control.sessions.begin() as session:
            table.record_bad_upload(session, name, error.code, error.message)
        raise
