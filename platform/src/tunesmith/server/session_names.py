"""What an instruction may name: the catalogue's base models, and the account's datasets, evaluators and models."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from tunesmith.agent.reading import BaseModelName, Names
from tunesmith.catalog import resolve
from tunesmith.catalog.known import KNOWN
from tunesmith.db.tables import Dataset, Evaluator, Model
from tunesmith.errors import NotFound
from tunesmith.schemas.names import account_name
from tunesmith.server.base_models import context_length
from tunesmith.settings import Settings


def names_in_reach(session: Session, settings: Settings, account: str) -> Names:
    """Every name that a session of this account (short id) may use, as data for the reader."""
    owner = account_name(account)
    full = select(Model.name).where(Model.account == owner, Model.kind == "HF_BASE_MODEL")
    return Names(
        account=account,
        base_models=[_base_model(name, settings) for name in KNOWN],
        datasets=session.scalars(select(Dataset.name).where(Dataset.account == owner).order_by(Dataset.name)).all(),
        evaluators=session.scalars(
            select(Evaluator.name).where(Evaluator.account == owner).order_by(Evaluator.name)
        ).all(),
        models=session.scalars(full.order_by(Model.name)).all(),
    )


def _base_model(name: str, settings: Settings) -> BaseModelName:
    known = KNOWN[name]
    try:
        entry = resolve(name, models_dir=settings.path("models"), download=False)
    except NotFound:
        return BaseModelName(name, known.repo or "", known.display_name, None, here=False)
    return BaseModelName(name, known.repo or "", known.display_name, context_length(entry.path))
