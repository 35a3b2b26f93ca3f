"""The gateway's routes, to be mounted at the root of the web process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from tunesmith.errors import TunesmithError
from tunesmith.gateway import chat, internal, logs, status, traces
from tunesmith.gateway.chat import Handler, call_handler
from tunesmith.gateway.dialects import Chat, Dialect, Messages, Responses
from tunesmith.gateway.errors import envelope, translated
from tunesmith.gateway.paths import call_route, misshapen, misshapen_route, tracing_route
from tunesmith.gateway.state import GatewayState
from tunesmith.gateway.tracing import detailed

_CALLS: dict[str, type[Dialect]] = {
    "/chat/completions": Chat,
    "/responses": Responses,
    "/messages": Messages,
}
"""Model calls, each under every prefix and behind the five ids (`paths.call_route`)."""

_TRACING: list[tuple[str, str, Handler]] = [
    ("POST", "/logs", logs.post_log),
    ("GET", "/logs", logs.list_logs),
    ("GET", "/status", status.get_status),
    ("GET", "/traces", traces.list_traces),
    ("GET", "/traces/pointwise", traces.pointwise_traces),
    ("GET", "/health", status.health),
]
"""Routes beside the calls, each under every prefix (`paths.tracing_route`)."""


def gateway_routes(state: GatewayState) -> list[BaseRoute]:
    """Public routes under all their prefixes, and the internal ones. Errors are answered in the dialect's envelope, or OpenAI's."""

    def bound(
        handler: Handler, error: Callable[[TunesmithError], dict[str, Any]] = envelope
    ) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            return await handler(state, request)

        return translated(endpoint, error)

    return [
        *[call_route("POST", path, bound(call_handler(kind), kind.error)) for path, kind in _CALLS.items()],
        call_route("GET", "/models", bound(chat.list_models)),
        *[tracing_route(method, path, detailed(state, handler)) for method, path, handler in _TRACING],
        *[misshapen_route(path, translated(misshapen)) for path in _CALLS],
        Route("/internal/policies", bound(internal.put_policy_version), methods=["PUT"]),
        Route("/internal/policies", bound(internal.delete_policy_version), methods=["DELETE"]),
        Route("/internal/policies:score", bound(internal.score), methods=["POST"]),
        Route("/internal/rollouts:close", bound(internal.close_rollouts), methods=["POST"]),
        Route("/internal/gateway", bound(internal.gateway_uptime), methods=["GET"]),
        Route("/internal/rollouts/{rollout_id}/completions", bound(internal.rollout_completions), methods=["GET"]),
    ]
