"""Models of an account: the adapters and full models that its jobs produced. Base models live in the catalogue."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from tunesmith.db.deployments import refuse_while_deployed
from tunesmith.db.jobs_using import running_jobs_using
from tunesmith.db.listing import Fields, ListQuery, page
from tunesmith.db.tables import Model
from tunesmith.errors import FailedPrecondition, NotFound

ADAPTER = "HF_PEFT_ADDON"
FULL_MODEL = "HF_BASE_MODEL"
"""Kinds of models that jobs make."""
FIELDS = Fields(
    key=Model.name,
    order={"name": Model.name, "create_time": Model.created},
    filters={"name": Model.name, "state": Model.state, "kind": Model.kind, "base_model": Model.base_model},
)


def get_model(session: Session, name: str) -> Model:
    """The model of that resource name. Raises NotFound."""
    model = session.get(Model, name)
    if model is None:
        raise NotFound(f"There is no model {name}.")
    return model


def delete_model(session: Session, name: str) -> Model:
    """Remove a model: the gateway stops serving it.

    Raises NotFound, FailedPrecondition while a job starts from it, a deployment serves it or an adapter sits on it.
    """
    model = get_model(session, name)
    users = running_jobs_using(session, model.account, name, ("warm_start_from", "base_model"))
    if users:
        raise FailedPrecondition(
            f"The model {name} is in use by {users[0]}. Cancel that job first, or wait for its end."
        )
    refuse_while_deployed(session, name)
    adapter = session.scalars(select(Model.name).where(Model.base_model == name, Model.name != name).limit(1)).first()
    if adapter is not None:
        raise FailedPrecondition(f"The model {name} is what {adapter} was trained on. Delete that one first.")
    session.delete(model)
    return model


def list_models(session: Session, account: str, query: ListQuery) -> tuple[list[Model], str]:
    """One page of an account's models and the token of the next."""
    return page(session, Model, [Model.account == account], FIELDS, query)
