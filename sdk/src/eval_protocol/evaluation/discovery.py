"""Finding evaluations in a project.

Files are imported, because only Python knows what a decorator makes of a function; only files that mention `evaluation_test` are, and one
that does not import is reported, not fatal. `python -m eval_protocol.evaluation.discovery ROOT` prints the result as JSON, for callers
that do not want foreign code in their own process.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from eval_protocol.errors import DiscoveryError, EvalProtocolError
from eval_protocol.evaluation.decorator import spec_of
from eval_protocol.evaluation.experiments import experiments
from eval_protocol.evaluation.spec import EvaluationSpec

SKIPPED_FOLDERS = frozenset({"node_modules", "site-packages", "__pycache__", "build", "dist", "venv", "env"})
SKIPPED_FILES = frozenset({"setup.py", "versioneer.py", "conf.py", "conftest.py", "__main__.py"})
MARK = b"evaluation_test"


@dataclass(frozen=True)
class DiscoveredTest:
    """One decorated function."""

    module_path: Path
    """The file, absolute."""
    function_name: str
    file: str
    """The file, relative to the root."""
    line: int
    node_id: str
    """`file::function`, the entry point of an uploaded evaluator."""
    spec: EvaluationSpec

    def parametrizations(self) -> list[str]:
        """What tells the evaluation's parametrizations apart, data sets aside (in training the rows come from outside)."""
        seen = dict.fromkeys(
            json.dumps([experiment.completion_params, experiment.kwargs], default=repr, sort_keys=True)
            for experiment in experiments(self.spec)
        )
        labels = {
            json.dumps([e.completion_params, e.kwargs], default=repr, sort_keys=True): e.label or self.function_name
            for e in experiments(self.spec)
        }
        return [labels[key] for key in seen]


@dataclass(frozen=True)
class Discovery:
    """What a project holds."""

    tests: list[DiscoveredTest]
    failures: list[str]
    """Files that do not import: `file: Error: text (file:line)`."""


def discover(root: Path | str) -> list[DiscoveredTest]:
    """The evaluations under `root`, sorted by file and line.

    Raises:
        DiscoveryError: there is none, and some file that may hold one does not import.
    """
    found = scan(root)
    if not found.tests and found.failures:
        raise DiscoveryError("No evaluation could be loaded: " + "; ".join(found.failures))
    return found.tests


def scan(root: Path | str) -> Discovery:
    """The evaluations under `root`, and the files that do not import."""
    root = Path(root).resolve()
    tests: list[DiscoveredTest] = []
    failures: list[str] = []
    for path in _candidates(root):
        try:
            tests += tests_of(import_file(path, root), path, root)
        except EvalProtocolError as error:
            failures.append(str(error))
    unique = {(test.module_path, test.function_name): test for test in tests}
    return Discovery(sorted(unique.values(), key=lambda test: (test.file, test.line)), failures)


def scan_file(path: Path, root: Path | str) -> Discovery:
    """The evaluations of one file, and nothing else imported.

    Raises:
        DiscoveryError: the file does not import.
    """
    path, root = path.resolve(), Path(root).resolve()
    tests = tests_of(import_file(path, root), path, root)
    return Discovery(sorted(tests, key=lambda test: test.line), [])


def load_entry(entry: str, root: Path | str | None = None) -> DiscoveredTest:
    """The evaluation that an entry point `FILE::FUNC` names.

    Args:
        root: what FILE is relative to; None = the working directory.

    Raises:
        DiscoveryError: no such file or function, or the file does not import (the message holds the error and its place).
    """
    root = Path(root or ".").resolve()
    name, separator, function = entry.partition("::")
    if not separator or not function:
        raise DiscoveryError(f"The entry point {entry!r} must be FILE::FUNCTION, for example evaluation.py::my_eval.")
    path = (root / name).resolve()
    if not path.is_file():
        raise DiscoveryError(f"There is no file {name} in {root}.")
    tests = tests_of(import_file(path, root), path, root)
    for test in tests:
        if test.function_name == function.partition("[")[0]:
            return test
    known = ", ".join(test.function_name for test in tests) or "none"
    raise DiscoveryError(f"{name} has no evaluation {function!r} (functions with @evaluation_test there: {known}).")


def tests_of(module: ModuleType, path: Path, root: Path) -> list[DiscoveredTest]:
    """The evaluations that a module itself defines."""
    file = os.path.relpath(path, root)
    tests = []
    for name, value in vars(module).items():
        spec = getattr(value, "__ep_spec__", None)
        if isinstance(spec, EvaluationSpec) and spec.file.resolve() == path:
            tests.append(DiscoveredTest(path, name, file, spec.line, f"{file}::{name}", spec_of(value)))
    return tests


def import_file(path: Path, root: Path) -> ModuleType:
    """Import a file under the name it would have in its project, so that its neighbours and packages are found.

    Raises:
        DiscoveryError: with the error's last line and its place, file and line.
    """
    name, folder = _module_name(path)
    known = sys.modules.get(name)
    if known is not None:
        if Path(getattr(known, "__file__", None) or "").resolve() == path:
            return known
        name = f"{name}_{abs(hash(str(path))):x}"
    _prefer([folder, root])
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise DiscoveryError(f"{path} is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        sys.modules.pop(name, None)
        raise DiscoveryError(_import_failure(path, root, error)) from error
    return module


def _import_failure(path: Path, root: Path, error: BaseException) -> str:
    last = traceback.format_exception_only(error)[-1].strip()
    place = f"{os.path.relpath(path, root)}"
    if isinstance(error, SyntaxError) and error.lineno:
        place = f"{os.path.basename(error.filename or str(path))}:{error.lineno}"
    else:
        inside = [frame for frame in traceback.extract_tb(error.__traceback__) if str(root) in frame.filename]
        if inside:
            place = f"{os.path.relpath(inside[-1].filename, root)}:{inside[-1].lineno}"
    return f"{os.path.relpath(path, root)} does not import: {last} ({place})"


def _module_name(path: Path) -> tuple[str, Path]:
    """Dotted name and the folder that must be importable for it: above the topmost folder with an `__init__.py`."""
    parts, folder = [path.stem], path.parent
    while (folder / "__init__.py").exists():
        parts.insert(0, folder.name)
        folder = folder.parent
    return ".".join(parts), folder


def _prefer(folders: list[Path]) -> None:
    """Put folders in front of sys.path, where they stay: evaluators import their neighbours when they run, too."""
    for folder in reversed(folders):
        text = str(folder)
        if text in sys.path:
            sys.path.remove(text)
        sys.path.insert(0, text)


def _candidates(root: Path) -> Iterator[Path]:
    if root.is_file():
        yield root
        return
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(
            name
            for name in folders
            if name not in SKIPPED_FOLDERS
            and not name.startswith(".")
            and not os.path.exists(os.path.join(folder, name, "pyvenv.cfg"))
        )
        for name in sorted(files):
            path = Path(folder, name)
            wanted = name.endswith(".py") and name not in SKIPPED_FILES and not name.startswith((".", "test_discovery"))
            if wanted and MARK in path.read_bytes():
                yield path


def _as_json(test: DiscoveredTest) -> dict[str, Any]:
    return {
        "module_path": str(test.module_path),
        "function_name": test.function_name,
        "file": test.file,
        "line": test.line,
        "node_id": test.node_id,
        "datasets": list(test.spec.parameters.input_dataset),
        "parametrizations": test.parametrizations(),
    }


def main(arguments: list[str]) -> int:
    """Print `{"tests": [...], "failures": [...]}`; what the project prints while it is imported goes to stderr."""
    with contextlib.redirect_stdout(sys.stderr):
        found = scan(arguments[0] if arguments else ".")
    print(json.dumps({"tests": [_as_json(test) for test in found.tests], "failures": found.failures}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
