"""Datasets: announced, then filled once, then never changed."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy.orm import Session

from tunesmith.db.jobs_using import running_jobs_using
from tunesmith.db.listing import Fields, ListQuery, page
from tunesmith.db.tables import Dataset
from tunesmith.errors import AlreadyExists, FailedPrecondition, NotFound

UPLOADING = "UPLOADING"
READY = "READY"

FIELDS = Fields(
    key=Dataset.name,
    order={"name": Dataset.name, "create_time": Dataset.created, "update_time": Dataset.updated},
    filters={"name": Dataset.name, "state": Dataset.state, "display_name": Dataset.spec["displayName"].as_string()},
)


def create_dataset(session: Session, account: str, name: str, spec: dict[str, Any]) -> Dataset:
    """Announce a dataset. The same announcement again is answered with the dataset, unless its rows are here already.

    Raises AlreadyExists.
    """
    existing = session.get(Dataset, name)
    if existing is not None:
        if existing.state == UPLOADING and _announced(existing.spec) == spec:
            return existing
        raise AlreadyExists(f"The dataset {name} exists already. Choose another id, or delete it first.")
    dataset = Dataset(
        name=name,
        account=account,
        spec=spec,
        state=UPLOADING,
        status={"code": "OK", "message": "Waiting for its rows."},
        example_count=int(spec.get("exampleCount", 0)),
    )
    session.add(dataset)
    session.flush()
    return dataset


def get_dataset(session: Session, name: str) -> Dataset:
    """The dataset of that resource name. Raises NotFound."""
    dataset = session.get(Dataset, name)
    if dataset is None:
        raise NotFound(f"There is no dataset {name}. Create and upload it first.")
    return dataset


def update_dataset(session: Session, name: str, changes: dict[str, Any]) -> Dataset:
    """Change what the client may set (wire names). Raises NotFound."""
    dataset = get_dataset(session, name)
    dataset.spec = {**dataset.spec, **changes}
    dataset.updated = time.time()
    return dataset


def set_pending_upload(session: Session, name: str, files: dict[str, dict[str, Any]]) -> Dataset:
    """Remember the files that signed URLs were given out for: file name -> {"key", "size"}. Replaces earlier ones.

    Raises NotFound, FailedPrecondition when the dataset has its rows.
    """
    dataset = get_dataset(session, name)
    if dataset.state == READY:
        raise FailedPrecondition(
            f"The dataset {name} has its rows already, and a dataset does not change. Create another one."
        )
    dataset.spec = {**dataset.spec, "pendingUpload": files}
    dataset.updated = time.time()
    return dataset


def fill_dataset(
    session: Session, name: str, object_key: str, rows: int, size: int, facts: dict[str, Any] | None = None
) -> Dataset:
    """Give a dataset its checked rows: READY from now on. The same rows again are fine.

    `facts` is what the check found out about them, kept as `rowFacts`: {"kind": a `storage.rows.RowKind`, "unanswered"}.

    Raises NotFound, AlreadyExists when it has other rows.
    """
    dataset = get_dataset(session, name)
    if dataset.state == READY:
        if dataset.object_key != object_key:
            raise AlreadyExists(f"The dataset {name} has other rows already. Create another dataset for these.")
        return dataset
    announced = dataset.spec.get("exampleCount")
    corrected = announced is not None and int(announced) != rows
    message = f"exampleCount corrected from {announced} to {rows}, the rows that were uploaded." if corrected else ""
    dataset.state = READY
    dataset.status = {"code": "OK", "message": message}
    dataset.spec = {**_announced(dataset.spec), "rowFacts": facts or {}}
    dataset.object_key, dataset.example_count, dataset.bytes = object_key, rows, size
    dataset.updated = time.time()
    return dataset


def row_facts(dataset: Dataset) -> tuple[str, int | None]:
    """What a READY dataset's rows are (a `storage.rows.RowKind`), and the number of the first conversation without an answer."""
    facts = dataset.spec.get("rowFacts", {})
    return facts.get("kind", "MESSAGES"), facts.get("unanswered")


def record_bad_upload(session: Session, name: str, code: str, message: str) -> None:
    """Keep the reason why an upload was refused; the dataset goes on waiting for its rows."""
    dataset = get_dataset(session, name)
    if dataset.state == UPLOADING:
        dataset.status = {"code": code, "message": message}
        dataset.updated = time.time()


def delete_dataset(session: Session, name: str) -> list[str]:
    """Remove a dataset; returns the keys of its objects, to be deleted once this is committed.

    Raises NotFound, FailedPrecondition while a job needs it.
    """
    dataset = get_dataset(session, name)
    users = running_jobs_using(session, dataset.account, name, ("dataset", "evaluation_dataset"))
    if users:
        raise FailedPrecondition(
            f"The dataset {name} is in use by {users[0]}. Cancel that job first, or wait for its end."
        )
    pending = [str(file["key"]) for file in dataset.spec.get("pendingUpload", {}).values()]
    session.delete(dataset)
    return pending + ([dataset.object_key] if dataset.object_key else [])


def list_datasets(session: Session, account: str, query: ListQuery) -> tuple[list[Dataset], str]:
    """One page of an account's datasets and the token of the next."""
    return page(session, Dataset, [Dataset.account == account], FIELDS, query)


def _announced(spec: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in spec.items() if key != "pendingUpload"}
