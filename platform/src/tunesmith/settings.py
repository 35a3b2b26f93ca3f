"""Where the platform keeps things and where it listens. Defaults < `config.json` in the data folder < environment < flags.

Nothing is read on import; `Settings.load` is called once per process, at its edge.
"""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from tunesmith.errors import InvalidArgument

DEFAULT_ACCOUNT = "local"

EngineKind = Literal["builtin", "vllm"]
"""What computes a base model: our own engine, or vLLM in an environment of its own."""


def _split(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _words(value: object) -> object:
    return tuple(shlex.split(value)) if isinstance(value, str) else value


def _object(value: object) -> object:
    return json.loads(value) if isinstance(value, str) else value


class Settings(BaseModel):
    """Typed configuration of one platform (all its processes)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data_dir: Path = Path("~/.tunesmith/data")
    """Everything the platform owns lies under this folder. TUNESMITH_DATA_DIR."""
    host: str = "127.0.0.1"
    """Address that the web process listens on. TUNESMITH_HOST."""
    port: int = 7777
    """Port of control plane and gateway. TUNESMITH_PORT."""
    torch_threads: int = max(1, (os.cpu_count() or 2) - 1)
    """Threads of each heavy process (engine, learner): cores - 1, at least 1. TUNESMITH_TORCH_THREADS."""
    engine: EngineKind = "builtin"
    """What serves base models: `builtin`, or `vllm` from the environment of `vllm_python`. TUNESMITH_ENGINE."""
    engine_of: Annotated[dict[str, EngineKind], BeforeValidator(_object)] = {}
    """Base models served by another one, as JSON: {"accounts/.../models/...": "vllm"}. TUNESMITH_ENGINE_OF."""
    vllm_python: Path | None = None
    """Python of the environment that has vLLM. TUNESMITH_VLLM_PYTHON."""
    vllm_arguments: Annotated[tuple[str, ...], BeforeValidator(_words)] = ()
    """Further arguments of vLLM's server, which win over ours: `--max-model-len 8192`. TUNESMITH_VLLM_ARGUMENTS."""
    lease_seconds: float = 30.0
    """A job whose worker has not renewed its lease for this long goes back to the queue. TUNESMITH_LEASE_SECONDS."""
    concurrent_builds: int = 2
    """Evaluator builds that one worker runs at a time. TUNESMITH_CONCURRENT_BUILDS."""
    concurrent_rft_jobs: int = 1
    """RFT jobs that one worker runs at a time. TUNESMITH_CONCURRENT_RFT_JOBS."""
    concurrent_tuning_jobs: int = 2
    """SFT and DPO jobs, each kind for itself, that one worker runs at a time. TUNESMITH_CONCURRENT_TUNING_JOBS."""
    concurrent_evaluations: int = 2
    """Evaluation jobs that one worker runs at a time. TUNESMITH_CONCURRENT_EVALUATIONS."""
    preflight_rows: int = Field(default=16, ge=0)
    """Rows that an RFT job rolls out before its first step, to say whether there is anything to learn; 0: none. TUNESMITH_PREFLIGHT_ROWS."""
    memory_reserve_bytes: int = Field(default=512 * 1024 * 1024, ge=0)
    """Memory that a training job leaves free when it begins, in bytes; one that does not fit waits. TUNESMITH_MEMORY_RESERVE_BYTES."""
    job_memory_bytes: int | None = Field(default=None, ge=1)
    """Memory that all training jobs together may take, in bytes; None: what the machine, or its cgroup, has. TUNESMITH_JOB_MEMORY_BYTES."""
    retention_days: float | None = Field(default=None, gt=0)
    """What `tunesmith gc` removes is removed once a day, of jobs that ended so many days ago; None: never by itself. TUNESMITH_RETENTION_DAYS."""
    build_timeout_seconds: float = 600.0
    """Longest build of an evaluator. TUNESMITH_BUILD_TIMEOUT_SECONDS."""
    evaluation_timeout_seconds: float = 60.0
    """Longest scoring of one rollout in training: a scorer that hangs is killed and costs that rollout. TUNESMITH_EVALUATION_TIMEOUT_SECONDS."""
    max_upload_bytes: int = 150 * 1024 * 1024
    """Largest dataset or evaluator archive accepted, in bytes. TUNESMITH_MAX_UPLOAD_BYTES."""
    allowed_upstreams: Annotated[tuple[str, ...], BeforeValidator(_split)] = ()
    """Private upstreams that model calls may be passed on to: HOST, HOST:PORT, ADDRESS or NETWORK/BITS, with commas between them.
    TUNESMITH_ALLOWED_UPSTREAMS."""
    upstream_proxy: str = ""
    """HTTP proxy through which calls are passed on; HTTP_PROXY and its like are not read. TUNESMITH_UPSTREAM_PROXY."""
    upstream_timeout_seconds: float = 600.0
    """An upstream that sends nothing for this long is given up. TUNESMITH_UPSTREAM_TIMEOUT_SECONDS."""
    max_log_bytes: int = Field(default=1024 * 1024, ge=1024)
    """Largest body of a posted log line, in bytes. TUNESMITH_MAX_LOG_BYTES."""
    public_url: str | None = None
    """Address under which agents on other machines reach this platform, where it is not `base_url`. TUNESMITH_PUBLIC_URL."""
    rollout_key_budget_tokens: int | None = Field(default=None, ge=1)
    """Tokens that the agents of one job may spend; None: derived from the job (docs/reference/training.md).
    TUNESMITH_ROLLOUT_KEY_BUDGET_TOKENS."""
    agent_model_url: str = ""
    """OpenAI-compatible base URL of a model that reads wording which the Agent's own reader does not; empty: none is asked.
    TUNESMITH_AGENT_MODEL_URL."""
    agent_model: str = ""
    """Name of that model. TUNESMITH_AGENT_MODEL."""
    agent_model_key: str = Field(default="", repr=False)
    """Its API key. TUNESMITH_AGENT_MODEL_KEY."""
    mlflow_tracking_uri: str = ""
    """MLflow tracking server that every RFT job's figures are sent to, such as http://127.0.0.1:5000; empty: none.
    TUNESMITH_MLFLOW_TRACKING_URI."""
    sandbox: str = "auto"
    """`auto`: bubblewrap, where it does not work Landlock, and say what is missing; `strict`: refuse to run evaluators unless nothing is;
    `off`. TUNESMITH_SANDBOX."""
    evaluator_memory_bytes: int = Field(default=8 * 1024**3, ge=64 * 1024**2)
    """Memory of all processes of one evaluator host together, where control groups can be made. TUNESMITH_EVALUATOR_MEMORY_BYTES."""
    evaluator_processes: int = Field(default=1024, ge=16)
    """Processes and threads of one evaluator host. TUNESMITH_EVALUATOR_PROCESSES."""
    max_environment_bytes: int = Field(default=10 * 1024**3, ge=1024**2)
    """Largest environment that an evaluator's requirements.txt may make, in bytes. TUNESMITH_MAX_ENVIRONMENT_BYTES."""

    @field_validator("public_url")
    @classmethod
    def _is_an_origin(cls, url: str | None) -> str | None:
        if url is None or not url.strip("/"):
            return None
        parts = urlsplit(url)
        if (
            parts.scheme not in ("http", "https")
            or not parts.hostname
            or parts.query
            or parts.fragment
            or parts.username
        ):
            raise ValueError(
                f"{url!r} is not the http(s) address of this platform, such as https://tunesmith.example.org"
            )
        return url.rstrip("/")

    @classmethod
    def load(cls, **flags: object) -> Settings:
        """Merge defaults, `config.json`, `TUNESMITH_*` and the flags that are not None.

        Raises InvalidArgument when a value does not fit its type or a key of the file is unknown.
        """
        environment = {
            name: os.environ[f"TUNESMITH_{name.upper()}"]
            for name in cls.model_fields
            if os.environ.get(f"TUNESMITH_{name.upper()}")
        }
        given = {name: value for name, value in flags.items() if value is not None}
        data_dir = (
            Path(str(given.get("data_dir") or environment.get("data_dir") or cls().data_dir)).expanduser().resolve()
        )
        file = data_dir / "config.json"
        try:
            from_file = json.loads(file.read_text()) if file.is_file() else {}
            return cls.model_validate({**from_file, **environment, **given, "data_dir": data_dir})
        except (ValueError, OSError) as error:
            raise InvalidArgument(f"The configuration ({file}, TUNESMITH_* or flags) is not valid: {error}") from error

    @property
    def base_url(self) -> str:
        """The address under which this machine reaches the platform, also when it listens on every interface."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def gateway_url(self) -> str:
        """The gateway as evaluators and the agents that they start are told it. Published clients look for `litellm-gateway` in it."""
        return f"{self.public_url or self.base_url}/litellm-gateway"

    def run_dir(self, job_id: str) -> Path:
        """Run directory of a job. Nothing is made: the job may be on its way out."""
        return self.data_dir / "runs" / job_id

    def path(self, *parts: str) -> Path:
        """A path under the data folder; its parent is made."""
        target = self.data_dir.joinpath(*parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        return target
