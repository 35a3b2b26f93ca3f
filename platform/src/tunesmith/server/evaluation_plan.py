"""From the body of a create to the evaluation that will run: whose answers, on which rows, scored by which version."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from tunesmith.catalog import is_listed
from tunesmith.db.tables import Deployment, Model, Provider
from tunesmith.errors import FailedPrecondition, InvalidArgument, NotFound
from tunesmith.schemas.evaluation_jobs import EvaluationJobInput, EvaluationSpec, Scoring
from tunesmith.schemas.names import account_name, check_id, resource_name, short_id
from tunesmith.server.base_models import BaseModel
from tunesmith.server.rft_plan import MAX_CONCURRENT_ROLLOUTS, active_evaluator, ready_dataset

GREEDY = 0.0
"""Temperature where none is named: the same answers each time."""


@dataclass(frozen=True)
class Answering:
    """Whose answers are scored."""

    model: str | None
    """As the gateway is asked for it; None: the rows' own."""
    base: str | None
    """The base model to look up; None where there is no model, or it is served elsewhere."""


def answering(session: Session, account: str, scoring: Scoring) -> Answering:
    """What `scoring.model` names, as far as the database knows. A base model is left to be looked up by its name.

    Raises NotFound, InvalidArgument or FailedPrecondition, each naming the field.
    """
    name = (scoring.model or "").strip()
    if not name:
        for field, value in (("temperature", scoring.temperature), ("maxTokens", scoring.max_tokens)):
            if value is not None:
                raise InvalidArgument(
                    f"scoring.{field} has no effect without scoring.model: the rows' own answers are scored."
                )
        return Answering(None, None)
    if "#" in name or "/deployments/" in name:
        return Answering(name, _base_of(session, account, _deployed(session, account, name)))
    own = _own_model(session, account, name)
    if own is not None:
        return Answering(own.name, own.base_model)
    if name.startswith(f"{account_name(account)}/"):
        raise NotFound(f"scoring.model: there is no model {name}.")
    patterns = session.scalars(select(Provider.models).where(Provider.account == account_name(account)))
    if not is_listed(name) and any(fnmatch.fnmatchcase(name, pattern) for one in patterns for pattern in one):
        return Answering(name, None)
    return Answering(name, name)


def plan_evaluation(
    session: Session, account: str, body: EvaluationJobInput, scoring: Scoring, who: Answering, base: BaseModel | None
) -> EvaluationSpec:
    """The evaluation, resolved. `base`: what `who.base` turned out to be.

    Raises NotFound, FailedPrecondition or InvalidArgument, each naming the field.
    """
    dataset = ready_dataset(session, account, body.input_dataset, "inputDataset")
    evaluator = active_evaluator(session, account, body.evaluator)
    output = resource_name(account, "datasets", body.output_dataset)
    check_id(short_id(output), "outputDataset")
    if output == dataset.name:
        raise InvalidArgument("outputDataset is the inputDataset: name a new dataset for the results.")
    if scoring.max_tokens is not None and base and base.context_length and scoring.max_tokens >= base.context_length:
        raise InvalidArgument(
            f"scoring.maxTokens {scoring.max_tokens} leaves no room for a prompt in a context of {base.context_length} tokens."
        )
    return EvaluationSpec(
        dataset=dataset.name,
        output_dataset=output,
        example_count=dataset.example_count,
        evaluator=evaluator.name,
        evaluator_version=evaluator.version,
        entry_point=str(evaluator.spec.get("entryPoint", "")),
        evaluator_dir=str(evaluator.build_dir),
        model=base.name if base and who.model == who.base else who.model,
        base_model=base.name if base else None,
        context_length=base.context_length if base else None,
        temperature=GREEDY if scoring.temperature is None else scoring.temperature,
        max_tokens=scoring.max_tokens,
        max_concurrent_rollouts=scoring.max_concurrent_rollouts or MAX_CONCURRENT_ROLLOUTS,
        request=body.given(),
    )


def _own_model(session: Session, account: str, name: str) -> Model | None:
    prefix = f"{account_name(account)}/models/"
    if "/" in name and not name.startswith(prefix):
        return None
    return session.get(Model, name if "/" in name else prefix + name)


def _deployed(session: Session, account: str, name: str) -> str:
    """The model that a deployment (`accounts/a/deployments/d`, or `model#d`) serves."""
    identity = name.rpartition("#")[2] or name
    deployment = session.get(Deployment, resource_name(account, "deployments", identity))
    if deployment is None:
        raise NotFound(f"scoring.model: there is no deployment {identity}.")
    if deployment.replicas == 0:
        raise FailedPrecondition(f"scoring.model: {deployment.name} is scaled to zero. Scale it up first.")
    return deployment.base_model


def _base_of(session: Session, account: str, model: str) -> str:
    own = _own_model(session, account, model)
    return own.base_model if own is not None else model
