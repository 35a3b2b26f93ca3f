"""Finding evaluations: in this process, in one of its own, and by entry point."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from eval_protocol.errors import DiscoveryError
from eval_protocol.evaluation.discovery import discover, load_entry, scan

EVALUATION = """
from eval_protocol.models import EvaluationRow
from eval_protocol.pytest import evaluation_test
from rewards_of_this_project import one

@evaluation_test(input_dataset=["rows.jsonl"], completion_params=[{"model": "m"}])
def FIRST(row: EvaluationRow) -> EvaluationRow:
    return one()

@evaluation_test(input_dataset=["rows.jsonl"], completion_params=[{"model": "m"}, {"model": "n"}])
async def SECOND(row: EvaluationRow) -> EvaluationRow:
    return one()
"""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    others = sys.modules.pop("evaluation", None)  # that of another test's project
    before, modules = list(sys.path), set(sys.modules)
    folder = tmp_path / "project"
    (folder / "pkg").mkdir(parents=True)
    (folder / "pkg" / "__init__.py").write_text("")
    (folder / "pkg" / "near.py").write_text("VALUE = 1\n")
    (folder / "pkg" / "inner.py").write_text(
        EVALUATION.replace("FIRST", "inner_eval").split(
            '@evaluation_test(input_dataset=["rows.jsonl"], completion_params=[{"model": "m"}, '
        )[0]
        + "\nfrom .near import VALUE\n"
    )
    (folder / "evaluation.py").write_text(EVALUATION.replace("FIRST", "first_eval").replace("SECOND", "second_eval"))
    (folder / "rewards_of_this_project.py").write_text("def one():\n    return 1.0\n")
    (folder / "uses.py").write_text("# evaluation_test\nfrom evaluation import first_eval\nprint('noise')\n")
    (folder / "unrelated.py").write_text("raise RuntimeError('must not be imported')\n")
    for skipped in (".venv", "node_modules", "build"):
        (folder / skipped).mkdir()
        (folder / skipped / "evaluation.py").write_text(
            "# evaluation_test\nraise RuntimeError('must not be imported')\n"
        )
    (folder / "env-1").mkdir()
    (folder / "env-1" / "pyvenv.cfg").write_text("")
    (folder / "env-1" / "e.py").write_text("# evaluation_test\nraise RuntimeError('must not be imported')\n")
    yield folder
    sys.path[:] = before
    for name in set(sys.modules) - modules:
        if str(folder) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
    if others is not None:
        sys.modules["evaluation"] = others


def test_evaluations_are_found_where_they_are_written(project: Path):
    tests = discover(project)
    assert [test.node_id for test in tests] == [
        "evaluation.py::first_eval",
        "evaluation.py::second_eval",
        "pkg/inner.py::inner_eval",
    ]
    assert tests[0].line == 6
    assert tests[0].module_path == project / "evaluation.py"
    assert tests[0].spec.parameters.input_dataset == ("rows.jsonl",)
    assert tests[0].parametrizations() == ["m"]
    assert tests[1].parametrizations() == ["m", "n"]


def test_a_file_that_does_not_import_is_reported_with_its_place(project: Path):
    (project / "broken.py").write_text("# evaluation_test\n\nimport no_such_module_at_all\n")
    (project / "syntax.py").write_text("# evaluation_test\ndef f(:\n")
    (project / "ends.py").write_text("# evaluation_test\nimport sys\nsys.exit(3)\n")
    found = scan(project)
    assert len(found.tests) == 3
    assert len(found.failures) == 3
    text = "\n".join(found.failures)
    assert (
        "broken.py does not import: ModuleNotFoundError: No module named 'no_such_module_at_all' (broken.py:3)" in text
    )
    assert "SyntaxError: invalid syntax (syntax.py:2)" in text
    assert "SystemExit: 3 (ends.py:3)" in text


def test_only_broken_files_are_an_error(tmp_path: Path):
    (tmp_path / "only_broken.py").write_text("# evaluation_test\n1/0\n")
    with pytest.raises(DiscoveryError, match=r"ZeroDivisionError: division by zero \(only_broken\.py:2\)"):
        discover(tmp_path)


def test_an_empty_project_has_none(tmp_path: Path):
    assert discover(tmp_path) == []


def test_entry_points(project: Path):
    test = load_entry("pkg/inner.py::inner_eval", project)
    assert test.file == "pkg/inner.py"
    for entry, says in [
        ("evaluation.py", "FILE::FUNCTION"),
        ("nowhere.py::f", "no file nowhere.py"),
        ("evaluation.py::third", "first_eval, second_eval"),
    ]:
        with pytest.raises(DiscoveryError, match=says):
            load_entry(entry, project)


def test_another_process_can_do_it(project: Path):
    done = subprocess.run(
        [sys.executable, "-m", "eval_protocol.evaluation.discovery", str(project)],
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    assert [test["node_id"] for test in found["tests"]][0] == "evaluation.py::first_eval"
    assert found["failures"] == []
    assert "noise" in done.stderr


def test_files_of_the_same_name_do_not_hide_each_other(tmp_path: Path, project: Path):
    (project / "second").mkdir()
    (project / "second" / "evaluation.py").write_text(
        (project / "evaluation.py").read_text().replace("first_eval", "other_eval").replace("second_eval", "more_eval")
    )
    names = [test.function_name for test in discover(project)]
    assert names == ["first_eval", "second_eval", "inner_eval", "other_eval", "more_eval"]
