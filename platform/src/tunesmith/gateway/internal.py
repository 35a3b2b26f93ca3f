"""Internal routes: publish and retire policy versions, score the canary, read what a rollout sampled. For our own processes only."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tunesmith.catalog import canonical_name
from tunesmith.db.completions import Sampled
from tunesmith.db.policies import get_policy, put_policy, retire_policy
from tunesmith.db.session import reading
from tunesmith.errors import AlreadyExists, InvalidArgument, NotFound, PermissionDenied
from tunesmith.gateway.auth import Key, KeyKind, account_name, job_id
from tunesmith.gateway.chat import read_json
from tunesmith.gateway.errors import BadRequest
from tunesmith.gateway.models import Adapter
from tunesmith.gateway.state import GatewayState
from tunesmith.gateway.tracing import scope_of

_NAME = re.compile(r"accounts/(?P<account>[^/]+)/models/(?P<job>[^/]+)-v(?P<version>\d+)")
Body = TypeVar("Body", bound=BaseModel)


class SamplingOverrides(BaseModel):
    """What a job decides instead of its agents. What it leaves out, the agent may choose."""

    model_config = ConfigDict(extra="forbid")

    temperature: float | None = Field(default=None, ge=0, le=2)
    max_tokens: int | None = Field(default=None, ge=1)
    stop: list[str] | None = None
    max_context_length: int | None = Field(default=None, ge=2)
    """Longest sequence, prompt and completion together, in tokens."""
    noise_job: str | None = Field(default=None, min_length=1)
    """Noise is drawn as for rollouts of this job: of a rewound job, the one that it came from."""


class PolicyBody(BaseModel):
    """`PUT /internal/policies`."""

    model_config = ConfigDict(extra="forbid")

    name: str
    base_model: str
    adapter_path: Path
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    seed: int
    job: str
    version: int = Field(ge=0)
    sampling: SamplingOverrides = Field(default_factory=SamplingOverrides)


class ScoreBody(BaseModel):
    """`POST /internal/policies:score`."""

    model_config = ConfigDict(extra="forbid")

    model: str
    token_ids: list[int] = Field(min_length=2)


async def put_policy_version(state: GatewayState, request: Request) -> Response:
    """Have the engine load a policy version, then serve it."""
    key = await _internal_key(state, request)
    body = await _read(request, PolicyBody)
    account, job = _check_name(body, key)
    _check_path(state, body.adapter_path, job, key)
    base = await state.models.base(body.base_model)
    await asyncio.to_thread(_check_unused, state, body, base.entry.name)
    adapter = Adapter(body.name, str(body.adapter_path), body.sha256, promoted=False)
    read = await state.adapters.load(base.entry.name, adapter)
    if read != body.sha256:
        await state.adapters.unload(base.entry.name, body.name)
        raise AlreadyExists(
            f"{body.adapter_path} holds other weights (sha256 {read}) than {body.name} is said to have ({body.sha256}). "
            "It is not served."
        )

    def store() -> None:
        with state.sessions.begin() as session:
            put_policy(
                session,
                name=body.name,
                account=account,
                job=job,
                version=body.version,
                base_model=base.entry.name,
                adapter_path=str(body.adapter_path),
                sha256=body.sha256,
                seed=body.seed,
                sampling=body.sampling.model_dump(exclude_none=True),
            )

    await asyncio.to_thread(store)
    state.models.forget(body.name)
    return JSONResponse({"name": body.name, "sha256": read})


async def delete_policy_version(state: GatewayState, request: Request) -> Response:
    """Retire a policy version: later calls to it are 410."""
    key = await _internal_key(state, request)
    name = request.query_params.get("name", "")

    def retire() -> str:
        with state.sessions.begin() as session:
            policy = get_policy(session, name)
            if policy is None:
                raise NotFound(f"There is no policy version {name!r} (query parameter name) to retire.")
            if not key.owns(policy.account, policy.job):
                raise PermissionDenied(f"{name} belongs to another job than this key.")
            retire_policy(session, name)
            return policy.base_model

    base_model = await asyncio.to_thread(retire)
    state.models.forget(name)
    await state.adapters.unload(canonical_name(base_model), name)
    return JSONResponse({})


async def score(state: GatewayState, request: Request) -> Response:
    """Log-probabilities of a token sequence under a policy, a promoted model or a base."""
    key = await _internal_key(state, request)
    body = await _read(request, ScoreBody)
    target = await state.models.target(body.model, key)
    size = target.base.renderer.vocab_size
    if not all(0 <= id < size for id in body.token_ids):
        raise BadRequest(f"token_ids must lie between 0 and {size - 1} for {body.model}.", "token_ids")
    return JSONResponse({"logprobs": await state.adapters.score(target, body.token_ids)})


_MOST_TOKENS = 250_000
"""After so many no further rollout is put into an answer: reading and writing them takes about 15 ms of the event loop."""


class CloseBody(BaseModel):
    """`POST /internal/rollouts:close`."""

    model_config = ConfigDict(extra="forbid")

    rollout_ids: list[str] = Field(min_length=1, max_length=1000)


async def rollout_completions(state: GatewayState, request: Request) -> Response:
    """Everything recorded under a rollout id before it was closed, with its ids, in turn order. It is closed from now on.

    However often it is asked, the answer is the same: a call that was in flight then may be recorded later and is left out.
    """
    key = await _internal_key(state, request)
    rollout_id = request.path_params["rollout_id"]
    closed_at = await _close(state, key, rollout_id)
    return _json({"completions": await _sampled_until(state, key, rollout_id, closed_at)})


async def close_rollouts(state: GatewayState, request: Request) -> Response:
    """The same of many rollouts at once: their closings share a commit. `completions` by rollout id.

    Of long rollouts only the first come, as many as do not hold up everybody else's calls; whoever asks asks again for the others.
    """
    key = await _internal_key(state, request)
    ids = list(dict.fromkeys((await _read(request, CloseBody)).rollout_ids))
    closed_at = await asyncio.gather(*(_close(state, key, rollout_id) for rollout_id in ids))
    completions: dict[str, list[dict[str, Any]]] = {}
    tokens = 0
    for rollout_id, at in zip(ids, closed_at, strict=True):
        found = completions[rollout_id] = await _sampled_until(state, key, rollout_id, at)
        tokens += sum(len(each["prompt_ids"]) + len(each["sampled_ids"]) for each in found)
        if tokens > _MOST_TOKENS:
            break
    return _json({"completions": completions})


async def _close(state: GatewayState, key: Key, rollout_id: str) -> float:
    closed_at = await state.states.close(key.account, key.job, rollout_id, always=True)
    assert closed_at is not None
    state.rollouts.forget((key.account, key.job, rollout_id))
    return closed_at


async def _sampled_until(state: GatewayState, key: Key, rollout_id: str, end: float) -> list[dict[str, Any]]:
    found = await state.store.sampled_in(rollout_id, *scope_of(key))
    return [_wire(sampled) for sampled in found if sampled.created_at + sampled.latency <= end]


async def gateway_uptime(state: GatewayState, request: Request) -> Response:
    """For how long this gateway runs: whoever rolls out tells by it which rollouts a restart cut."""
    await _internal_key(state, request)
    return JSONResponse({"uptime_seconds": time.monotonic() - state.started})


def _wire(sampled: Sampled) -> dict[str, Any]:
    return {name: getattr(sampled, name) for name in _WIRE}


_WIRE = [name for name in Sampled.__slots__ if name != "latency"]


def _json(answer: dict[str, Any]) -> Response:
    return Response(msgspec.json.encode(answer), media_type="application/json")


async def _internal_key(state: GatewayState, request: Request) -> Key:
    key = await state.authenticator.authenticate(request)
    key.require_internal()
    return key


async def _read(request: Request, model: type[Body]) -> Body:
    try:
        return model.model_validate(await read_json(request))
    except ValidationError as error:
        first = error.errors()[0]
        param = ".".join(str(part) for part in first["loc"])
        raise BadRequest(f"{param or 'The body'}: {first['msg']}.", param or None) from error


def _check_name(body: PolicyBody, key: Key) -> tuple[str, str]:
    """Account and job of a policy; both must be what the name says and what the key allows."""
    match = _NAME.fullmatch(body.name)
    job = job_id(body.job)
    if match is None or match["job"] != job or int(match["version"]) != body.version:
        raise InvalidArgument(
            f"name {body.name!r} does not fit job {job!r}, version {body.version}: it must read "
            f"accounts/{{account}}/models/{job}-v{body.version}."
        )
    account = account_name(match["account"])
    if not key.owns(account, job):
        raise PermissionDenied(f"This key publishes for job {key.job} of {key.account}, not for {job} of {account}.")
    return account, job


def _check_path(state: GatewayState, path: Path, job: str, key: Key) -> None:
    """A job's adapters lie in its own run directory; only internal.key may name another place (runs written by hand)."""
    if not path.is_absolute():
        raise InvalidArgument(f"adapter_path {path} is not an absolute path.")
    root = state.settings.run_dir(job).resolve()
    if key.kind is not KeyKind.INTERNAL and not path.resolve().is_relative_to(root):
        raise PermissionDenied(
            f"adapter_path {path} lies outside {root}, which is all that this job's key may publish from."
        )


def _check_unused(state: GatewayState, body: PolicyBody, base_model: str) -> None:
    """Refuse before the engine is bothered, when the name stands for other weights."""
    with reading(state.sessions) as session:
        policy = get_policy(session, body.name)
    if policy is not None and (policy.sha256, policy.base_model) != (body.sha256, base_model):
        raise AlreadyExists(
            f"{body.name} is published already, with other weights (sha256 {policy.sha256[:12]}… on {policy.base_model}). "
            "Policy versions are immutable: publish under the next number."
        )
