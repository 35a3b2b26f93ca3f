"""What a dialect is: one client API in front of the same capture. A call is read into the chat form and answered in its own words.

The chat form (`ParsedChat`) is what is rendered, recorded and compared with earlier turns, so that a conversation has the same ids in
every dialect. One instance serves one call and keeps what its answer has to echo.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ClassVar, Protocol

from tunesmith.db.completions import Completion
from tunesmith.errors import TunesmithError
from tunesmith.gateway.calls import Call
from tunesmith.gateway.generation import Candidate
from tunesmith.gateway.requests import ParsedChat
from tunesmith.gateway.streaming import Writer

Recall = Callable[[str], Awaitable[Completion | None]]
"""Reads a recorded completion of the caller back by its id; None where the caller has none of that id."""


class Dialect(Protocol):
    """Reads one call and writes its answer."""

    name: ClassVar[str]
    """As the record notes it."""

    @staticmethod
    def error(error: TunesmithError) -> dict[str, Any]:
        """The body of an error answer."""
        ...

    async def read(self, body: Any, recall: Recall) -> ParsedChat:
        """The call in chat form. Raises BadRequest naming the first field that is wrong or cannot be honoured."""
        ...

    def whole(self, call: Call, candidates: Sequence[Candidate]) -> dict[str, Any]:
        """The answer to a call that is not streamed."""
        ...

    def writer(self, call: Call, candidates: Sequence[Candidate]) -> Writer:
        """The writer of a streamed answer."""
        ...
