"""Models of an account: the adapters that its jobs produced. Base models live in the catalogue."""

from __future__ import annotations

from sqlalchemy.orm import Session

from tunesmith.db.jobs_using import running_jobs_using
from tunesmith.db.listing import Fields, ListQuery, page
from tunesmith.db.tables import Model
from tunesmith.errors import FailedPrecondition, NotFound

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
    """Remove a model: the gateway stops serving it. Raises NotFound, FailedPrecondition while a job starts from it."""
    model = get_model(session, name)
    users = running_jobs_using(session, model.account, name, ("warm_start_from",))
    if users:
        raise FailedPrecondition(
            f"The model {name} is in use by {users[0]}. Cancel that job first, or wait for its end."
        )
    session.delete(model)
    return model


def list_models(session: Session, account: str, query: ListQuery) -> tuple[list[Model], str]:
    """One page of an account's models and the token of the next."""
    return page(session, Model, [Model.account == account], FIELDS, query)
