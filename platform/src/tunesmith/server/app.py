"""The web process's app: control plane, dashboard pages and gateway routes over one open data folder."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.routing import Route
from starlette.types import ASGIApp, Lifespan, Receive, Scope, Send

from tunesmith import __version__
from tunesmith.gateway import GatewayFirst, GatewayState, gateway_routes
from tunesmith.gateway.evaluator_socket import EvaluatorDoor
from tunesmith.server.answers import describe
from tunesmith.server.changes import Changes
from tunesmith.server.control import ControlPlane
from tunesmith.server.cookies import CookieFirst
from tunesmith.server.dashboard import pages
from tunesmith.server.errors import add_error_handlers
from tunesmith.server.limits import BodyLimit
from tunesmith.server.paths import ResourceNames
from tunesmith.server.routes import (
    accounts,
    api_keys,
    dataset_rows,
    datasets,
    deployments,
    dpo_jobs,
    estimates,
    evaluation_jobs,
    evaluator_versions,
    evaluators,
    health,
    models,
    objects,
    providers,
    reinforcement_fine_tuning_jobs,
    rft_actions,
    rft_audit,
    rft_compare,
    rft_control,
    rft_doctor,
    rft_export,
    rft_extend,
    rft_logs,
    rft_monitoring,
    rft_report,
    rft_rollouts,
    rft_step,
    secrets,
    sessions,
    sign_in,
    supervised_fine_tuning_jobs,
    users,
    watch,
)
from tunesmith.server.signing import Links
from tunesmith.settings import Settings

log = logging.getLogger(__name__)

_ROUTERS = (
    health.router,
    accounts.router,
    users.router,
    watch.router,
    api_keys.router,
    secrets.router,
    sessions.router,
    providers.router,
    datasets.router,
    dataset_rows.router,
    evaluators.router,
    evaluator_versions.router,
    evaluation_jobs.router,
    rft_step.router,  # before the job itself, whose id would take the verb for a part of it
    reinforcement_fine_tuning_jobs.router,
    rft_control.router,
    rft_report.router,
    rft_actions.router,
    estimates.router,
    rft_audit.router,
    rft_compare.router,
    rft_doctor.router,
    rft_export.router,
    rft_extend.router,
    rft_logs.router,
    rft_monitoring.router,
    rft_rollouts.router,
    supervised_fine_tuning_jobs.router,
    dpo_jobs.router,
    models.router,
    deployments.router,
    objects.router,
    sign_in.router,
    pages.router,
)


class WebApp(FastAPI):
    """The app; the gateway's routes take the short way (`GatewayFirst`)."""

    front: ASGIApp | None = None

    def openapi(self) -> dict[str, Any]:
        """The description of the REST routes, with what they answer."""
        if self.openapi_schema is None:
            self.openapi_schema = describe(self)
        return self.openapi_schema

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI: the control plane's way, through all of its middleware."""
        await super().__call__(scope, receive, send)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        await (self.front or self.serve)(scope, receive, send)


def declare(lifespan: Lifespan[Any] | None = None) -> WebApp:
    """The app with the control plane's routes, which answer nothing yet: `create_app` gives them a data folder."""
    # The interactive pages are off: they would load scripts from other hosts.
    app = WebApp(title="Tunesmith", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    add_error_handlers(app)
    for router in _ROUTERS:
        app.include_router(router)
    return app


def create_app(settings: Settings) -> FastAPI:
    """Open (or make) the data folder and return the app that serves it. `/openapi.json` describes the REST routes."""
    control = ControlPlane.open(settings)
    gateway, changes = GatewayState(settings, control.sessions), Changes(control.sessions)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            async with gateway.lifespan(app):
                yield
        finally:
            changes.close()

    app = declare(lifespan)
    app.state.control, app.state.links, app.state.changes = control, Links(), changes
    routes = gateway_routes(gateway)
    app.router.routes.extend(routes)
    # /health is the control plane's, which asks the database, too.
    fast = [route for route in routes if not (isinstance(route, Route) and route.path.endswith("/health"))]
    gated = BodyLimit(GatewayFirst(app.serve, fast), settings.max_upload_bytes)
    app.front = EvaluatorDoor(CookieFirst(gated, control.keys.master, settings.public_url))
    app.add_middleware(ResourceNames)
    app.add_middleware(BodyLimit, max_upload_bytes=settings.max_upload_bytes)
    return app
