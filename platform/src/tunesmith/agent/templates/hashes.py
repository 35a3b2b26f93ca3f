"""The answer stands behind `####`, to the end of its line."""

import re

HASHED = re.compile(r"####[ \t]*(\S[^\n]*)")


def marked(text: str) -> str | None:
    """What stands behind the last `####`; None when there is none."""
    found = HASHED.findall(text.rpartition("</think>")[2])
    return found[-1].strip() if found else None
