"""What a phase of a session works with: its document, its folder, its history, the API, and a pause that ends when it must.

A phase reads the document, does what is missing, and writes what it found with `change`: one transaction with the events that tell
of it, on the document as it is then, because a person may have sent a message meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from tunesmith.agent.document import FINAL, Document, EventKind, Phase, State
from tunesmith.agent.plan import Plan
from tunesmith.db import sessions as table
from tunesmith.db.api_keys import new_key
from tunesmith.db.tables import AgentSession
from tunesmith.errors import NotFound, Unavailable
from tunesmith.jobs.handler import ClaimedJob, JobContext
from tunesmith.jobs.session.api import Api
from tunesmith.runs.files import write_atomic
from tunesmith.settings import Settings
from tunesmith.storage.keys import Keys, load_keys

KEY_FILE = "session.key"
WRITES = 10
"""How often a write is tried when others write meanwhile."""


class Stopped(Exception):
    """The session was asked to end (cancelled or deleted)."""


class Changed(Exception):
    """A person changed the document while a phase worked on it: look again."""


@dataclass(frozen=True)
class Event:
    """A line of the history. `key` is unique in the session: the same event twice is written once."""

    key: str
    kind: EventKind
    text: str
    data: dict[str, Any] = field(default_factory=dict)


Edit = Callable[[Document], Sequence[Event] | None]
"""Changes a document in place; may return events that tell of it."""


@dataclass(eq=False)
class Desk:
    """One claim of one session."""

    job: ClaimedJob
    context: JobContext
    keys: Keys
    folder: Path
    """`sessions/{session}`: `data/`, `session.key`, `report/`."""
    api: Api = field(init=False)
    document: Document = field(init=False)
    phase: Phase = field(init=False)
    clock: float = field(default_factory=time.monotonic)
    """When the time spent was last written down."""

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, job: ClaimedJob, context: JobContext) -> AsyncIterator[Desk]:
        """Sit down: the folder, the key, the document as it is."""
        folder = folder_of(job, context)
        desk = cls(job, context, await asyncio.to_thread(load_keys, context.settings), folder)
        await desk.read()
        account = job.account.removeprefix("accounts/")
        desk.api = Api(context.settings.base_url, account, await desk._key(), desk.away, desk.rest)
        try:
            yield desk
        finally:
            await desk.api.close()

    @property
    def settings(self) -> Settings:
        """The platform's."""
        return self.context.settings

    @property
    def id(self) -> str:
        """The session's id, from which the ids of its children derive."""
        return self.job.id

    @property
    def plan(self) -> Plan:
        """The plan as approved. Raises RuntimeError before the approval."""
        if self.document.approved_plan is None:
            raise RuntimeError(f"{self.job.name} has no approved plan in phase {self.phase}")
        return self.document.approved_plan

    def name(self, noun: str, identity: str) -> str:
        """Resource name of something of the account; a resource name stays as it is."""
        return identity if identity.startswith("accounts/") else f"{self.job.account}/{noun}/{identity}"

    async def read(self) -> Document:
        """The document as it is now. Raises Stopped when the session has ended, or was deleted."""

        def work(session: Session) -> None:
            row = table.get_session(session, self.job.name)
            _check_open(row)
            self.document, self.phase = Document.model_validate(row.document), Phase(row.phase)

        try:
            await self.context.query(work)
        except NotFound as error:
            raise Stopped from error
        return self.document

    async def change(
        self,
        edit: Edit,
        *events: Event,
        phase: Phase | None = None,
        state: State | None = None,
        on_plan: Plan | None = None,
    ) -> Document:
        """Write an edit of the document with its events, in one transaction on what is there now.

        `edit` changes the document that it is given, and may return more events. With `on_plan` the edit rests on that plan: raises Changed, and writes nothing, when a person revised it meanwhile.
        """
        spent = self._spent()

        def work(session: Session) -> None:
            _check_open(table.get_session(session, self.job.name))
            document, revision = table.read(session, self.job.name)
            if on_plan is not None and document.plan != on_plan:
                raise Changed
            more = edit(document) or ()
            if spent:
                document.spent[self.phase] = document.spent.get(self.phase, 0.0) + spent
            table.write(session, self.job.name, document, revision, phase=phase, state=state)
            for event in (*events, *more):
                table.append_event(session, self.job.name, event.key, event.kind, event.text, event.data)
            self.document = document

        for _ in range(WRITES):
            try:
                await self.context.transaction(work)
                break
            except table.Conflict:
                continue
            except NotFound as error:
                raise Stopped from error  # the session was deleted
        else:
            raise Unavailable(f"{self.job.name} is written by others all the time; its own step finds no gap.")
        self.phase = phase or self.phase
        return self.document

    async def tell(self, *events: Event) -> None:
        """Write lines of the history, and nothing else."""
        await self.change(lambda _: None, *events)

    async def say(self, message: str) -> None:
        """The one line that says what it is doing."""
        if self.document.message != message:

            def edit(document: Document) -> None:
                document.message = message

            await self.change(edit)

    async def rest(self, seconds: float) -> None:
        """Wait. Raises Stopped as soon as the session is asked to end."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.context.cancelled.wait(), seconds)
        if self.context.cancelled.is_set():
            raise Stopped

    def file(self, *parts: str) -> Path:
        """A file of the session's folder; its parent is made."""
        path = self.folder.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def rows(self, name: str) -> list[dict[str, Any]]:
        """Rows of `data/{name}.jsonl`."""
        with open(self.file("data", f"{name}.jsonl"), "rb") as lines:
            return [json.loads(line) for line in lines if line.strip()]

    def write_rows(self, name: str, rows: Sequence[dict[str, Any]]) -> None:
        """Write `data/{name}.jsonl`, whole or not at all."""
        write_atomic(self.file("data", f"{name}.jsonl"), jsonl(rows))

    def _spent(self) -> float:
        now = time.monotonic()
        spent, self.clock = now - self.clock, now
        return round(spent, 3)

    async def _key(self) -> str:
        """The session's key: preset `pilot`, kept 0600 in its folder until it ends."""
        file = self.file(KEY_FILE)
        if not file.exists():
            scope = {"kind": "account", "preset": "pilot", "session": self.job.name}
            _, plaintext = await self.context.transaction(
                lambda session: new_key(session, self.job.account, scope, "session key", None, self.keys.pepper)
            )
            temporary = file.with_suffix(".tmp")
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as private:
                private.write(plaintext)
            temporary.rename(file)
        return file.read_text()

    async def away(self, reason: str) -> None:
        if reason:
            await self.say(f"Waiting for the platform's web process, which does not answer ({reason}).")
        else:
            await self.say("The platform's web process answers again; going on.")


def folder_of(job: ClaimedJob, context: JobContext) -> Path:
    """Where a session keeps its files. Not among the run directories: a training job may have the session's id."""
    return context.settings.path("sessions", job.id, "x").parent


def _check_open(row: AgentSession) -> None:
    if row.state in FINAL:
        raise Stopped


def jsonl(rows: Sequence[dict[str, Any]]) -> str:
    """Rows as the text of a JSONL file."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
