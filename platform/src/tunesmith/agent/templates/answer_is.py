"""The answer stands behind "The answer is", to the end of its sentence."""

import re

SAID = re.compile(r"\banswer(?:\s+is|\s*:)[ \t]*:?[ \t]*(\S[^\n]*)", re.IGNORECASE)
SENTENCE_END = re.compile(r"[.!?](?=\s)")


def marked(text: str) -> str | None:
    """What stands behind the last "answer is" or "answer:"; None when there is neither."""
    found = SAID.findall(text.rpartition("</think>")[2])
    return (SENTENCE_END.split(found[-1])[0].strip(" \t*.") or None) if found else None
