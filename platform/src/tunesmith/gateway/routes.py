"""The gateway's routes, to be mounted at the root of the web process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from tunesmith.gateway import chat, internal
from tunesmith.gateway.errors import translated
from tunesmith.gateway.state import GatewayState

_MODELS_PREFIXES = (
    "",
    "/v1",
    "/inference/v1",
    "/litellm-gateway",
    "/litellm-gateway/v1",
    "/{prefix:path}/row_id/{row}",
    "/{prefix:path}/row_id/{row}/encoded_base_url/{url}",
)
"""Named one by one: a catch-all before `/models` would take the control plane's resources with it."""

Handler = Callable[[GatewayState, Request], Awaitable[Response]]


def gateway_routes(state: GatewayState) -> list[BaseRoute]:
    """Public chat routes under all their prefixes, and the internal ones. Errors are answered in OpenAI's envelope."""
    return [
        _route(state, "POST", "/v1/chat/completions", chat.chat_completions),
        _route(state, "POST", "/chat/completions", chat.chat_completions),
        _route(state, "POST", "/{prefix:path}/chat/completions", chat.chat_completions),
        *[_route(state, "GET", f"{prefix}/models", chat.list_models) for prefix in _MODELS_PREFIXES],
        _route(state, "PUT", "/internal/policies", internal.put_policy_version),
        _route(state, "DELETE", "/internal/policies", internal.delete_policy_version),
        _route(state, "POST", "/internal/policies:score", internal.score),
        _route(state, "GET", "/internal/rollouts/{rollout_id}/completions", internal.rollout_completions),
    ]


def _route(state: GatewayState, method: str, path: str, handler: Handler) -> Route:
    async def endpoint(request: Request) -> Response:
        return await handler(state, request)

    return Route(path, translated(endpoint), methods=[method])
