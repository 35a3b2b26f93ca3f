"""Every table of the control plane. A resource's primary key is its resource name, `accounts/{a}/{nouns}/{id}`.

Times are Unix seconds (float, UTC). JSON columns hold what clients sent or what a job reports, validated by `schemas` at the edge.
Completions live in a file of their own (`db/completions.py`), so that bursts of them never block a control-plane write.
"""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import JSON, Float, ForeignKey, Integer, LargeBinary, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """Declarative base of `tunesmith.db`."""

    type_annotation_map = {dict[str, Any]: JSON, list[Any]: JSON}


class Account(Base):
    """An account; `tunesmith up` makes `accounts/local`."""

    __tablename__ = "accounts"

    name: Mapped[str] = mapped_column(String, primary_key=True)
    display_name: Mapped[str] = mapped_column(String, default="")
    created: Mapped[float] = mapped_column(Float, default=time.time)


class ApiKey(Base):
    """A bearer key, stored as HMAC-SHA256 with the pepper; the plaintext is never kept."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(String, primary_key=True)
    account: Mapped[str] = mapped_column(ForeignKey("accounts.name"), index=True)
    digest: Mapped[str] = mapped_column(String, unique=True)
    prefix: Mapped[str] = mapped_column(String)
    display_name: Mapped[str] = mapped_column(String, default="")
    user: Mapped[str | None] = mapped_column(String, index=True)
    """Resource name of the user that the key belongs to; None: the account's own key, or a job's."""
    scope: Mapped[dict[str, Any]]
    """{"kind": "account"} | {"kind": "run" | "rollout", "job": resource name, "budget": tokens (rollout keys)}.
    An account key may carry {"preset": "pilot"} and {"session": resource name}: the key of a session of the Agent;
    {"role": "viewer"}: that of whoever looks at the dashboard without one."""
    created: Mapped[float] = mapped_column(Float, default=time.time)
    expires: Mapped[float | None] = mapped_column(Float)


class User(Base):
    """Somebody, or a program (service account), that holds keys of an account."""

    __tablename__ = "users"

    name: Mapped[str] = mapped_column(String, primary_key=True)
    account: Mapped[str] = mapped_column(ForeignKey("accounts.name"), index=True)
    role: Mapped[str] = mapped_column(String)
    """`admin`, `user`, `contributor` or `inference-user`."""
    display_name: Mapped[str] = mapped_column(String, default="")
    email: Mapped[str] = mapped_column(String, default="")
    service_account: Mapped[bool] = mapped_column(default=False)
    permission_preset: Mapped[str | None] = mapped_column(String)
    """`pilot`: its keys can do only what the manifest lists, whatever the role."""
    created: Mapped[float] = mapped_column(Float, default=time.time)
    updated: Mapped[float] = mapped_column(Float, default=time.time)


class Secret(Base):
    """A named secret of an account; the value is AES-256-GCM with (account, key name) as associated data."""

    __tablename__ = "secrets"

    name: Mapped[str] = mapped_column(String, primary_key=True)
    account: Mapped[str] = mapped_column(ForeignKey("accounts.name"), index=True)
    key_name: Mapped[str] = mapped_column(String)
    ciphertext: Mapped[bytes] = mapped_column(LargeBinary)
    created: Mapped[float] = mapped_column(Float, default=time.time)
    updated: Mapped[float] = mapped_column(Float, default=time.time)


class Provider(Base):
    """An upstream of an account; it answers for models that are not served here."""

    __tablename__ = "providers"

    name: Mapped[str] = mapped_column(String, primary_key=True)
    account: Mapped[str] = mapped_column(ForeignKey("accounts.name"), index=True)
    base_url: Mapped[str] = mapped_column(String)
    models: Mapped[list[Any]]
    """Patterns of model names."""
    secret: Mapped[str | None] = mapped_column(String)
    """Resource name of the secret that holds the key; it may be deleted while the provider stays."""
    created: Mapped[float] = mapped_column(Float, default=time.time)


class Dataset(Base):
    """Rows, as one JSONL object."""

    __tablename__ = "datasets"

    name: Mapped[str] = mapped_column(String, primary_key=True)
    account: Mapped[str] = mapped_column(ForeignKey("accounts.name"), index=True)
    spec: Mapped[dict[str, Any]]
    """What the client sent (displayName, format, evalProtocol, exampleCount, ...)."""
    state: Mapped[str] = mapped_column(String, default="UPLOADING")
    status: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    object_key: Mapped[str | None] = mapped_column(String)
    example_count: Mapped[int] = mapped_column(Integer, default=0)
    bytes: Mapped[int] = mapped_column(Integer, default=0)
    created: Mapped[float] = mapped_column(Float, default=time.time)
    updated: Mapped[float] = mapped_column(Float, default=time.time)


class Evaluator(Base):
    """An uploaded evaluator project and the state of its newest build."""

    __tablename__ = "evaluators"

    name: Mapped[str] = mapped_column(String, primary_key=True)
    account: Mapped[str] = mapped_column(ForeignKey("accounts.name"), index=True)
    spec: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(String, default="BUILDING")
    status: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    version: Mapped[int] = mapped_column(Integer, default=1)
    archive_key: Mapped[str | None] = mapped_column(String)
    """Object key of the uploaded .tar.gz."""
    build_dir: Mapped[str | None] = mapped_column(String)
    """Folder with src/ and venv/ of the ACTIVE version."""
    build_log: Mapped[str] = mapped_column(Text, default="")
    created: Mapped[float] = mapped_column(Float, default=time.time)
    updated: Mapped[float] = mapped_column(Float, default=time.time)


class EvaluatorVersion(Base):
    """One source of an evaluator: every upload and every edit is one, kept until the evaluator is deleted."""

    __tablename__ = "evaluator_versions"

    name: Mapped[str] = mapped_column(String, primary_key=True)
    """`{evaluator}/versions/{version}`."""
    evaluator: Mapped[str] = mapped_column(String, index=True)
    version: Mapped[int] = mapped_column(Integer)
    archive_key: Mapped[str] = mapped_column(String)
    """Object key of its .tar.gz."""
    entry_point: Mapped[str] = mapped_column(String, default="")
    origin: Mapped[str] = mapped_column(String, default="upload")
    """`upload` or `edit`."""
    message: Mapped[str] = mapped_column(Text, default="")
    """What its author said about the change."""
    state: Mapped[str] = mapped_column(String, default="BUILDING")
    status: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    build_dir: Mapped[str | None] = mapped_column(String)
    """Folder with src/ and venv/ once it is built."""
    build_log: Mapped[str] = mapped_column(Text, default="")
    described: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    """What its host said of it when it was built: `{"name", "mode", "file", "line", "timeout"}`."""
    created: Mapped[float] = mapped_column(Float, default=time.time)
    updated: Mapped[float] = mapped_column(Float, default=time.time)


class Model(Base):
    """A model that the gateway serves by name: an adapter, or a full model, that a job made. Base models live in the catalogue."""

    __tablename__ = "models"

    name: Mapped[str] = mapped_column(String, primary_key=True)
    account: Mapped[str] = mapped_column(ForeignKey("accounts.name"), index=True)
    kind: Mapped[str] = mapped_column(String, default="HF_PEFT_ADDON")
    base_model: Mapped[str] = mapped_column(String)
    job: Mapped[str | None] = mapped_column(String, index=True)
    adapter_path: Mapped[str] = mapped_column(String)
    """Local folder: of the adapter in PEFT format (HF_PEFT_ADDON), or of the whole model (HF_BASE_MODEL)."""
    sha256: Mapped[str] = mapped_column(String)
    state: Mapped[str] = mapped_column(String, default="READY")
    details: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    created: Mapped[float] = mapped_column(Float, default=time.time)


class Policy(Base):
    """A live policy version of a running job. Immutable; calls to a retired one are 410."""

    __tablename__ = "policies"

    name: Mapped[str] = mapped_column(String, primary_key=True)
    account: Mapped[str] = mapped_column(String, index=True)
    job: Mapped[str] = mapped_column(String, index=True)
    version: Mapped[int] = mapped_column(Integer)
    base_model: Mapped[str] = mapped_column(String)
    adapter_path: Mapped[str] = mapped_column(String)
    sha256: Mapped[str] = mapped_column(String)
    seed: Mapped[int] = mapped_column(Integer, default=0)
    sampling: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    created: Mapped[float] = mapped_column(Float, default=time.time)
    retired: Mapped[float | None] = mapped_column(Float)


class Deployment(Base):
    """A name under which a model is kept ready: `accounts/{a}/deployments/{id}`, or `{model}#{deployment}`."""

    __tablename__ = "deployments"

    name: Mapped[str] = mapped_column(String, primary_key=True)
    account: Mapped[str] = mapped_column(ForeignKey("accounts.name"), index=True)
    base_model: Mapped[str] = mapped_column(String, index=True)
    """Resource name of what it serves: of the catalogue, or a model of the account (adapters included)."""
    spec: Mapped[dict[str, Any]]
    """What the client sent."""
    state: Mapped[str] = mapped_column(String, default="CREATING")
    status: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    replicas: Mapped[int] = mapped_column(Integer, default=1)
    """Wanted: 0 (scaled down: calls are refused) or 1."""
    created: Mapped[float] = mapped_column(Float, default=time.time)
    updated: Mapped[float] = mapped_column(Float, default=time.time)


class AgentSession(Base):
    """A session of the Agent: what it knows (`agent/document.py`). The work is a job of the same name, kind `session`."""

    __tablename__ = "sessions"

    name: Mapped[str] = mapped_column(String, primary_key=True)
    account: Mapped[str] = mapped_column(ForeignKey("accounts.name"), index=True)
    display_name: Mapped[str] = mapped_column(String, default="")
    instruction: Mapped[str] = mapped_column(Text, default="")
    state: Mapped[str] = mapped_column(String, index=True, default="running")
    """running, waiting, succeeded, failed or cancelled."""
    phase: Mapped[str] = mapped_column(String, default="inspection")
    document: Mapped[dict[str, Any]]
    revision: Mapped[int] = mapped_column(Integer, default=0)
    """Counts writes of the document; a writer that read an older one must read again."""
    created_by: Mapped[str] = mapped_column(String, default="")
    created: Mapped[float] = mapped_column(Float, default=time.time)
    updated: Mapped[float] = mapped_column(Float, default=time.time)
    completed: Mapped[float | None] = mapped_column(Float)


class SessionEvent(Base):
    """One line of a session's history, numbered from 1. `key` makes writing it twice do no harm."""

    __tablename__ = "session_events"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    session: Mapped[str] = mapped_column(String, index=True)
    sequence: Mapped[int] = mapped_column(Integer)
    key: Mapped[str] = mapped_column(String, unique=True)
    """`{session}/{what happened}`."""
    kind: Mapped[str] = mapped_column(String)
    """`agent.document.EventKind`."""
    text: Mapped[str] = mapped_column(Text, default="")
    data: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    created: Mapped[float] = mapped_column(Float, default=time.time)


class Throughput(Base):
    """What this machine was seen to do: tokens per second of one kind of work on one base model."""

    __tablename__ = "throughputs"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    base_model: Mapped[str] = mapped_column(String, index=True)
    work: Mapped[str] = mapped_column(String)
    """`sft`, `dpo` or `score` (all tokens, prompts included), or `generate` (sampled tokens)."""
    tokens_per_second: Mapped[float] = mapped_column(Float)
    source: Mapped[str] = mapped_column(String)
    """The job that it was seen in, or `measured`."""
    created: Mapped[float] = mapped_column(Float, default=time.time)


class Job(Base):
    """Durable work. Its resource name is its id; a worker holds it by a lease and reconciles it with what is on disk."""

    __tablename__ = "jobs"

    name: Mapped[str] = mapped_column(String, primary_key=True)
    account: Mapped[str] = mapped_column(ForeignKey("accounts.name"), index=True)
    kind: Mapped[str] = mapped_column(String, index=True)
    """`evaluator_build`, `rft`, ... : the handler."""
    spec: Mapped[dict[str, Any]]
    """What the client asked for, with the defaults filled in."""
    state: Mapped[str] = mapped_column(String, default="JOB_STATE_PENDING", index=True)
    status: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    """{"code": gRPC name, "message"}; of an RFT job of which a version was promoted by hand also "why": its message before that."""
    progress: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    """The wire's jobProgress, plus what the run directory's status.json says under "run"."""
    notes: Mapped[list[Any]] = mapped_column(JSON, default=list)
    """Options that were accepted without effect, with the reason."""
    created_by: Mapped[str] = mapped_column(String, default="", server_default="")
    """Resource name of the user who asked for it; empty: whoever has the account's own key. Places in the queue are shared by it."""
    waiting_for: Mapped[str] = mapped_column(Text, default="", server_default="")
    """Why no worker takes it although it is its turn (memory); empty once one has."""
    lease_owner: Mapped[str | None] = mapped_column(String)
    lease_expires: Mapped[float | None] = mapped_column(Float, index=True)
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    delete_requested: Mapped[bool] = mapped_column(default=False)
    control: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    """What a person asks of a running RFT job (`runs/control.py`), `revision` included; empty: nothing."""
    created: Mapped[float] = mapped_column(Float, default=time.time)
    updated: Mapped[float] = mapped_column(Float, default=time.time, onupdate=time.time, index=True)
    """Of anything in the row, leases excepted: what is shown of the job may differ from then on."""
    started: Mapped[float | None] = mapped_column(Float)
    completed: Mapped[float | None] = mapped_column(Float)


class Rollout(Base):
    """One scored or failed rollout of a job, ingested from `rollouts.jsonl`; idempotent by (job, kind, step, row, k, attempt)."""

    __tablename__ = "rollouts"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    key: Mapped[str] = mapped_column(String, unique=True)
    job: Mapped[str] = mapped_column(String, index=True)
    kind: Mapped[str] = mapped_column(String)
    step: Mapped[int] = mapped_column(Integer, index=True)
    epoch: Mapped[int] = mapped_column(Integer)
    row_index: Mapped[int] = mapped_column(Integer)
    k: Mapped[int] = mapped_column(Integer)
    attempt: Mapped[int] = mapped_column(Integer)
    rollout_id: Mapped[str] = mapped_column(String, index=True)
    version: Mapped[int] = mapped_column(Integer)
    score: Mapped[float | None] = mapped_column(Float)
    is_score_valid: Mapped[bool]
    reason: Mapped[str] = mapped_column(Text, default="")
    time: Mapped[float | None] = mapped_column(Float)
    """When it was recorded. This and what follows is None in rows of older versions."""
    prompt: Mapped[str | None] = mapped_column(Text)
    """The beginning of the last message that it answers, for tables."""
    answer: Mapped[str | None] = mapped_column(Text)
    """The beginning of its last assistant message."""
    metrics: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    """Score by name of the evaluator's metric."""
    turns: Mapped[int | None] = mapped_column(Integer)
    """Model calls."""
    completion_tokens: Mapped[int | None] = mapped_column(Integer)
    """Sampled tokens, all turns."""
    truncated: Mapped[bool | None]
    """Whether a turn ended at its token limit."""
    advantage: Mapped[float | None] = mapped_column(Float)
    """What its tokens were weighted with; None where it was not trained."""
    row: Mapped[dict[str, Any]]


class Ingest(Base):
    """How far each file of a run directory was read, in bytes."""

    __tablename__ = "ingest"

    path: Mapped[str] = mapped_column(String, primary_key=True)
    offset: Mapped[int] = mapped_column(Integer, default=0)


class JobEvent(Base):
    """One line of `events.jsonl` or `metrics.jsonl`, as the API serves them."""

    __tablename__ = "job_events"

    key: Mapped[str] = mapped_column(String, primary_key=True)
    """`{job}/{file}/{byte offset}`."""
    job: Mapped[str] = mapped_column(String, index=True)
    file: Mapped[str] = mapped_column(String)
    offset: Mapped[int] = mapped_column(Integer)
    record: Mapped[dict[str, Any]]
