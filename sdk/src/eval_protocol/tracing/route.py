"""Which tracing gateway to talk to, and with which key. A key goes only to the host it belongs to.

A rollout's gateway: `EP_MODEL_BASE_URL`, else what the code says, else the platform of the profile, else (with a key of the hosted
service) the hosted gateway. The gateway that log lines go to, where no request names one: `FW_TRACING_GATEWAY_BASE_URL`, `GATEWAY_URL`,
then as above.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from eval_protocol.errors import ProfileError
from eval_protocol.settings import HOSTED_API_BASE, Profile, load_profile, origin

HOSTED_GATEWAY = "https://tracing.fireworks.ai"
PLATFORM_PATH = "/litellm-gateway"
"""Where a platform of ours has its gateway. Published clients look for this word before they put ids into a URL."""


@dataclass(frozen=True)
class TracingGateway:
    """One gateway: chat completions under ids, logs, status, traces."""

    base: str
    """Without a trailing slash, without ids."""
    key: str | None = field(default=None, repr=False)

    @property
    def root(self) -> str:
        """The base without a trailing `/v1`: what status, logs and traces stand under."""
        return self.base.removesuffix("/v1")


def rollout_gateway(given: str | None = None, environ: Mapping[str, str] | None = None) -> TracingGateway | None:
    """The gateway for rollouts, or None when none is known.

    Args:
        given: what the code says; `EP_MODEL_BASE_URL` wins.

    Raises:
        ProfileError: the client profile cannot be read.
    """
    environ = os.environ if environ is None else environ
    base = _get(environ, "EP_MODEL_BASE_URL") or (given or "").rstrip("/") or None
    profile = _profile(environ, needed=base is None)
    if base is None:
        if profile is None:
            return None
        hosted = origin(profile.api_base) == origin(HOSTED_API_BASE)
        base = HOSTED_GATEWAY if hosted else profile.api_base + PLATFORM_PATH
    return TracingGateway(base, _get(environ, "EP_REMOTE_API_KEY") or _key_for(base, profile))


def log_gateway(given: str | None = None, environ: Mapping[str, str] | None = None) -> TracingGateway | None:
    """The gateway that log lines go to, or None when none is known.

    A `FIREWORKS_API_KEY` beside a gateway that was named is its key, unless `FIREWORKS_API_BASE` says that it is another host's.
    """
    environ = os.environ if environ is None else environ
    base = (given or "").rstrip("/") or _get(environ, "FW_TRACING_GATEWAY_BASE_URL", "GATEWAY_URL")
    if base is None:
        return rollout_gateway(environ=environ)
    key, owner = _get(environ, "FIREWORKS_API_KEY"), _get(environ, "FIREWORKS_API_BASE")
    if key is None or (owner is not None and origin(owner) != origin(base)):
        key = _get(environ, "EP_REMOTE_API_KEY") or _key_for(base, _profile(environ, needed=False))
    return TracingGateway(base, key)


def gateway_of(model_base_url: str, key: str | None) -> TracingGateway:
    """The gateway behind the base URL that an agent got: everything before the ids."""
    return TracingGateway(model_base_url.partition("/rollout_id/")[0].rstrip("/"), key)


def _get(environ: Mapping[str, str], *names: str) -> str | None:
    return next((environ[name].strip().rstrip("/") for name in names if environ.get(name, "").strip()), None)


def _profile(environ: Mapping[str, str], *, needed: bool) -> Profile | None:
    try:
        return load_profile(environ)
    except ProfileError:
        if needed:
            raise
        return None


def _key_for(base: str, profile: Profile | None) -> str | None:
    if profile is None:
        return None
    hosted = origin(profile.api_base) == origin(HOSTED_API_BASE) and origin(base) == origin(HOSTED_GATEWAY)
    return profile.api_key if hosted or profile.covers(base) else None
