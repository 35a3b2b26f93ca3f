"""From a model's name to what answers: base models of the catalogue, promoted models, live policies, deployments of these."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session, sessionmaker

from tunesmith.catalog import BaseModelEntry, available, canonical_name, is_listed, resolve
from tunesmith.db import deployments
from tunesmith.db.models import FULL_MODEL
from tunesmith.db.policies import get_model, get_policy, job_runs_on, list_models
from tunesmith.db.session import reading
from tunesmith.db.tables import Deployment, Model, Policy
from tunesmith.errors import Gone, NotFound, PermissionDenied, Unavailable
from tunesmith.gateway.auth import Key, KeyKind
from tunesmith.gateway.engines import EngineAddress, Engines
from tunesmith.gateway.errors import BadRequest, ModelNotFound
from tunesmith.rendering import Renderer
from tunesmith.settings import Settings

_CACHE_SECONDS = 2.0
"""Promoted models are written by another process: a deleted one is served at most this much longer."""

_NAMED = 20
"""So many models a 404 names."""

_DEPLOYMENT = "/deployments/"
_Row = Policy | Model | Deployment

PROMOTED_MARK = "@sha256:"
"""Stands in an engine's name of a promoted model, between the model's name and the hash; no resource name holds it."""


@dataclass(frozen=True)
class LoadedBase:
    """A base model whose files are here and whose tokenizer is read."""

    entry: BaseModelEntry
    renderer: Renderer


@dataclass(frozen=True)
class Adapter:
    """Weights on top of a base, as the engine knows them."""

    name: str
    """Under which the engine holds it. Of a promoted model it carries the hash: a deleted model's name may come back with
    other weights, while an engine still holds the old ones."""
    path: str
    sha256: str
    promoted: bool
    """A promoted model: unloaded when others are used more. A live policy stays until it is retired."""

    @classmethod
    def of_model(cls, model: Model) -> Adapter:
        """The adapter of a promoted model."""
        return cls(f"{model.name}{PROMOTED_MARK}{model.sha256}", model.adapter_path, model.sha256, promoted=True)


@dataclass(frozen=True)
class LivePolicy:
    """What sampling from a policy of a running job is bound to."""

    job: str
    version: int
    seed: int
    sampling: dict[str, Any]
    """`temperature`, `max_tokens`, `stop` and `max_context_length` of the job."""


@dataclass(frozen=True)
class Target:
    """What a call is answered by."""

    name: str
    base: LoadedBase
    engine: EngineAddress
    adapter: Adapter | None = None
    policy: LivePolicy | None = None

    @property
    def context_length(self) -> int:
        """Longest sequence, in tokens: the model's, or less where the engine holds less."""
        return min(self.base.renderer.context_length, self.engine.context_length)


class Models:
    """Looks names up and loads the tokenizers of base models."""

    def __init__(self, sessions: sessionmaker[Session], settings: Settings, engines: Engines) -> None:
        self._sessions = sessions
        self._models_dir = settings.path("models")
        self._account_models = settings.path("objects", "models")
        self._engines = engines
        self._bases: dict[str, LoadedBase] = {}
        self._names: dict[str, str] = {}
        """Names by which loaded bases were called, to the canonical ones."""
        self._loading: dict[str, asyncio.Lock] = {}
        self._full: dict[str, tuple[str, LoadedBase]] = {}
        """Full models of accounts by name, each with the hash of the weights that it was loaded for."""
        self._rows: dict[str, tuple[_Row | None, float]] = {}

    async def target(self, name: str, key: Key) -> Target:
        """What answers calls to `name` from this caller. May start an engine, and download a model of the catalogue.

        Raises ModelNotFound, PermissionDenied (another job's policy), Gone (a retired version).
        """
        name = name.removeprefix("fireworks_ai/")
        deployed = _names_deployment(name)
        if deployed:
            name = await self._deployed(name, key)
        row = None if name in self._names else await self._row(name)
        if isinstance(row, Policy):
            return await self._policy_target(row, key)
        if isinstance(row, Model):
            if not _may_use(row, key):
                raise ModelNotFound(await self._why_not(name, key, ""))
            return await self._model_target(row)
        if not deployed:  # else its account has decided already who may call it
            await self._check_base(name, key)
        try:
            base = await self.base(name)
        except NotFound as error:
            raise ModelNotFound(await self._why_not(name, key, error.message)) from error
        return Target(base.entry.name, base, await self._engines.address(base.entry.name))

    async def base(self, name: str) -> LoadedBase:
        """A base model, ready to be rendered for: of the catalogue, or a full model of an account (by its row, whoever asks).

        The supervisor fetches and checks it first, so only one process downloads.
        """
        if name in self._names:
            return self._bases[self._names[name]]
        alias, name = name, canonical_name(name)
        if name.startswith("accounts/") and not is_listed(name):
            row = await self._row(name)
            if isinstance(row, Model) and row.kind == FULL_MODEL:
                return await self._full_model(row)
            raise NotFound(
                f"There is no base model {name[:200]}: neither in the catalogue nor a full model of its account."
            )
        async with self._loading.setdefault(name, asyncio.Lock()):
            if name not in self._bases:
                await self._engines.address(name)
                self._bases[name] = await asyncio.to_thread(self._load_base, name)
            self._names[alias] = name
            return self._bases[name]

    async def _model_target(self, row: Model) -> Target:
        base = await self.base(row.name if row.kind == FULL_MODEL else row.base_model)
        adapter = None if row.kind == FULL_MODEL else Adapter.of_model(row)
        return Target(row.name, base, await self._engines.address(base.entry.name), adapter)

    async def _full_model(self, row: Model) -> LoadedBase:
        """A full model in an engine of its own. One that was made anew under the name is read anew."""
        async with self._loading.setdefault(row.name, asyncio.Lock()):
            known = self._full.get(row.name)
            if known is None or known[0] != row.sha256:
                self._engines.forget(row.name)
                await self._engines.address(row.name)
                known = self._full[row.name] = (row.sha256, await asyncio.to_thread(self._load_base, row.name))
            return known[1]

    async def _deployed(self, name: str, key: Key) -> str:
        """The model that `accounts/{a}/deployments/{d}` or `{model}#{deployment}` means.

        Raises ModelNotFound, BadRequest when the deployment serves another model, Unavailable when it has no replica.
        """
        model, _, deployment = name.rpartition("#")
        if "/" not in deployment:
            deployment = f"{key.account}{_DEPLOYMENT}{deployment}"
        row = await self._row(deployment)
        if not isinstance(row, Deployment) or not _may_use(row, key):
            raise ModelNotFound(
                f"There is no deployment {deployment[:200]}. GET /v1/models lists what this key can call."
            )
        id = deployment.rsplit("/", 1)[-1]
        if row.replicas == 0:
            raise Unavailable(
                f"{row.name} is scaled to zero. Scale it up with `tunesmith deployment scale {id} 1`, or call {row.base_model}."
            )
        if row.state == deployments.FAILED:
            raise Unavailable(f"{row.name} is not served: {row.status.get('message', '')}")
        if model and "/" not in model:
            model = f"{row.account}/models/{model}"
        if not model or canonical_name(model) == row.base_model:
            return row.base_model
        named = await self._row(model)
        if isinstance(named, Model) and named.kind != FULL_MODEL and named.base_model == row.base_model:
            return named.name  # an adapter of the deployed base: one engine serves both
        raise BadRequest(
            f"{row.name} serves {row.base_model}, not {model[:200]}. Name that model, or the deployment alone.", "model"
        )

    def forget(self, name: str) -> None:
        """Look a name up again on the next call."""
        self._rows.pop(name, None)

    async def listing(self, key: Key) -> list[dict[str, Any]]:
        """OpenAI's list of models: what a call can name now."""
        return await asyncio.to_thread(self._listing, key)

    async def _policy_target(self, row: Policy, key: Key) -> Target:
        if not key.owns(row.account, row.job):
            if row.account != key.account:
                raise _unknown(row.name)
            raise PermissionDenied(f"{row.name} belongs to job {row.job}; this key is bound to job {key.job}.")
        if row.retired is not None:
            raise Gone(
                f"{row.name} was retired: its job went on to a later version. Call that one, or the promoted model."
            )
        base = await self.base(row.base_model)
        return Target(
            row.name,
            base,
            await self._engines.address(base.entry.name),
            Adapter(row.name, row.adapter_path, row.sha256, promoted=False),
            LivePolicy(row.job, row.version, row.seed, dict(row.sampling)),
        )

    async def _check_base(self, name: str, key: Key) -> None:
        """Evaluators are not trusted: their keys reach listed models and their own job's base, no other file or download."""
        trusted = key.kind in (KeyKind.ACCOUNT, KeyKind.INTERNAL) and not key.only_inference
        if trusted or is_listed(name):
            return

        def of_own_job() -> bool:
            with reading(self._sessions) as session:
                return job_runs_on(session, key.account, key.job or "", canonical_name(name))

        if not await asyncio.to_thread(of_own_job):
            raise _unknown(name)

    async def _why_not(self, name: str, key: Key, reason: str) -> str:
        """A 404 that ends with what can be called. The reason counts where the name is one that could be loaded."""
        if not (is_listed(name) or name.count("/") == 1 or name.startswith(("/", "file:", "~", "."))):
            reason = f"No model {name[:200]!r} is served here: looked in the catalogue and the models of {key.account}."
        names = [str(model["id"]) for model in await self.listing(key)]
        more = ", ... (GET /v1/models)" if len(names) > _NAMED else ""
        return f"{reason} This key can call: {', '.join(names[:_NAMED])}{more}."

    async def _row(self, name: str) -> _Row | None:
        cached = self._rows.get(name)
        if cached is not None and cached[1] > time.monotonic():
            return cached[0]

        def read() -> _Row | None:
            with reading(self._sessions) as session:
                if _DEPLOYMENT in name:
                    return deployments.find_deployment(session, name)
                return get_policy(session, name) or get_model(session, name)

        row = await asyncio.to_thread(read)
        if row is not None and not isinstance(row, Deployment):  # one that was scaled or deleted says so at once
            self._rows[name] = (row, time.monotonic() + _CACHE_SECONDS)
        return row

    def _load_base(self, name: str) -> LoadedBase:
        entry = resolve(name, models_dir=self._models_dir, account_models=self._account_models, download=False)
        return LoadedBase(entry, Renderer.load(entry.path, entry.name, entry.family))

    def _listing(self, key: Key) -> list[dict[str, Any]]:
        found = [
            {"id": entry.name, "object": "model", "created": 0, "owned_by": entry.name.split("/")[1]}
            for entry in available(self._models_dir)
        ]
        with reading(self._sessions) as session:
            for row in [*list_models(session, key.account), *deployments.ready_deployments(session, key.account)]:
                owner = row.account.removeprefix("accounts/")
                found.append({"id": row.name, "object": "model", "created": int(row.created), "owned_by": owner})
        return found


def _names_deployment(name: str) -> bool:
    """Whether a name is that of a deployment, or ends in one; a folder's is neither."""
    if name.startswith(("/", "file:", "~", ".")):
        return False
    return "#" in name or (name.startswith("accounts/") and _DEPLOYMENT in name)


def _may_use(row: Model | Deployment, key: Key) -> bool:
    return row.account == key.account or key.kind is KeyKind.INTERNAL


def _unknown(name: str) -> ModelNotFound:
    return ModelNotFound(f"No model {name!r} is served here. GET /v1/models lists those that this key can call.")
