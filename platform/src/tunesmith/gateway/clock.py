"""The time of day for records whose order matters: it follows the machine's clock forward, and does not go back with it.

What a rollout recorded before it was closed counts, and what came later does not (`internal.rollout_completions`). A clock that is
set back in between would turn the two around, and throw away what a job is to be trained on.
"""

from __future__ import annotations

import os
import time

_SLACK_SECONDS = 0.5
"""Corrections below this are followed: NTP slews both clocks alike."""


class OnwardClock:
    """Unix seconds that never go back within a process. For one thread."""

    def __init__(self) -> None:
        self._ahead = 0.0
        """Seconds by which the machine's clock was set back so far."""
        self._last = time.time(), time.monotonic()

    def now(self) -> float:
        """The time of day; after the machine's clock was set back, the time that it would show without that."""
        shown, monotonic = time.time() + self._ahead, time.monotonic()
        due = self._last[0] + monotonic - self._last[1]
        if shown < due - _SLACK_SECONDS:
            self._ahead += due - shown
            shown = due
        self._last = shown, monotonic
        return shown


now = OnwardClock().now
"""The gateway's own, read in its event loop."""


def record_id() -> str:
    """A new id, 32 hexadecimal digits: the time in milliseconds, then 80 random bits.

    Ids that grow stand side by side in their index: a commit of many records then writes one page of it instead of one for each.
    """
    return f"{int(now() * 1000):012x}{os.urandom(10).hex()}"
