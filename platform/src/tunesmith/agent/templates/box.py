r"""The answer stands in `\boxed{}`, as mathematicians write it."""

import re

FRACTION = re.compile(r"\\[dt]?frac\{([^{}]*)\}\{([^{}]*)\}")
TEXT = re.compile(r"\\(?:text|mathrm|mbox)\{([^{}]*)\}")
SPACING = re.compile(r"\\[,!;: ]")


def marked(text: str) -> str | None:
    r"""What stands in the last `\boxed{}`, with fractions, text and signs written plainly; None when there is no whole box."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    start += len("\\boxed{")
    depth = 1
    for end in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        if depth == 0:
            inside = SPACING.sub("", TEXT.sub(r" \1", FRACTION.sub(r"\1/\2", text[start:end])))
            return inside.replace("\\$", "$").replace("\\%", "%").strip() or None
    return None
