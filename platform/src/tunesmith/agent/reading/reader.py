"""The reader: an instruction or a message, to what it states and what has to be asked."""

from __future__ import annotations

import re

from tunesmith.agent.document import Gate, Question
from tunesmith.agent.plan import Plan
from tunesmith.agent.reading.names import Names
from tunesmith.agent.reading.result import Intent, Reading

_APPROVES = re.compile(
    r"(approved|yes|go ahead|proceed|looks good)[\s,.!]*(proceed)?( with the winning config)?[\s,.!]*", re.I
)


def read_instruction(text: str, names: Names) -> Reading:
    """Read what starts a session."""
    return Reading(Intent.START, unclear=(Question(field="unclear", text=f"I did not understand {text!r}."),))


def read_message(text: str, names: Names, gate: Gate | None = None, plan: Plan | None = None) -> Reading:
    """Read a message to a session."""
    if _APPROVES.fullmatch(text.strip()):
        return Reading(Intent.APPROVE)
    return Reading(Intent.UNCLEAR, unclear=(Question(field="unclear", text=f"I did not understand {text!r}."),))
