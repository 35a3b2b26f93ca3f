"""Sessions of the Agent on the wire: the bodies that a client sends, and a session and an event as the API shows them.

The parts of a session are those of `tunesmith.agent.document`, as JSON; this room lies below that one and does not look into them.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from tunesmith.schemas.wire import JobInput, Status, Time, Wire

MAX_WORDS = 20_000
"""Longest instruction or message, in characters."""


class SessionCreate(JobInput):
    """Body of a create: an instruction, a plan, or both."""

    instruction: str | None = Field(default=None, max_length=MAX_WORDS)
    plan: dict[str, Any] | None = None
    display_name: str | None = None
    scope: Literal["optimize"] | None = None


class SessionUpdate(Wire):
    """Body of an update: what a client may change."""

    display_name: str


class SessionMessage(JobInput):
    """Body of a send: words, or a plan that takes the place of the one that is not approved yet."""

    message: str | None = Field(default=None, max_length=MAX_WORDS)
    plan: dict[str, Any] | None = None


class AgentSession(Wire):
    """A session as the API shows it."""

    name: str
    display_name: str
    instruction: str
    scope: str = "optimize"
    state: str
    status: Status
    phase: str
    plan: dict[str, Any]
    approved_plan: dict[str, Any] | None = None
    understood: list[str]
    pending_gate: dict[str, Any] | None = None
    estimate: dict[str, Any] | None = None
    spent_seconds: float
    spent: dict[str, float]
    candidates: list[dict[str, Any]]
    winner: int | None = None
    reason: str = ""
    held_out: dict[str, Any] | None = None
    deployed: dict[str, Any] | None = None
    report_url: str | None = None
    message: str
    create_time: Time
    update_time: Time
    completed_time: Time | None = None
    created_by: str


class SessionEvent(Wire):
    """A line of a session's history."""

    sequence: int
    time: Time
    kind: str
    text: str
    data: dict[str, Any]
