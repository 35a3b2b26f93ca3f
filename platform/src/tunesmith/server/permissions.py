"""Which call of the REST API each route is, and what a role and a permission preset may call. One table, looked up for every request.

A key may do what its role allows and, where it has a preset, what the preset lists, too. A route that is missing here is an admin's.

| role | may |
|---|---|
| admin | everything; the account's own key (from `tunesmith up`) is one |
| user | everything but managing users and keys |
| contributor | read everything; make datasets, evaluators, jobs, deployments and sessions, and cancel jobs; no delete, no change of deployments, no secrets or providers |
| inference-user | model calls (the gateway's rule, `gateway/auth.py`) and asking whose key it is |
| viewer | whoever looks at the dashboard from this machine without a key: GET only; no secrets, users or keys, no exported step |

Whoever may start a session of the Agent may do all that its key may (preset `pilot`): a session gives nobody more than they have.
"""

from __future__ import annotations

import re

from tunesmith.db.users import Rights
from tunesmith.errors import PermissionDenied
from tunesmith.schemas.users import PermissionPreset, Role

_ACCOUNT = "/v1/accounts/{}"

_ROUTES = """
GET    /verifyApiKey                                           VerifyApiKey
GET    /v1/accounts                                            ListAccounts
GET    /v1/accounts/{}                                         GetAccount

POST   A/users                                                 CreateUser
GET    A/users                                                 ListUsers
GET    A/users/{}                                              GetUser
PATCH  A/users/{}                                              UpdateUser
DELETE A/users/{}                                              DeleteUser
POST   A/users/{}/apiKeys                                      CreateApiKey
GET    A/users/{}/apiKeys                                      ListApiKeys
POST   A/users/{}/apiKeys:delete                               DeleteApiKey

POST   A/secrets                                               CreateSecret
GET    A/secrets                                               ListSecrets
GET    A/secrets/{}                                            GetSecret
PATCH  A/secrets/{}                                            UpdateSecret
DELETE A/secrets/{}                                            DeleteSecret

POST   A/providers                                             CreateProvider
GET    A/providers                                             ListProviders
GET    A/providers/{}                                          GetProvider
DELETE A/providers/{}                                          DeleteProvider

GET    A/watch                                                 Watch

POST   A/datasets                                              CreateDataset
GET    A/datasets                                              ListDatasets
GET    A/datasets/{}                                           GetDataset
PATCH  A/datasets/{}                                           UpdateDataset
DELETE A/datasets/{}                                           DeleteDataset
POST   A/datasets/{}:upload                                    UploadDataset
POST   A/datasets/{}:getUploadEndpoint                         GetDatasetUploadEndpoint
POST   A/datasets/{}:validateUpload                            ValidateDatasetUpload
GET    A/datasets/{}:getDownloadEndpoint                       GetDatasetDownloadEndpoint
POST   A/datasets/{}:renderPreview                             RenderDatasetPreview
GET    A/datasets/{}/rows                                      ListDatasetRows
GET    A/datasets/{}/statistics                                GetDatasetStatistics

POST   A/evaluatorsV2                                          CreateEvaluator
GET    A/evaluators                                            ListEvaluators
GET    A/evaluators/{}                                         GetEvaluator
PATCH  A/evaluators/{}                                         UpdateEvaluator
DELETE A/evaluators/{}                                         DeleteEvaluator
POST   A/evaluators/{}:getUploadEndpoint                       GetEvaluatorUploadEndpoint
POST   A/evaluators/{}:validateUpload                          ValidateEvaluatorUpload
GET    A/evaluators/{}:getBuildLogEndpoint                     GetEvaluatorBuildLogEndpoint
GET    A/evaluators/{}:getSourceCodeSignedUrl                  GetEvaluatorSourceCode
GET    A/evaluators/{}/versions                                ListEvaluatorVersions
GET    A/evaluators/{}/versions/{}                             GetEvaluatorVersion
GET    A/evaluators/{}/versions/{}/source                      GetEvaluatorVersionSource
GET    A/evaluators/{}/versions/{}/diff                        DiffEvaluatorVersions
POST   A/evaluators/{}:edit                                    EditEvaluator
GET    A/evaluators/{}/results                                 ListEvaluatorResults

POST   A/evaluationJobs                                        CreateEvaluationJob
GET    A/evaluationJobs                                        ListEvaluationJobs
GET    A/evaluationJobs/{}                                     GetEvaluationJob
POST   A/evaluationJobs/{}:cancel                              CancelEvaluationJob
DELETE A/evaluationJobs/{}                                     DeleteEvaluationJob

POST   A/supervisedFineTuningJobs                              CreateSupervisedFineTuningJob
POST   A/supervisedFineTuningJobs:validate                     ValidateSupervisedFineTuningJob
GET    A/supervisedFineTuningJobs                              ListSupervisedFineTuningJobs
GET    A/supervisedFineTuningJobs/{}                           GetSupervisedFineTuningJob
GET    A/supervisedFineTuningJobs/{}:getMetricsFileEndpoint    GetSupervisedFineTuningJobMetrics
POST   A/supervisedFineTuningJobs/{}:cancel                    CancelSupervisedFineTuningJob
POST   A/supervisedFineTuningJobs/{}:resume                    ResumeSupervisedFineTuningJob
DELETE A/supervisedFineTuningJobs/{}                           DeleteSupervisedFineTuningJob

POST   A/dpoJobs                                               CreateDpoJob
POST   A/dpoJobs:validate                                      ValidateDpoJob
GET    A/dpoJobs                                               ListDpoJobs
GET    A/dpoJobs/{}                                            GetDpoJob
GET    A/dpoJobs/{}:getMetricsFileEndpoint                     GetDpoJobMetrics
POST   A/dpoJobs/{}:cancel                                     CancelDpoJob
POST   A/dpoJobs/{}:resume                                     ResumeDpoJob
DELETE A/dpoJobs/{}                                            DeleteDpoJob

POST   A/reinforcementFineTuningJobs                           CreateReinforcementFineTuningJob
POST   A/reinforcementFineTuningJobs:validate                  ValidateReinforcementFineTuningJob
GET    A/reinforcementFineTuningJobs                           ListReinforcementFineTuningJobs
GET    A/reinforcementFineTuningJobs/{}                        GetReinforcementFineTuningJob
GET    A/reinforcementFineTuningJobs/{}/metrics                ListReinforcementFineTuningJobMetrics
GET    A/reinforcementFineTuningJobs/{}/rollouts               ListReinforcementFineTuningJobRollouts
GET    A/reinforcementFineTuningJobs/{}/rollouts/{}            GetReinforcementFineTuningJobRollout
GET    A/reinforcementFineTuningJobs/{}/logs                   ListReinforcementFineTuningJobLogs
GET    A/reinforcementFineTuningJobs/{}/audit                  AuditReinforcementFineTuningJob
GET    A/reinforcementFineTuningJobs/{}/doctor                 DiagnoseReinforcementFineTuningJob
GET    A/reinforcementFineTuningJobs:compare                   CompareReinforcementFineTuningJobs
POST   A/reinforcementFineTuningJobs:estimate                  EstimateReinforcementFineTuningJob
POST   A/supervisedFineTuningJobs:estimate                     EstimateSupervisedFineTuningJob
POST   A/dpoJobs:estimate                                      EstimateDpoJob
GET    A/reinforcementFineTuningJobs/{}/export                 ExportReinforcementFineTuningJob
GET    A/reinforcementFineTuningJobs/{}:exportStep             ExportReinforcementFineTuningJobStep
GET    A/reinforcementFineTuningJobs/{}/events                 ListReinforcementFineTuningJobEvents
POST   A/reinforcementFineTuningJobs/{}:cancel                 CancelReinforcementFineTuningJob
POST   A/reinforcementFineTuningJobs/{}:resume                 ResumeReinforcementFineTuningJob
POST   A/reinforcementFineTuningJobs/{}:clone                  CloneReinforcementFineTuningJob
POST   A/reinforcementFineTuningJobs/{}:control                ControlReinforcementFineTuningJob
POST   A/reinforcementFineTuningJobs/{}:rewind                 RewindReinforcementFineTuningJob
POST   A/reinforcementFineTuningJobs/{}:extend                 ExtendReinforcementFineTuningJob
POST   A/reinforcementFineTuningJobs/{}:promote                PromoteReinforcementFineTuningJob
GET    A/reinforcementFineTuningJobs/{}/report                 GetReinforcementFineTuningJobReport
DELETE A/reinforcementFineTuningJobs/{}                        DeleteReinforcementFineTuningJob

GET    A/models                                                ListModels
GET    A/models/{}                                             GetModel
GET    A/models/{}:getDownloadEndpoint                         GetModelDownloadEndpoint
DELETE A/models/{}                                             DeleteModel

POST   A/deployments                                           CreateDeployment
GET    A/deployments                                           ListDeployments
GET    A/deployments/{}                                        GetDeployment
PATCH  A/deployments/{}                                        UpdateDeployment
PATCH  A/deployments/{}:scale                                  ScaleDeployment
DELETE A/deployments/{}                                        DeleteDeployment

POST   A/sessions                                              CreateSession
GET    A/sessions                                              ListSessions
GET    A/sessions/{}                                           GetSession
PATCH  A/sessions/{}                                           UpdateSession
POST   A/sessions/{}:send                                      SendSessionMessage
POST   A/sessions/{}:cancel                                    CancelSession
DELETE A/sessions/{}                                           DeleteSession
GET    A/sessions/{}/events                                    ListSessionEvents
GET    A/sessions/{}/report                                    GetSessionReport
GET    A/sessions/{}/report/{}                                 GetSessionReport
GET    A/sessionPlanSchema                                     GetSessionPlanSchema

GET    /                                                       ViewDashboard
GET    /dashboard                                              ViewDashboard
GET    /dashboard/{}                                           ViewDashboard
GET    /assets/{}                                              ViewDashboard
POST   /dashboard/session                                      SignIn
GET    /dashboard/session                                      GetSignIn
DELETE /dashboard/session                                      SignOut
POST   /dashboard/links                                        CreateSignInLink
"""

RPCS: dict[tuple[str, str], str] = {
    (method, path.replace("A/", f"{_ACCOUNT}/", 1) if path.startswith("A/") else path): rpc
    for method, path, rpc in (line.split() for line in _ROUTES.splitlines() if line)
}
"""(method, path with `{}` for each parameter) -> name of the call."""

PUBLIC = {
    ("GET", "/health"),
    ("GET", "/openapi.json"),
    ("GET", "/"),
    ("GET", "/dashboard"),
    ("GET", "/dashboard/{}"),
    ("GET", "/assets/{}"),
    ("POST", "/dashboard/session"),
    ("DELETE", "/dashboard/session"),
    ("PUT", "/objects/{}"),
    ("GET", "/objects/{}"),
    ("GET", f"{_ACCOUNT}/evaluators/{{}}/buildLog"),
    ("GET", f"{_ACCOUNT}/models/{{}}/files/{{}}"),
    ("GET", f"{_ACCOUNT}/supervisedFineTuningJobs/{{}}/files/{{}}"),
    ("GET", f"{_ACCOUNT}/dpoJobs/{{}}/files/{{}}"),
}
"""Routes that ask for no key: health, the description of the API, the app's files, signing in and out, and what a signed URL opens."""

_WHOSE_KEY = {"VerifyApiKey", "ListAccounts", "GetAccount"}
_ADMINS_ONLY = {"CreateUser", "UpdateUser", "DeleteUser", "CreateApiKey", "ListApiKeys", "DeleteApiKey"}
_NOT_CONTRIBUTORS = {
    *(rpc for rpc in RPCS.values() if rpc.startswith("Delete")),
    *("CreateSecret", "UpdateSecret", "CreateProvider"),
    *("UpdateDeployment", "ScaleDeployment"),
}
_NOT_VIEWERS = {
    *("ListSecrets", "GetSecret", "ListUsers", "GetUser", "ListApiKeys"),
    "ExportReinforcementFineTuningJobStep",  # weights leave the machine, and hashing a base model costs
}
_USERS = set(RPCS.values()) - _ADMINS_ONLY

ROLES: dict[Role, set[str]] = {
    Role.USER: _USERS,
    Role.CONTRIBUTOR: _USERS - _NOT_CONTRIBUTORS,
    Role.INFERENCE_USER: _WHOSE_KEY,
    Role.VIEWER: {rpc for (method, _), rpc in RPCS.items() if method == "GET"} - _NOT_VIEWERS,
}
"""What each role may call; an admin may call everything."""

PRESETS: dict[str, set[str]] = {
    PermissionPreset.PILOT: {
        *_WHOSE_KEY,
        *("CreateDataset", "ListDatasets", "GetDataset", "RenderDatasetPreview"),
        *("UploadDataset", "GetDatasetUploadEndpoint", "ValidateDatasetUpload", "GetDatasetDownloadEndpoint"),
        *("CreateEvaluator", "ListEvaluators", "GetEvaluator"),
        *("GetEvaluatorUploadEndpoint", "ValidateEvaluatorUpload", "GetEvaluatorBuildLogEndpoint"),
        *("CreateEvaluationJob", "ListEvaluationJobs", "GetEvaluationJob"),
        *("CreateSupervisedFineTuningJob", "ValidateSupervisedFineTuningJob", "GetSupervisedFineTuningJobMetrics"),
        *("ListSupervisedFineTuningJobs", "GetSupervisedFineTuningJob"),
        *("CreateDpoJob", "ValidateDpoJob", "ListDpoJobs", "GetDpoJob", "GetDpoJobMetrics"),
        *("ListModels", "GetModel"),
        *("CreateDeployment", "ListDeployments", "GetDeployment"),
        *("CreateSession", "ListSessions", "GetSession", "ListSessionEvents", "SendSessionMessage"),
        *("GetSessionReport", "GetSessionPlanSchema"),
    },
}
"""The manifest of each preset. Nothing in `pilot` deletes, cancels, scales or changes what is there."""


def rpc_of(method: str, path: str) -> str | None:
    """The call that a route is, by its path as the app declares it; None for one that the table does not have."""
    return RPCS.get((method, _plain(path)))


def is_public(method: str, path: str) -> bool:
    """Whether a route asks for no key."""
    return (method, _plain(path)) in PUBLIC


def allows(rights: Rights, rpc: str) -> bool:
    """Whether these rights allow a call, by its name."""
    preset = rights.preset is None or rpc in PRESETS.get(rights.preset, set())
    return preset and (rights.role is Role.ADMIN or rpc in ROLES[rights.role])


def check(rights: Rights, method: str, path: str) -> None:
    """Raise PermissionDenied naming the call when these rights do not allow a route."""
    rpc = rpc_of(method, path)
    if rights.preset is not None and rpc not in PRESETS.get(rights.preset, set()):
        raise PermissionDenied(
            f"{rpc or f'{method} {path}'} is not in the permission preset {rights.preset} of this key. "
            "Use a key that is not bound to a preset, or ask an admin of the account."
        )
    if rights.role is Role.VIEWER and rpc not in ROLES[rights.role]:
        raise PermissionDenied(
            f"{rpc or f'{method} {path}'} needs an API key: without one you can only look. "
            "Sign in with a key, or with a link from `tunesmith dashboard`."
        )
    if rights.role is not Role.ADMIN and rpc not in ROLES[rights.role]:
        raise PermissionDenied(
            f"{rpc or f'{method} {path}'} is not allowed to the role {rights.role}, which this key's user has. "
            "Ask an admin of the account."
        )


def _plain(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "{}", path)
