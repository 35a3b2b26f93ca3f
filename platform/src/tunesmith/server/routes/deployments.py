"""Deployments: keep a model ready under a name, scale it to zero and back, take it down."""

from __future__ import annotations

import secrets
from typing import Annotated, Any

from fastapi import APIRouter, Query

from tunesmith.db import deployments as table
from tunesmith.db.session import reading
from tunesmith.db.tables import Deployment as DeploymentRow
from tunesmith.db.tables import Model
from tunesmith.errors import InvalidArgument, NotFound
from tunesmith.schemas.deployments import (
    MOST_REPLICAS,
    WITHOUT_EFFECT,
    Deployment,
    DeploymentInput,
    DeploymentScale,
)
from tunesmith.schemas.names import account_name, check_id, resource_name, short_id
from tunesmith.server.auth import AccountId
from tunesmith.server.base_models import find_base_model
from tunesmith.server.control import Control, ControlPlane, Listing, Reader, Writer

router = APIRouter(prefix="/v1/accounts/{account_id}/deployments", tags=["deployments"])


@router.post("")
def create(
    account: AccountId,
    body: DeploymentInput,
    control: Control,
    deployment_id: Annotated[str | None, Query(alias="deploymentId")] = None,
    validate_only: Annotated[bool, Query(alias="validateOnly")] = False,
) -> dict[str, Any]:
    """Make a deployment and load its model. The same create under the same id is answered with that deployment."""
    name = resource_name(account, "deployments", deployment_id or f"deployment-{secrets.token_hex(4)}")
    check_id(short_id(name), "deploymentId")
    _check_options(body)
    if not body.base_model:
        raise InvalidArgument("baseModel is missing: name a model of the catalogue or of this account.")
    model = _served_model(control, account, body.base_model)  # may ask the hub: no transaction waits for it
    replicas = _replicas(body)
    with control.sessions() as session:
        spec = body.given()
        row = table.create_deployment(session, account_name(account), name, model, spec, replicas)
        answer = _wire(row)
        if not validate_only:
            session.commit()
        return answer


@router.get("")
def list_(account: AccountId, session: Reader, listing: Listing) -> dict[str, Any]:
    """One page of deployments, newest first."""
    rows, token = table.list_deployments(session, account_name(account), listing)
    return {"deployments": [_wire(row) for row in rows], "nextPageToken": token}


@router.get("/{deployment_id}")
def get(account: AccountId, deployment_id: str, session: Reader) -> dict[str, Any]:
    """One deployment."""
    return _wire(table.get_deployment(session, _name(account, deployment_id)))


@router.patch("/{deployment_id}:scale")
def scale(account: AccountId, deployment_id: str, body: DeploymentScale, session: Writer) -> dict[str, Any]:
    """To one replica, or to none: calls are refused then."""
    _check_count("replicaCount", body.replica_count)
    table.update_deployment(session, _name(account, deployment_id), replicas=body.replica_count)
    return {}


@router.patch("/{deployment_id}")
def update(account: AccountId, deployment_id: str, body: DeploymentInput, control: Control) -> dict[str, Any]:
    """Change names, replicas or the model that is served; what is absent stays."""
    name = _name(account, deployment_id)
    _check_options(body)
    model = _served_model(control, account, body.base_model) if body.base_model else None
    with control.sessions.begin() as session:
        row = table.get_deployment(session, name)
        spec = {**row.spec, **body.given()}
        counted = body.max_replica_count is not None or body.min_replica_count is not None
        replicas = _replicas(DeploymentInput.model_validate(spec)) if counted else row.replicas
        return _wire(table.update_deployment(session, name, base_model=model, spec=spec, replicas=replicas))


@router.delete("/{deployment_id}")
def delete(account: AccountId, deployment_id: str, session: Writer) -> dict[str, Any]:
    """Take it down; the model stays and can be called by its own name."""
    table.delete_deployment(session, _name(account, deployment_id))
    return {}


def _name(account: str, deployment: str) -> str:
    return resource_name(account, "deployments", deployment)


def _check_options(body: DeploymentInput) -> None:
    unknown = sorted(set(body.model_extra or {}) - WITHOUT_EFFECT.keys())
    if unknown:
        raise InvalidArgument(
            f"{', '.join(unknown)}: a deployment here has no such option, so it would have no effect; remove it."
        )


def _check_count(field: str, count: int) -> None:
    if count > MOST_REPLICAS:
        raise InvalidArgument(
            f"{field} = {count}: this machine serves a model from one engine, so a deployment has at most {MOST_REPLICAS} "
            "replica. Its engine answers many calls at a time."
        )


def _replicas(body: DeploymentInput) -> int:
    """Wanted: none only where the largest number is 0."""
    low, high = body.min_replica_count or 0, body.max_replica_count
    _check_count("minReplicaCount", low)
    _check_count("maxReplicaCount", high or 0)
    if high is not None and low > high:
        raise InvalidArgument(f"minReplicaCount = {low} is above maxReplicaCount = {high}.")
    return 0 if high == 0 else 1


def _served_model(control: ControlPlane, account: str, name: str) -> str:
    """Resource name of what is to be served: a model of the account (by id, too), or a base model. Raises NotFound."""
    own = name if "/" in name else resource_name(account, "models", name)
    with reading(control.sessions) as session:
        row = session.get(Model, own)
    if row is not None and row.account == account_name(account):
        return row.name
    if "/" not in name:
        raise NotFound(f"baseModel {name}: this account has no model {own}. A base model is named in full.")
    return find_base_model(name, control.settings).name


def _wire(row: DeploymentRow) -> dict[str, Any]:
    ready = row.replicas if row.state == table.READY else 0
    loading = row.replicas if row.state in (table.CREATING, table.UPDATING) else 0
    notes = [{"option": name, "reason": WITHOUT_EFFECT[name]} for name in row.spec if name in WITHOUT_EFFECT]
    return Deployment.model_validate(
        {
            "name": row.name,
            "displayName": row.spec.get("displayName", ""),
            "description": row.spec.get("description", ""),
            "baseModel": row.base_model,
            "state": row.state,
            "status": row.status,
            "minReplicaCount": row.spec.get("minReplicaCount", 0),
            "maxReplicaCount": row.spec.get("maxReplicaCount", 1),
            "desiredReplicaCount": row.replicas,
            "replicaCount": ready,
            "replicaStats": {"initializingReplicaCount": loading, "readyReplicaCount": ready},
            "notes": notes,
            "createTime": row.created,
            "updateTime": row.updated,
        }
    ).dump()
