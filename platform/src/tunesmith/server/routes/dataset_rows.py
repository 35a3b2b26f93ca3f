"""The rows of a dataset, and figures over them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from tunesmith.db.datasets import get_dataset
from tunesmith.schemas.names import resource_name
from tunesmith.server.auth import AccountId
from tunesmith.server.control import Control, Reader
from tunesmith.server.dataset_rows import page_of_rows, statistics

router = APIRouter(prefix="/v1/accounts/{account_id}/datasets/{dataset_id}", tags=["datasets"])


@router.get("/rows")
def rows(
    account: AccountId,
    dataset_id: str,
    session: Reader,
    control: Control,
    page_size: Annotated[int, Query(alias="pageSize")] = 0,
    page_token: Annotated[str, Query(alias="pageToken")] = "",
    contains: Annotated[str, Query(max_length=1000)] = "",
) -> dict[str, Any]:
    """One page of rows, in their order; `contains` narrows it to those with a text."""
    dataset = get_dataset(session, resource_name(account, "datasets", dataset_id))
    return page_of_rows(control.objects, dataset, page_size, page_token, contains)


@router.get("/statistics")
def figures(account: AccountId, dataset_id: str, session: Reader, control: Control) -> dict[str, Any]:
    """Lengths, roles, fields and duplicates of all rows."""
    dataset = get_dataset(session, resource_name(account, "datasets", dataset_id))
    return statistics(control.objects, dataset)
