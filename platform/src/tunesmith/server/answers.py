"""What the calls answer, for `/openapi.json`: one table from a call's name to the schema of its 200.

Routes return plain objects (`schemas` has validated them), so FastAPI knows no more than "an object". Here each noun's five usual calls
get the noun's model, and the others what they name. Only the description depends on this table: what is sent does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from tunesmith.schemas.accounts import Account
from tunesmith.schemas.api_keys import ApiKey
from tunesmith.schemas.dataset_rows import DatasetRows, DatasetStatistics
from tunesmith.schemas.datasets import Dataset, UploadedFile
from tunesmith.schemas.deployments import Deployment
from tunesmith.schemas.dpo_jobs import DpoJob
from tunesmith.schemas.evaluation_jobs import EvaluationJob
from tunesmith.schemas.evaluator_versions import Diff, EvaluatorResults, EvaluatorVersion, EvaluatorVersions, Source
from tunesmith.schemas.evaluators import Evaluator
from tunesmith.schemas.models import Model
from tunesmith.schemas.providers import Provider
from tunesmith.schemas.reinforcement_fine_tuning_jobs import RftJob
from tunesmith.schemas.secrets import Secret
from tunesmith.schemas.sessions import AgentSession
from tunesmith.schemas.sign_in import BrowserSession, NoSession, SignInLink
from tunesmith.schemas.supervised_fine_tuning_jobs import SftJob
from tunesmith.schemas.users import User
from tunesmith.schemas.wire import SignedUrls
from tunesmith.server.permissions import rpc_of

_REF = "#/components/schemas/{model}"


@dataclass(frozen=True)
class ListOf:
    """A page of a collection: `{field: [model], "nextPageToken"}`."""

    field: str
    model: type[BaseModel]
    total: bool = False
    """Whether `totalSize` says how many match in all."""


@dataclass(frozen=True)
class OneOf:
    """Any of some models."""

    models: tuple[type[BaseModel], ...]


Answer = type[BaseModel] | ListOf | OneOf


def _noun(singular: str, plural: str, field: str, model: type[BaseModel]) -> dict[str, Answer]:
    calls: dict[str, Answer] = {f"{verb}{singular}": model for verb in ("Create", "Get", "Update", "Resume", "Scale")}
    return {**calls, f"List{plural}": ListOf(field, model)}


ANSWERS: dict[str, Answer] = {
    **_noun("Account", "Accounts", "accounts", Account),
    **_noun("User", "Users", "users", User),
    **_noun("ApiKey", "ApiKeys", "apiKeys", ApiKey),
    **_noun("Secret", "Secrets", "secrets", Secret),
    **_noun("Provider", "Providers", "providers", Provider),
    **_noun("Dataset", "Datasets", "datasets", Dataset),
    **_noun("Evaluator", "Evaluators", "evaluators", Evaluator),
    **_noun("EvaluationJob", "EvaluationJobs", "evaluationJobs", EvaluationJob),
    **_noun("SupervisedFineTuningJob", "SupervisedFineTuningJobs", "supervisedFineTuningJobs", SftJob),
    **_noun("DpoJob", "DpoJobs", "dpoJobs", DpoJob),
    **_noun("ReinforcementFineTuningJob", "ReinforcementFineTuningJobs", "reinforcementFineTuningJobs", RftJob),
    "ControlReinforcementFineTuningJob": RftJob,
    "RewindReinforcementFineTuningJob": RftJob,
    **_noun("Model", "Models", "models", Model),
    **_noun("Deployment", "Deployments", "deployments", Deployment),
    **_noun("Session", "Sessions", "sessions", AgentSession),
    "SendSessionMessage": AgentSession,
    "SignIn": BrowserSession,
    "GetSignIn": OneOf((BrowserSession, NoSession)),
    "CreateSignInLink": SignInLink,
    "ListEvaluatorVersions": EvaluatorVersions,
    "GetEvaluatorVersion": EvaluatorVersion,
    "GetEvaluatorVersionSource": Source,
    "DiffEvaluatorVersions": Diff,
    "EditEvaluator": EvaluatorVersion,
    "ListEvaluatorResults": EvaluatorResults,
    "ListDatasetRows": DatasetRows,
    "GetDatasetStatistics": DatasetStatistics,
    "UploadDataset": UploadedFile,
    "GetDatasetUploadEndpoint": SignedUrls,
    "GetDatasetDownloadEndpoint": SignedUrls,
    "GetEvaluatorUploadEndpoint": SignedUrls,
    "GetEvaluatorSourceCode": SignedUrls,
    "GetModelDownloadEndpoint": SignedUrls,
}
"""Name of a call (`permissions.RPCS`) -> what its 200 holds."""


class _Sent(GenerateJsonSchema):
    """As `Wire.dump` sends: a field without a value is left out, so it is optional and never null; every other one is there."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def field_is_required(
        self,
        field: core_schema.ModelField | core_schema.DataclassField | core_schema.TypedDictField,
        total: bool,
    ) -> bool:
        inner: Any = field["schema"]
        while inner["type"] in ("default", "function-before", "function-after", "function-wrap"):
            inner = inner.get("schema", {"type": "any"})
        return inner["type"] != "nullable"

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])


def describe(app: FastAPI) -> dict[str, Any]:
    """The app's OpenAPI document, with what the calls answer."""
    document = get_openapi(title=app.title, version=app.version, routes=app.routes)
    shared = document.setdefault("components", {}).setdefault("schemas", {})
    names = _define(shared)
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            answer = ANSWERS.get(rpc_of(method.upper(), path) or "")
            if answer is not None:
                operation["responses"]["200"]["content"] = {"application/json": {"schema": _schema(answer, names)}}
    return document


def _schema(answer: Answer, names: dict[type[BaseModel], str]) -> dict[str, Any]:
    if isinstance(answer, OneOf):
        return {"anyOf": [_schema(model, names) for model in answer.models]}
    if not isinstance(answer, ListOf):
        return {"$ref": _REF.format(model=names[answer])}
    items = {"type": "array", "items": {"$ref": _REF.format(model=names[answer.model])}}
    fields: dict[str, Any] = {answer.field: items, "nextPageToken": {"type": "string"}}
    if answer.total:
        fields["totalSize"] = {"type": "integer"}
    return {"type": "object", "properties": fields, "required": list(fields)}


def _models(answer: Answer) -> tuple[type[BaseModel], ...]:
    if isinstance(answer, OneOf):
        return answer.models
    return (answer.model if isinstance(answer, ListOf) else answer,)


def _define(shared: dict[str, Any]) -> dict[type[BaseModel], str]:
    """Add the schemas of all answers to the document's; the name of each model there.

    A model that a request holds, too, may be there already in the looser form that is taken: the answer's is called `{name}Sent`.
    """
    models = list(dict.fromkeys(model for answer in ANSWERS.values() for model in _models(answer)))
    mode: JsonSchemaMode = "serialization"
    found, definitions = models_json_schema(
        [(model, mode) for model in models], ref_template=_REF, schema_generator=_Sent
    )
    defined: dict[str, Any] = definitions["$defs"]
    renamed = {name: f"{name}Sent" if shared.get(name, schema) != schema else name for name, schema in defined.items()}
    for name, schema in defined.items():
        shared[renamed[name]] = _point(schema, renamed)
    own = {model: found[(model, mode)]["$ref"].rpartition("/")[2] for model in models}
    return {model: renamed[name] for model, name in own.items()}


def _point(schema: Any, renamed: dict[str, str]) -> Any:
    """The schema with its references led to the names that the definitions got."""
    if isinstance(schema, dict):
        return {
            key: _REF.format(model=renamed[value.rpartition("/")[2]]) if key == "$ref" else _point(value, renamed)
            for key, value in schema.items()
        }
    return [_point(item, renamed) for item in schema] if isinstance(schema, list) else schema
