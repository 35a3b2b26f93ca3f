"""One of a few known labels."""

import re


def normal(text: str) -> str:
    """A label without what does not count: upper case, white space, quotes and full stops around it."""
    return " ".join(text.split()).strip(" .\"'`*").casefold()


def value_of(text: str, labels: list[str]) -> str | None:
    """The label that a text is, or else the only one that it names; None when it names none, or several.

    Labels of one or two characters are not looked for inside a text: they would be found in any.
    """
    known = {normal(label): label for label in labels}
    if normal(text) in known:
        return known[normal(text)]
    if any(len(label) < 3 for label in known):
        return None
    longest_first = sorted(known, key=len, reverse=True)
    pattern = "|".join(rf"(?<!\w){re.escape(label)}(?!\w)" for label in longest_first)
    named = set(re.findall(pattern, " ".join(text.split()).casefold()))
    return known[named.pop()] if len(named) == 1 else None


def same(answer: str, gold: str) -> bool:
    """Whether two labels are one."""
    return answer == gold
