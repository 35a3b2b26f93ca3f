"""Live policies of running jobs, and promoted models: what the gateway serves besides the catalogue."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from tunesmith.db.tables import Job, Model, Policy
from tunesmith.errors import AlreadyExists


def get_policy(session: Session, name: str) -> Policy | None:
    """The policy version of that resource name, retired ones included."""
    return session.get(Policy, name)


def put_policy(
    session: Session,
    *,
    name: str,
    account: str,
    job: str,
    version: int,
    base_model: str,
    adapter_path: str,
    sha256: str,
    seed: int,
    sampling: dict[str, Any],
) -> Policy:
    """Publish a policy version. The same weights again are fine (where they lie and how they are sampled may change).

    Putting a retired version back makes it live again. Raises AlreadyExists when the name stands for other weights.
    """
    policy = session.get(Policy, name)
    if policy is None:
        policy = Policy(name=name, account=account, job=job, version=version, base_model=base_model, sha256=sha256)
        session.add(policy)
    elif (policy.sha256, policy.base_model) != (sha256, base_model):
        raise AlreadyExists(
            f"{name} is published already, with other weights (sha256 {policy.sha256[:12]}… on {policy.base_model}). "
            "Policy versions are immutable: publish under the next number."
        )
    policy.adapter_path, policy.seed, policy.sampling, policy.retired = adapter_path, seed, sampling, None
    session.flush()
    return policy


def retire_policy(session: Session, name: str) -> Policy | None:
    """Mark a version as retired; None when there is none of that name."""
    policy = session.get(Policy, name)
    if policy is not None and policy.retired is None:
        policy.retired = time.time()
        session.flush()
    return policy


def job_runs_on(session: Session, account: str, job: str, base_model: str) -> bool:
    """Whether a job (by its id) published a policy on that base, or evaluates it: then its keys may call the base too."""
    query = select(Policy.name).where(Policy.account == account, Policy.job == job, Policy.base_model == base_model)
    if session.scalar(query.limit(1)) is not None:
        return True
    evaluation = session.get(Job, f"{account}/evaluationJobs/{job}")
    return evaluation is not None and evaluation.spec.get("base_model") == base_model


def get_model(session: Session, name: str) -> Model | None:
    """The promoted model of that resource name."""
    return session.get(Model, name)


def list_models(session: Session, account: str | None = None) -> list[Model]:
    """Promoted models, newest first; of one account where given."""
    query = select(Model).order_by(Model.created.desc())
    if account is not None:
        query = query.where(Model.account == account)
    return list(session.scalars(query))


def live_policies_of(session: Session, account: str, job: str) -> list[Policy]:
    """The versions of a job (by its id) that are not retired."""
    query = select(Policy).where(Policy.account == account, Policy.job == job, Policy.retired.is_(None))
    return list(session.scalars(query))
