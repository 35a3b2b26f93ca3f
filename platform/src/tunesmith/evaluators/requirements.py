"""What a project's requirements.txt may ask for: packages by name, from the platform's own index, as wheels.

Options that name another index, and requirements that are URLs, repositories or folders, are refused with the line: they would have the
build fetch from, or run code of, places that nobody here chose. Judged before uv sees the file; uv is then told to take wheels only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tunesmith.errors import InvalidArgument

_INCLUDE = re.compile(r"(-r|--requirement|-c|--constraint)(\s+|=|(?<=-[rc]))(?P<file>\S+)")
_HARMLESS = re.compile(r"--(pre|prefer-binary|require-hashes|only-binary(=|\s+).*)")
_PLACES = {
    "-i": "names another package index",
    "--index-url": "names another package index",
    "--extra-index-url": "names another package index",
    "--default-index": "names another package index",
    "--index": "names another package index",
    "-f": "names a place to look for packages",
    "--find-links": "names a place to look for packages",
    "--no-index": "turns the package index off",
    "--trusted-host": "turns the check of certificates off",
    "-e": "is a folder to be built",
    "--editable": "is a folder to be built",
    "--no-binary": "asks for packages that are built here",
}
_URL = re.compile(r"(?P<kind>(git|hg|svn|bzr)\+|https?:|ftp:|file:|ssh:|//)", re.IGNORECASE)
_FOLDER = re.compile(r"(\.{1,2}($|[/\\])|[~/\\]|[^\s@;\[<>=!~]+[/\\])")
_WHEEL = re.compile(r"(\./)?[\w./+-]+\.whl(\s*;.*|\s*--hash.*)?")
_VARIABLE = re.compile(r"\$\{[A-Z0-9_]+\}")
_MOST_FILES = 50


def judge(source: Path) -> None:
    """Look through requirements.txt and what it includes. Raises InvalidArgument with file, line, and what to write instead."""
    for file, number, text in _lines(source / "requirements.txt", source.resolve(), set()):
        problem = _problem(text, source)
        if problem:
            raise InvalidArgument(
                f"Line {number} of {file}, {text[:200]!r}, {problem}. Evaluators are built from wheels of the platform's own index: "
                "name the package and a version. A wheel that is in the upload may be named by its path."
            )


def _problem(text: str, source: Path) -> str | None:
    if _VARIABLE.search(text):
        return "holds a variable of the environment"
    if text.startswith("-"):
        option = re.split(r"[\s=]", text, maxsplit=1)[0]
        if not option.startswith("--"):
            option = option[:2]
        if _HARMLESS.fullmatch(text):
            return None
        return _PLACES.get(option, f"has the option {option}, which is not taken")
    if _WHEEL.fullmatch(text) and "://" not in text:
        return None if _inside(text.split(";")[0].split(" ")[0], source) else "names a wheel that is not in the upload"
    target = text.partition("@")[2].strip() if re.match(r"[\w.-]+\s*(\[[^\]]*\])?\s*@", text) else text
    if _URL.match(target):
        return "is fetched from a repository" if "+" in target.split(":")[0] else "is fetched from an address"
    return "is a folder or a file to be built" if _FOLDER.match(target) else None


def _inside(path: str, source: Path) -> bool:
    file = (source / path).resolve()
    return file.is_relative_to(source.resolve()) and file.is_file()


def _lines(file: Path, root: Path, seen: set[Path]) -> Iterator[tuple[str, int, str]]:
    """(file, number, text) of each requirement or option, in included files, too. Raises InvalidArgument."""
    path = file.resolve()
    if path in seen:
        return
    seen.add(path)
    if len(seen) > _MOST_FILES:
        raise InvalidArgument(f"requirements.txt includes more than {_MOST_FILES} files.")
    name = str(file.relative_to(root)) if file.is_relative_to(root) else file.name
    if not path.is_relative_to(root):
        raise InvalidArgument(f"requirements.txt includes {name}, which lies outside the upload.")
    if not path.is_file():
        raise InvalidArgument(f"requirements.txt includes {name}, which is not in the upload.")
    joined, begun = "", 0
    for number, raw in enumerate(path.read_text(errors="replace").splitlines(), 1):
        begun = begun or number
        joined += raw
        if joined.endswith("\\"):
            joined = joined[:-1]
            continue
        text = re.sub(r"(^|\s)#.*", "", joined).strip()
        start, joined, begun = begun, "", 0
        if not text:
            continue
        if include := _INCLUDE.fullmatch(text):
            if _URL.match(include["file"]):
                raise InvalidArgument(f"Line {start} of {name}, {text[:200]!r}, includes a file from an address.")
            yield from _lines(root / file.parent.resolve().relative_to(root) / include["file"], root, seen)
        else:
            yield name, start, text
