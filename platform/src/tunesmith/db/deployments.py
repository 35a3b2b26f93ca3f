"""Deployments of an account: names under which models are kept ready. Each has a job of its own name that has the engine load it."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from tunesmith.db import jobs
from tunesmith.db.listing import Fields, ListQuery, page
from tunesmith.db.tables import Deployment, Job
from tunesmith.errors import AlreadyExists, FailedPrecondition, NotFound

KIND = "deployment"
CREATING, READY, UPDATING, FAILED = "CREATING", "READY", "UPDATING", "FAILED"
FIELDS = Fields(
    key=Deployment.name,
    order={"name": Deployment.name, "create_time": Deployment.created, "update_time": Deployment.updated},
    filters={"name": Deployment.name, "state": Deployment.state, "base_model": Deployment.base_model},
)


def create_deployment(
    session: Session, account: str, name: str, base_model: str, spec: dict[str, Any], replicas: int
) -> Deployment:
    """Store a deployment under its resource name and queue its loading; the same create again is fine. Raises AlreadyExists."""
    existing = session.get(Deployment, name)
    if existing is not None:
        if (existing.spec, existing.base_model) == (spec, base_model):
            return existing
        raise AlreadyExists(
            f"The deployment {name} exists already, with other settings. Change it with PATCH, delete it first, or choose another id."
        )
    deployment = Deployment(name=name, account=account, base_model=base_model, spec=spec, replicas=replicas)
    session.add(deployment)
    session.flush()
    _apply(session, deployment, CREATING)
    return deployment


def get_deployment(session: Session, name: str) -> Deployment:
    """The deployment of that resource name. Raises NotFound."""
    deployment = session.get(Deployment, name)
    if deployment is None:
        raise NotFound(f"There is no deployment {name}.")
    return deployment


def find_deployment(session: Session, name: str) -> Deployment | None:
    """The deployment of that resource name, if there is one."""
    return session.get(Deployment, name)


def update_deployment(
    session: Session, name: str, *, base_model: str | None = None, spec: dict[str, Any] | None = None, replicas: int
) -> Deployment:
    """Change what a deployment serves, its settings or its replicas; what it serves is loaded anew. Raises NotFound."""
    deployment = get_deployment(session, name)
    deployment.base_model = base_model or deployment.base_model
    deployment.spec = deployment.spec if spec is None else spec
    deployment.replicas, deployment.updated = replicas, time.time()
    _apply(session, deployment, UPDATING)
    return deployment


def delete_deployment(session: Session, name: str) -> None:
    """Remove a deployment: calls to it are refused from now on; the model stays. Raises NotFound."""
    session.delete(get_deployment(session, name))
    _remove_job(session, name)


def list_deployments(session: Session, account: str, query: ListQuery) -> tuple[list[Deployment], str]:
    """One page of an account's deployments and the token of the next."""
    return page(session, Deployment, [Deployment.account == account], FIELDS, query)


def ready_deployments(session: Session, account: str) -> list[Deployment]:
    """The deployments of an account that answer calls, newest first."""
    query = select(Deployment).where(Deployment.account == account, Deployment.state == READY, Deployment.replicas > 0)
    return list(session.scalars(query.order_by(Deployment.created.desc())))


def load_again(session: Session) -> None:
    """Queue the loading of everything that is READY: after a start of the platform its engines are gone. Calls are taken meanwhile."""
    for deployment in session.scalars(select(Deployment).where(Deployment.state == READY, Deployment.replicas > 0)):
        _queue(session, deployment)


def refuse_while_deployed(session: Session, model: str) -> None:
    """Raise FailedPrecondition naming the deployment that serves a model (resource name), if there is one."""
    serving = session.scalar(select(Deployment.name).where(Deployment.base_model == model).limit(1))
    if serving is not None:
        raise FailedPrecondition(f"The model {model} is served by {serving}. Delete that deployment first.")


def settle_load(session: Session, name: str, loaded: str, state: str, status: dict[str, Any]) -> None:
    """What the loading of `loaded` came to. A deployment that was pointed at another model meanwhile is queued again."""
    deployment = session.get(Deployment, name)
    if deployment is None:
        return
    if deployment.base_model != loaded:
        _apply(session, deployment, UPDATING)
        return
    deployment.state, deployment.status, deployment.updated = state, status, time.time()


def _apply(session: Session, deployment: Deployment, state: str) -> None:
    """Have the engine load the model; a deployment without replicas is ready at once, and its calls are refused."""
    if deployment.replicas == 0:
        _remove_job(session, deployment.name)
        deployment.state, deployment.status = READY, {"code": "OK", "message": "Scaled to zero."}
        return
    deployment.state, deployment.status = state, {"code": "OK", "message": f"Loading {deployment.base_model}."}
    _queue(session, deployment)


def _queue(session: Session, deployment: Deployment) -> None:
    _remove_job(session, deployment.name)
    spec = {"base_model": deployment.base_model}
    jobs.enqueue(session, deployment.name, deployment.account, KIND, spec)


def _remove_job(session: Session, name: str) -> None:
    """A job of this kind owns no files; a worker that holds it lets go when the row is gone, or another's."""
    job = session.get(Job, name)
    if job is not None:
        session.delete(job)
        session.flush()
