"""Which evaluator a command means, and the ids that are derived from it."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from eval_protocol.cli.session import Printer
from eval_protocol.errors import DiscoveryError

if TYPE_CHECKING:
    from eval_protocol.evaluation.discovery import DiscoveredTest, Discovery

MAX_ID_LENGTH = 63


@dataclass(frozen=True)
class LocalTest:
    """An evaluator of this project."""

    found: DiscoveredTest

    @property
    def function(self) -> str:
        """Name of the decorated function."""
        return self.found.function_name

    @property
    def entry_point(self) -> str:
        """`path/to/file.py::function`, relative to the project root."""
        return self.found.node_id

    @property
    def file(self) -> str:
        """`path/to/file.py`, relative to the project root."""
        return self.found.file

    @property
    def label(self) -> str:
        """`gsm8k_example - evaluation.py:32`."""
        return f"{self.function} - {self.file}:{self.found.line}"


def select_test(
    root: Path,
    say: Printer,
    *,
    entry: str | None = None,
    evaluator: str | None = None,
    missing_in: str | None = None,
    assume_yes: bool = False,
    verb: str = "Upload",
) -> LocalTest | None:
    """Find the evaluators of the project and pick one.

    Args:
        root: project folder.
        entry: `file.py` or `file.py::function`, as given with `--entry`; absolute, or relative to `root`. Only that file is imported.
        evaluator: id given with `--evaluator`; a test that it does not name is not picked, and None is returned silently.
        missing_in: account of a platform that is known to have no such evaluator: then only a test of that id will do.
        assume_yes: ask nothing.
        verb: what will be done with it, for the question.

    Returns None when nothing was picked (said so). Raises DiscoveryError when there is no evaluator, or none can be picked
    without asking.
    """
    if entry:
        tests = _of_entry(root, entry, say)
    else:
        say("Scanning for evaluation tests...")
        tests = _discover(lambda: _scan(root), say)
    if evaluator:
        return _named(tests, evaluator, missing_in)
    if not tests:
        raise DiscoveryError(
            f"No evaluation tests found in {root}. An evaluator is a function with the @evaluation_test decorator; "
            "run the command in the folder that holds it."
        )
    if len(tests) == 1:
        say()
        say(f"Found 1 test: {tests[0].label}")
        return tests[0] if assume_yes or not _can_ask() or _confirm(f"{verb} this test?") else None
    listing = "".join(f"\n   {evaluator_id(test)}  ({test.entry_point})" for test in tests)
    if assume_yes or not _can_ask():
        raise DiscoveryError(
            f"Multiple evaluation tests found, and nobody can be asked which one:{listing}\n"
            "Name it: --evaluator ID for create rft, --entry FILE::FUNC for the other commands."
        )
    return _ask(tests, verb)


def normalize_evaluator_id(text: str) -> str:
    """A resource id: lower case, a-z, 0-9 and single hyphens, a letter first, at most 63 characters."""
    identity = re.sub(r"[^a-z0-9-]", "", text.lower().replace("_", "-"))
    identity = re.sub(r"-+", "-", identity).strip("-")
    if not identity[:1].isalpha():
        identity = f"eval-{identity}".rstrip("-")
    return identity[:MAX_ID_LENGTH].rstrip("-")


def evaluator_id(test: LocalTest) -> str:
    """`evaluation.py::gsm8k_example` -> `evaluation-gsm8k-example`."""
    return normalize_evaluator_id(f"{Path(test.file).stem}-{test.function}")


def dataset_id(evaluator: str, now: datetime, kind: str = "dataset") -> str:
    """`evaluation-gsm8k-example-dataset-20251110011054`, at most 63 characters."""
    suffix = f"-{kind}-{now:%Y%m%d%H%M%S}"
    base = normalize_evaluator_id(evaluator.rsplit("/", 1)[-1])
    return base[: MAX_ID_LENGTH - len(suffix)].rstrip("-") + suffix


def entry_file(root: Path, entry: str) -> Path:
    """The file that `--entry` names, absolute. Raises DiscoveryError when there is none."""
    path = (root / Path(entry.partition("::")[0]).expanduser()).resolve()
    if not path.is_file():
        raise DiscoveryError(f"There is no file {path} (from --entry {entry}). Give FILE or FILE::FUNC.")
    return path


def _scan(root: Path) -> Discovery:
    from eval_protocol.evaluation.discovery import scan

    return scan(root)


def _discover(look: Callable[[], Discovery], say: Printer) -> list[LocalTest]:
    """Import the project's evaluators, leaving no bytecode behind and keeping what they print off stdout.

    Raises DiscoveryError when there is none and a file that may hold one does not import.
    """
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        with redirect_stdout(sys.stderr):
            found = look()
    finally:
        sys.dont_write_bytecode = before
    if not found.tests and found.failures:
        raise DiscoveryError("No evaluation could be loaded: " + "; ".join(found.failures))
    for failure in found.failures:
        say(f"Warning: {failure}", err=True)
    return [LocalTest(test) for test in found.tests]


def _named(tests: list[LocalTest], evaluator: str, missing_in: str | None) -> LocalTest | None:
    """The test of that id; else the only test, where the platform has an evaluator of that id (it may be uploaded under another)."""
    identity = evaluator.rsplit("/", 1)[-1]
    for test in tests:
        if evaluator_id(test) == identity:
            return test
    if missing_in is None:
        return tests[0] if len(tests) == 1 else None
    if not tests:
        raise DiscoveryError(
            f"Evaluator '{evaluator}' not found in account {missing_in}, and this folder has no test of that name. "
            "Run the command in the evaluator's project, or give the id of one that was uploaded."
        )
    listing = "".join(f"\n   {evaluator_id(test)}" for test in tests)
    raise DiscoveryError(
        f"Evaluator '{evaluator}' not found in account {missing_in}, and no test here has that id. Evaluators here:{listing}\n"
        f"Give one of these with --evaluator, or upload one under your own id first: ep upload --entry FILE::FUNC --id {identity}"
    )


def _of_entry(root: Path, entry: str, say: Printer) -> list[LocalTest]:
    """The evaluators that `--entry` names, of its file alone."""
    from eval_protocol.evaluation.discovery import scan_file

    path, function = entry_file(root, entry), entry.partition("::")[2].partition("[")[0]
    if not path.is_relative_to(root.resolve()):
        raise DiscoveryError(f"{path} lies outside the project {root}. Run the command in the project that holds it.")
    tests = _discover(lambda: scan_file(path, root), say)
    found = [test for test in tests if function in ("", test.function)]
    if not found:
        known = ", ".join(test.entry_point for test in tests) or "none"
        raise DiscoveryError(f"There is no evaluator {entry}. Evaluators of this file: {known}.")
    return found


def _can_ask() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def _confirm(question: str) -> bool:
    import questionary

    return bool(questionary.confirm(question, default=True).unsafe_ask())


def _ask(tests: list[LocalTest], verb: str) -> LocalTest:
    import questionary

    choices = [questionary.Choice(test.label, value=test) for test in tests]
    return questionary.select(f"{verb} which test?", choices=choices).unsafe_ask()
