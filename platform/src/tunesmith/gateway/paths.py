"""What may stand in front of a gateway route, and what it says about the call.

    {"" | /v1 | /inference/v1 | /litellm-gateway | /litellm-gateway/v1}[/project_id/{p}]
    [/rollout_id/{r}/invocation_id/{i}/experiment_id/{e}/run_id/{n}/row_id/{w}[/encoded_base_url/{b}][/v1]]

Tracing routes stand behind the first line, model calls behind both: an agent gets the whole as its base URL, and SDKs append a
`/v1` of their own. The patterns are anchored, so that none of them takes a path of the control plane (`/v1/accounts/…`).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from starlette.requests import Request
from starlette.routing import Match, Route
from starlette.types import Scope

from tunesmith.db.completions import CorrelationIds
from tunesmith.errors import NotFound
from tunesmith.gateway.errors import BadRequest

_BASE = r"(?:/v1|/inference/v1|/litellm-gateway(?:/v1)?)?(?:/project_id/(?P<project_id>[^/]+)(?:/v1)?)?"
_IDS = (
    r"(?:/+rollout_id/(?P<rollout_id>[^/]+)/invocation_id/(?P<invocation_id>[^/]+)/experiment_id/(?P<experiment_id>[^/]+)"
    r"/run_id/(?P<run_id>[^/]+)/row_id/(?P<row_id>[^/]+)(?:/encoded_base_url/(?P<encoded_base_url>[^/]*))?(?:/v1)?)?"
)
"""Slashes may be doubled where a client joined a base URL that ends with one."""
_KNOWN_PATHS, _KNOWN_LENGTH = 4096, 1024
"""Paths that are remembered by each route, and their greatest length."""
_ID_NAMES = ("rollout_id", "invocation_id", "experiment_id", "run_id", "row_id")


@dataclass(frozen=True)
class CallPath:
    """What the path of a call says."""

    ids: CorrelationIds
    project_id: str | None
    """A label of the client's; it selects nothing here."""
    upstream: str | None
    """The decoded `encoded_base_url`: where a model that is not served here is to be found."""


def call_path(request: Request) -> CallPath:
    """Read the path of a model call. Raises BadRequest when its encoded base URL is not base64 of a text."""
    params = request.path_params
    encoded = params.get("encoded_base_url")
    return CallPath(
        CorrelationIds(*[params.get(name) for name in _ID_NAMES]),
        params.get("project_id"),
        None if encoded is None else _decoded(encoded),
    )


@lru_cache(1024)
def _decoded(encoded: str) -> str:
    text = encoded.rstrip("=")
    try:
        url = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise BadRequest(
            f"encoded_base_url/{encoded[:80]} is not URL-safe base64 of a URL: {error}. Encode it with base64.urlsafe_b64encode.",
            "encoded_base_url",
        ) from error
    if not url:
        raise BadRequest("encoded_base_url is empty; leave it out, or encode a URL.", "encoded_base_url")
    return url


class PatternRoute(Route):
    """A route whose prefix is a regular expression; its groups become path parameters, None where absent."""

    def __init__(self, prefix: str, path: str, endpoint: Callable[..., Any], methods: list[str]) -> None:
        """`path` comes behind the prefix, in Starlette's syntax."""
        super().__init__("/{prefix}" + path, endpoint, methods=methods)
        self.pattern = re.compile(prefix + "/*" + re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(path)))
        self._known = lru_cache(_KNOWN_PATHS)(self._groups)
        """What was found in a path before: the calls of a rollout have the same one."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Starlette's question, asked of every route in turn."""
        if scope["type"] != "http":
            return Match.NONE, {}
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        groups = self._known(path) if len(path) <= _KNOWN_LENGTH else self._groups(path)
        if groups is None:
            return Match.NONE, {}
        child = {"endpoint": self.endpoint, "path_params": {**scope.get("path_params", {}), **groups}}
        return Match.FULL if scope["method"] in (self.methods or ()) else Match.PARTIAL, child

    def _groups(self, path: str) -> dict[str, str | None] | None:
        match = self.pattern.fullmatch(path)
        return match.groupdict() if match else None


_OF_EVALUATORS = {
    "POST": re.compile(f"{_BASE}{_IDS}/*/(chat/completions|responses|messages|logs)"),
    "GET": re.compile(f"{_BASE}{_IDS}/*/(models|logs|status|traces|traces/pointwise|health)"),
}


def open_to_evaluators(method: str, path: str) -> bool:
    """Whether evaluators need this: model calls, logs, status and traces."""
    pattern = _OF_EVALUATORS.get(method)
    return pattern is not None and pattern.fullmatch(path) is not None


def call_route(method: str, path: str, endpoint: Callable[..., Any]) -> Route:
    """A model call: under every base, with and without the five ids."""
    return PatternRoute(_BASE + _IDS, path, endpoint, [method])


def tracing_route(method: str, path: str, endpoint: Callable[..., Any]) -> Route:
    """A route beside the calls: under every base and project, never behind the ids."""
    return PatternRoute(_BASE, path, endpoint, [method])


def misshapen_route(path: str, endpoint: Callable[..., Any]) -> Route:
    """Catches calls whose ids are not in the order that the contract gives them; to stand behind the call routes."""
    return PatternRoute(r"/(?!v1/accounts/).*", path, endpoint, ["POST"])


async def misshapen(request: Request) -> Any:
    """Say how a path is built. Always raises NotFound."""
    raise NotFound(
        f"No route {request.url.path[:300]}. The five ids go /rollout_id/…/invocation_id/…/experiment_id/…/run_id/…/row_id/… "
        "in this order, behind /v1, /inference/v1, /litellm-gateway or nothing."
    )
