"""Seconds in words, one way everywhere."""

from __future__ import annotations

from tunesmith.agent.document import Range


def duration(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return _two(*divmod(whole, 60), "min", "s")
    minutes = round(whole / 60)
    if minutes < 24 * 60:
        return _two(*divmod(minutes, 60), "h", "min")
    return _two(*divmod(round(whole / 3600), 24), "d", "h")


def duration_range(seconds: Range) -> str:
    """`2 min to 5 min`; one duration where both read the same."""
    low, high = duration(seconds.low), duration(seconds.high)
    return low if low == high else f"{low} to {high}"


def _two(first: int, rest: int, big: str, small: str) -> str:
    return f"{first} {big} {rest} {small}" if rest else f"{first} {big}"
