"""The answer stands in `<answer>` tags."""

import re

TAGGED = re.compile(r"<answer>((?:(?!<answer>).)*?)</answer>", re.DOTALL)


def marked(text: str) -> str | None:
    """What stands in the last `<answer>...</answer>`; None when there are no such tags, or nothing in them."""
    found = TAGGED.findall(text.rpartition("</think>")[2])
    return (found[-1].strip() or None) if found else None
