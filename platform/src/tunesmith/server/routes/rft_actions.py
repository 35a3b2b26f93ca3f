"""What a person does with an RFT job that is there: go on with a failed one, start the same again with changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import ValidationError

from tunesmith.db.reinforcement_fine_tuning_jobs import get_rft_job, resume_rft_job
from tunesmith.db.session import reading
from tunesmith.errors import InvalidArgument
from tunesmith.schemas.names import resource_name
from tunesmith.schemas.reinforcement_fine_tuning_jobs import RftJobInput
from tunesmith.schemas.rft_clone import RftCloneInput
from tunesmith.schemas.rft_spec import RftSpec
from tunesmith.server.auth import AccountId, CallingUser
from tunesmith.server.control import Control, Writer
from tunesmith.server.routes.reinforcement_fine_tuning_jobs import NOUN, create, rft_job_wire

router = APIRouter(prefix=f"/v1/accounts/{{account_id}}/{NOUN}/{{job_id}}", tags=[NOUN])

_ALTERNATIVES = (
    (("trainingConfig", "baseModel"), ("trainingConfig", "warmStartFrom")),
    (("evaluationDataset",), ("evalAutoCarveout",)),
)
"""Fields of which one makes the other meaningless."""


@router.post(":resume")
def resume(account: AccountId, job_id: str, session: Writer) -> dict[str, Any]:
    """Queue a failed job again; it goes on from its run directory. Rollouts without a valid score are rolled out again."""
    return rft_job_wire(resume_rft_job(session, resource_name(account, NOUN, job_id)))


@router.post(":clone")
def clone(
    account: AccountId,
    job_id: str,
    body: RftCloneInput,
    control: Control,
    user: CallingUser,
    new_id: Annotated[str | None, Query(alias="reinforcementFineTuningJobId")] = None,
) -> dict[str, Any]:
    """Create the same job with some fields changed, checked as any create. Its model has a new name unless the changes give one."""
    with reading(control.sessions) as session:
        spec = RftSpec.model_validate(get_rft_job(session, resource_name(account, NOUN, job_id)).spec)
    changes = dict(body.changes)
    if body.display_name is not None:
        changes["displayName"] = body.display_name
    return create(account, _input(cloned_request(spec.request, changes)), control, user, new_id)


def cloned_request(request: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a create with some fields changed.

    Objects are merged, null takes a field away, and giving one of two alternatives (base model or adapter, evaluation dataset or carve-out)
    takes the other away. The name of the output model is not taken over.
    """
    training = {name: value for name, value in request.get("trainingConfig", {}).items() if name != "outputModel"}
    merged = _merged({**request, "trainingConfig": training}, changes)
    for pair in _ALTERNATIVES:
        for given, other in (pair, pair[::-1]):
            if _at(changes, given) is not None and _at(changes, other) is None:
                _take_away(merged, other)
    return merged


def _merged(old: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(old)
    for name, value in changes.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, Mapping) and isinstance(result.get(name), Mapping):
            result[name] = _merged(result[name], value)
        else:
            result[name] = value
    return result


def _at(fields: Any, path: Sequence[str]) -> Any:
    for name in path:
        fields = fields.get(name) if isinstance(fields, Mapping) else None
    return fields


def _take_away(fields: dict[str, Any], path: Sequence[str]) -> None:
    *parents, last = path
    parent = _at(fields, parents)
    if isinstance(parent, dict):
        parent.pop(last, None)


def _input(fields: dict[str, Any]) -> RftJobInput:
    try:
        return RftJobInput.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidArgument(
            f"changes: {where or 'the job'}: {first['msg']}. Give fields as a create takes them."
        ) from error
