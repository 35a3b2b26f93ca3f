r"""Which files of a project stay at home: the rules of `.gitignore`, with negation and nested files.

Implements the pattern format of gitignore(5): `#` comments, `!` negation, a trailing `/` for folders only, a `/` elsewhere
anchors the pattern to its file's folder, `*` and `?` stop at `/`, `**` crosses it, `[...]` classes, `\` escapes. The last
matching rule wins, rules of deeper folders come later, and nothing below an ignored folder comes back.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Rule:
    """One pattern line, relative to the folder `base` ("" = project root, else "a/b")."""

    expression: re.Pattern[str]
    negated: bool
    only_folders: bool
    base: str

    def matches(self, path: str, is_folder: bool) -> bool:
        """Whether the rule speaks about `path` (relative to the project root, with `/`)."""
        if self.only_folders and not is_folder:
            return False
        if self.base:
            if not path.startswith(f"{self.base}/"):
                return False
            path = path[len(self.base) + 1 :]
        return self.expression.fullmatch(path) is not None


def parse_rule(line: str, base: str = "") -> Rule | None:
    """Read one line of an ignore file; None for comments, blank lines and patterns that git would not accept."""
    line = line.rstrip("\r\n")
    while line.endswith(" ") and not line.endswith("\\ "):
        line = line[:-1]
    if not line or line.startswith("#"):
        return None
    negated = line.startswith("!")
    line = line[1:] if negated else line
    only_folders = line.endswith("/")
    line = line.rstrip("/") if only_folders else line
    if not line:
        return None
    anchored = "/" in line
    line = line.removeprefix("/")
    prefix = "" if anchored else "(?:.*/)?"
    try:
        expression = re.compile(prefix + _translate(line), re.DOTALL)
    except re.error:
        return None
    return Rule(expression, negated, only_folders, base)


def read_rules(file: Path, base: str) -> list[Rule]:
    """The rules of one ignore file; an absent file has none."""
    try:
        lines = file.read_text("utf-8", "replace").splitlines()
    except (FileNotFoundError, IsADirectoryError):
        return []
    return [rule for line in lines if (rule := parse_rule(line, base))]


def is_ignored(rules: list[Rule], path: str, is_folder: bool) -> bool:
    """What the last matching rule says about `path`. Its parents are the caller's: an ignored folder is not entered."""
    for rule in reversed(rules):
        if rule.matches(path, is_folder):
            return not rule.negated
    return False


def _translate(pattern: str) -> str:
    """A glob as a regular expression."""
    out: list[str] = []
    at = 0
    while at < len(pattern):
        rest = pattern[at:]
        if rest.startswith("**/") and (at == 0 or pattern[at - 1] == "/"):
            out.append("(?:.*/)?")
            at += 3
        elif rest == "**" and (at == 0 or pattern[at - 1] == "/"):
            out.append(".+")
            at += 2
        elif rest[0] == "*":
            out.append("[^/]*")
            at += len(rest) - len(rest.lstrip("*"))
        elif rest[0] == "?":
            out.append("[^/]")
            at += 1
        elif rest[0] == "[" and (found := _character_class(rest)):
            out.append(found[0])
            at += found[1]
        elif rest[0] == "\\" and len(rest) > 1:
            out.append(re.escape(rest[1]))
            at += 2
        else:
            out.append(re.escape(rest[0]))
            at += 1
    return "".join(out)


def _character_class(rest: str) -> tuple[str, int] | None:
    """`[a-z]`, `[!x]`, `[]a]` as a regular expression and its length; None when the bracket never closes."""
    start = 2 if rest[1:2] in {"!", "^"} else 1
    end = rest.find("]", start + 1)
    if end < 0:
        return None
    inner = rest[start:end].replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]").replace("^", "\\^")
    inner = inner.replace("&&", "&\\&").replace("||", "|\\|").replace("~~", "~\\~")
    return f"(?!/)[{'^' if start == 2 else ''}{inner}]", end + 1
