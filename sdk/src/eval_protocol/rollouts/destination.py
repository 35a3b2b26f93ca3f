"""Where a model call goes, under which model name and with which key.

Order: `api_base` of the completion_params; `EP_LLM_API_BASE`; `EP_MODEL_BASE_URL` (a tracing gateway: the five ids go into the path);
for `accounts/...` models the platform of the profile (its gateway, with the ids); else OpenAI (`OPENAI_BASE_URL`).
A key is sent only to the origin it belongs to.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from eval_protocol.errors import RolloutError
from eval_protocol.models import CompletionParams, EvaluationRow
from eval_protocol.models.status import Code
from eval_protocol.settings import HOSTED_API_BASE, Profile, load_profile, origin

OPENAI_BASE_URL = "https://api.openai.com/v1"
IDS = re.compile(
    "".join(f"/{name}/[^/]+" for name in ("rollout_id", "invocation_id", "experiment_id", "run_id", "row_id"))
)
PATH_SAFE = re.compile(r"[A-Za-z0-9._~-]+")


@dataclass(frozen=True)
class Destination:
    """One chat completions endpoint."""

    url: str
    model: str
    api_key: str | None = None

    @property
    def shown(self) -> str:
        """The URL as errors name it: without the ids, so that equal failures read equal, and without a query, which may hold a key."""
        return IDS.sub("", self.url.partition("?")[0])


@dataclass(frozen=True)
class ModelRouting:
    """What environment and profile say about model calls, read once per run."""

    llm_base: str | None = None
    """EP_LLM_API_BASE or EP_LLM_BASE_URL."""
    gateway: str | None = None
    """EP_MODEL_BASE_URL."""
    gateway_key: str | None = None
    """EP_REMOTE_API_KEY."""
    profile: Profile | None = None
    openai_base: str = OPENAI_BASE_URL
    openai_key: str | None = None

    @classmethod
    def read(cls, environ: Mapping[str, str] | None = None) -> ModelRouting:
        """Read environment and profile. Raises ProfileError when the profile cannot be read."""
        environ = os.environ if environ is None else environ

        def get(*names: str) -> str | None:
            return next((environ[name].strip().rstrip("/") for name in names if environ.get(name, "").strip()), None)

        # With a base for every call there is no need of a platform, and a half-set pair must not get in the way.
        covered = get("EP_LLM_API_BASE", "EP_LLM_BASE_URL", "EP_MODEL_BASE_URL") is not None
        has_pair = bool(get("FIREWORKS_API_BASE") and get("FIREWORKS_API_KEY"))
        lone_base = bool(get("FIREWORKS_API_BASE")) and not has_pair
        return cls(
            llm_base=get("EP_LLM_API_BASE", "EP_LLM_BASE_URL"),
            gateway=get("EP_MODEL_BASE_URL"),
            gateway_key=get("EP_REMOTE_API_KEY"),
            profile=None if covered and lone_base else load_profile(environ),
            openai_base=get("OPENAI_BASE_URL") or OPENAI_BASE_URL,
            openai_key=get("OPENAI_API_KEY"),
        )

    def destination(self, params: CompletionParams, row: EvaluationRow) -> Destination:
        """Where the call for this row goes.

        Raises:
            RolloutError: no model is named, or nothing is known about where it is served.
        """
        name = str(params.get("model") or "")
        if not name:
            raise _refusal('completion_params names no model: add "model" to it, or use NoOpRolloutProcessor.')
        model = name.removeprefix("fireworks_ai/").removeprefix("openai/")
        given = params.get("api_base") or params.get("base_url")
        if given or self.llm_base:
            base = str(given or self.llm_base)
            return Destination(_completions(base), model, params.get("api_key") or self._key_for(base))
        if self.gateway:
            key = self.gateway_key or self._key_for(self.gateway) or params.get("api_key")
            return Destination(_completions(self.gateway + id_path(row)), model, key)
        if name.startswith(("accounts/", "fireworks_ai/")):
            return self._platform(model, params.get("api_key"), row)
        return self._openai(name, model, params.get("api_key"))

    def _platform(self, model: str, api_key: str | None, row: EvaluationRow) -> Destination:
        profile = self.profile
        if profile is None:
            raise _refusal(
                f"No platform is known that serves {model}: start one with `tunesmith up` (it writes ~/.tunesmith/profile.json), "
                "or set FIREWORKS_API_BASE and FIREWORKS_API_KEY, or give api_base in completion_params."
            )
        # The hosted service has no gateway path with ids; every other platform is one of ours.
        hosted = origin(profile.api_base) == origin(HOSTED_API_BASE)
        base = f"{profile.api_base}/inference/v1" if hosted else f"{profile.api_base}/litellm-gateway{id_path(row)}"
        return Destination(_completions(base), model, api_key or profile.api_key)

    def _openai(self, name: str, model: str, api_key: str | None) -> Destination:
        provider, slash, _ = name.partition("/")
        if slash and provider != "openai":
            raise _refusal(
                f"No way to call {name}: the provider {provider!r} needs the [litellm] extra, which this version does not have yet. "
                "Give api_base (an OpenAI-compatible URL) and api_key in completion_params instead."
            )
        key = api_key or self.openai_key
        if key is None and self.openai_base == OPENAI_BASE_URL:
            raise _refusal(
                f"No key to call {name} at OpenAI: set OPENAI_API_KEY, or give api_base in completion_params. "
                "Models of your platform are called accounts/..."
            )
        return Destination(_completions(self.openai_base), model, key)

    def _key_for(self, base: str) -> str | None:
        if self.gateway and self.gateway_key and origin(base) == origin(self.gateway):
            return self.gateway_key
        if self.profile and self.profile.covers(base):
            return self.profile.api_key
        if self.openai_key and origin(base) == origin(self.openai_base):
            return self.openai_key
        return None


def id_path(row: EvaluationRow) -> str:
    """The five correlation ids as a URL path, with a leading slash. An id that is not safe in a path goes as its hash."""
    ids = row.execution_metadata
    parts = {
        "rollout_id": ids.rollout_id,
        "invocation_id": ids.invocation_id,
        "experiment_id": ids.experiment_id,
        "run_id": ids.run_id,
        "row_id": row.input_metadata.row_id,
    }
    return "".join(f"/{name}/{_segment(value)}" for name, value in parts.items())


def _segment(value: str | None) -> str:
    if not value:
        return "none"
    if PATH_SAFE.fullmatch(value) and value not in (".", ".."):
        return quote(value, safe="")
    return hashlib.sha256(value.encode()).hexdigest()[:24]


def _completions(base: str) -> str:
    base = base.rstrip("/")
    return base if base.endswith("/chat/completions") else f"{base}/chat/completions"


def _refusal(message: str) -> RolloutError:
    return RolloutError(message, code=Code.FAILED_PRECONDITION)
