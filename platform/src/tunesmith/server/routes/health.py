"""Whether the web process answers."""

from __future__ import annotations

from fastapi import APIRouter
from sqlalchemy import text

from tunesmith import __version__
from tunesmith.server.control import Reader

router = APIRouter(tags=["health"])


@router.get("/health")
def health(session: Reader) -> dict[str, str]:
    """200 when the database answers too."""
    session.execute(text("SELECT 1"))
    return {"status": "healthy", "service": "tunesmith", "version": __version__}
