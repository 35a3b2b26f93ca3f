"""Signing a browser in and out: the session cookie, and one-time links."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from starlette.datastructures import URL

from tunesmith import __version__
from tunesmith.db.tables import ApiKey
from tunesmith.db.users import Rights
from tunesmith.errors import InvalidArgument, PermissionDenied, Unauthenticated
from tunesmith.schemas.sign_in import BrowserSession, BrowserSignIn, NoSession, SignInLink
from tunesmith.server.auth import account_key, bearer, known_key
from tunesmith.server.control import Control
from tunesmith.server.cookies import COOKIE, LIFETIME_SECONDS, UNTIL, Signed, own_origin, seal
from tunesmith.server.dashboard.access import is_local
from tunesmith.server.signing import Links, viewer_key

router = APIRouter(prefix="/dashboard", tags=["dashboard"])


def _links(request: Request) -> Links:
    return request.app.state.links


OpenLinks = Annotated[Links, Depends(_links)]


@router.post("/session")
def sign_in(
    body: BrowserSignIn, request: Request, response: Response, control: Control, links: OpenLinks
) -> dict[str, Any]:
    """Sign this browser in with an API key, with a one-time link's token, or, from this machine, with nothing: then to look only."""
    public_url = control.settings.public_url
    if not own_origin(request.headers, public_url):
        raise PermissionDenied(
            "Only the dashboard's own page signs a browser in. Open it under this platform's address."
        )
    if body.api_key is not None and body.link is not None:
        raise InvalidArgument("Send either apiKey or link.")
    if body.api_key is not None:
        token = body.api_key.get_secret_value().strip()
    elif body.link is not None:
        token = links.take(body.link.get_secret_value())
    elif _may_look(request, control):
        token = viewer_key(control)
    else:
        raise Unauthenticated(
            "Looking without an API key is possible only from the platform's own machine, under localhost. "
            "Sign in with a key, or with a link from `tunesmith dashboard`."
        )
    key, rights = known_key(control, token, "GET", f"{router.prefix}/session")
    expires = min(time.time() + LIFETIME_SECONDS, key.expires or float("inf"))
    response.set_cookie(
        COOKIE,
        seal(control.keys.master, Signed(token, expires)),
        max_age=max(1, round(expires - time.time())),
        path="/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
    response.headers["cache-control"] = "no-store"
    return _wire(key, rights, expires)


@router.get("/session")
def who(request: Request, response: Response, control: Control, optional: bool = False) -> dict[str, Any]:
    """Who is signed in. With `optional`, that nobody is is no error: `account` is null then, and `mayLook` whether an empty sign-in would do."""
    response.headers["cache-control"] = "no-store"
    try:
        key, rights = known_key(control, bearer(request), "GET", f"{router.prefix}/session")
    except Unauthenticated:
        if not optional:
            raise
        return NoSession(may_look=_may_look(request, control)).dump()
    return _wire(key, rights, getattr(request.state, UNTIL, key.expires))


@router.delete("/session")
def sign_out(response: Response) -> dict[str, Any]:
    """Forget this browser's session; the key itself stays."""
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
    return {}


@router.post("/links")
def make_link(request: Request, control: Control, links: OpenLinks) -> dict[str, Any]:
    """A link that signs one browser in with the caller's key, once, within five minutes."""
    account_key(request, control)
    token, expires = links.make(bearer(request))
    # Behind the #: a browser sends that part to nobody, so that it stands in no log.
    url = URL(str(request.base_url)).replace(path=f"{router.prefix}/sign-in", fragment=f"link={token}")
    return SignInLink.model_validate({"url": str(url), "expires": expires}).dump()


def _may_look(request: Request, control: Control) -> bool:
    """Whether whoever asks may look without a key: from this machine, unless the platform is for others too."""
    return is_local(request) and control.settings.public_url is None


def _wire(key: ApiKey, rights: Rights, expires: float | None) -> dict[str, Any]:
    account = key.account.removeprefix("accounts/")
    fields = {"account": account, "role": rights.role, "user": key.user, "expires": expires, "version": __version__}
    return {"user": None, **BrowserSession.model_validate(fields).dump()}
