"""What every route of the control plane works with, and one request's session.

One request is one transaction, committed before the answer leaves: a 2xx means that it is on disk.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Query, Request
from sqlalchemy.orm import Session, sessionmaker

from tunesmith.db.accounts import ensure_account
from tunesmith.db.listing import ListQuery
from tunesmith.db.session import make_engine, open_database, reading
from tunesmith.schemas.names import account_name
from tunesmith.settings import DEFAULT_ACCOUNT, Settings
from tunesmith.storage.keys import Keys, load_keys
from tunesmith.storage.objects import ObjectStore
from tunesmith.storage.signing import UrlSigner

SCRATCH_SECONDS = 86_400.0
"""What an upload left in the scratch folder because the process was killed is removed at the first start after this long."""


@dataclass(frozen=True)
class ControlPlane:
    """The open database, object store and keys of one platform."""

    settings: Settings
    sessions: sessionmaker[Session]
    keys: Keys
    objects: ObjectStore
    signer: UrlSigner

    @cached_property
    def captured(self) -> sessionmaker[Session]:
        """Sessions to read what the gateway captured (`db.captured`); the gateway alone writes it. To be used with `reading`."""
        return sessionmaker(make_engine(self.settings.path("completions.db")))

    @classmethod
    def open(cls, settings: Settings) -> ControlPlane:
        """Make or open the data folder; the account `local` is there afterwards."""
        keys = load_keys(settings)
        sessions = open_database(settings.path("tunesmith.db"))
        with sessions.begin() as session:
            ensure_account(session, account_name(DEFAULT_ACCOUNT))
        control = cls(settings, sessions, keys, ObjectStore.open(settings), UrlSigner.from_pepper(keys.pepper))
        for leftover in control.scratch().iterdir():
            if leftover.stat().st_mtime < time.time() - SCRATCH_SECONDS:
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        return control

    def scratch(self) -> Path:
        """Folder for files that are being checked and are not objects yet."""
        folder = self.settings.path("uploads", "x").parent
        folder.chmod(0o700)
        return folder

    def signed_url(self, request: Request, method: str, path: str, size: int | None = None) -> str:
        """A signed URL at the address under which this client reached us."""
        return self.signer.url(str(request.base_url), method, path, size=size)


def control_plane(request: Request) -> ControlPlane:
    """The control plane of the running app."""
    return request.app.state.control


Control = Annotated[ControlPlane, Depends(control_plane)]


def _reader(control: Control) -> Iterator[Session]:
    with reading(control.sessions) as session:
        yield session


def _writer(control: Control) -> Iterator[Session]:
    with control.sessions.begin() as session:
        yield session


Reader = Annotated[Session, Depends(_reader, scope="function")]
"""A snapshot; takes no lock."""
Writer = Annotated[Session, Depends(_writer, scope="function")]
"""The request's transaction; rolled back when the route raises."""


def _list_query(
    page_size: Annotated[int, Query(alias="pageSize")] = 0,
    page_token: Annotated[str, Query(alias="pageToken")] = "",
    order_by: Annotated[str, Query(alias="orderBy")] = "",
    filter: Annotated[str, Query()] = "",
    read_mask: Annotated[str, Query(alias="readMask")] = "",
) -> ListQuery:
    del read_mask  # accepted: answers are whole, which every mask allows for
    return ListQuery(page_size, page_token, order_by, filter)


Listing = Annotated[ListQuery, Depends(_list_query)]
