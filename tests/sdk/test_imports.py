"""What an import costs and touches, and what the package refuses to live with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("aiohttp", "tqdm", "sqlite3", "pytest", "click", "rich", "openai", "urllib.request")


def modules_after(code: str) -> set[str]:
    script = f"{code}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_package_alone_brings_nothing_along():
    found = modules_after("import eval_protocol")
    assert not found & {*HEAVY, "pydantic", "asyncio", "logging"}
    assert {name for name in found if name.startswith("eval_protocol")} == {"eval_protocol"}


def test_what_an_evaluation_file_imports_stays_light():
    found = modules_after(
        "from eval_protocol.models import EvaluateResult, EvaluationRow\n"
        "from eval_protocol.pytest import SingleTurnRolloutProcessor, evaluation_test"
    )
    assert not found & set(HEAVY)


def test_the_plugin_brings_only_pytest_along():
    plain = modules_after("import pytest")
    with_plugin = modules_after("import pytest, eval_protocol.pytest.plugin")
    assert {name for name in with_plugin - plain if not name.startswith("eval_protocol")} == set()
    assert {name for name in with_plugin if name.startswith("eval_protocol")} == {
        "eval_protocol",
        "eval_protocol.pytest",
        "eval_protocol.pytest.plugin",
    }


@pytest.mark.parametrize(
    ("code", "limit"),
    [("import eval_protocol", 0.15), ("from eval_protocol.pytest import evaluation_test", 0.3)],
)
def test_cpu_seconds_of_an_import(code: str, limit: float):
    """Best of three in process CPU time, which other load hardly touches."""
    script = f"import time; t = time.process_time(); {code}; print(time.process_time() - t)"

    def once() -> float:
        return float(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout)

    assert min(once() for _ in range(3)) < limit


def test_importing_reads_no_dotenv_and_opens_no_socket(tmp_path: Path):
    (tmp_path / ".env").write_text("FROM_DOTENV=1\n")
    script = (
        "import os, sys\n"
        "events = []\n"
        "sys.addaudithook(lambda name, args: events.append((name, args)))\n"
        "import eval_protocol.pytest, eval_protocol.models\n"
        "from eval_protocol.pytest import evaluation_test, SingleTurnRolloutProcessor\n"
        "import eval_protocol.evaluation.runner\n"
        "assert not [e for e in events if e[0].startswith('socket.connect')], events\n"
        "assert not [e for e in events if e[0] == 'open' and str(e[1][0]).endswith('.env')]\n"
        "assert 'FROM_DOTENV' not in os.environ\n"
        "import logging\n"
        "assert not logging.getLogger().handlers\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)


def test_the_published_package_beside_us_is_refused(tmp_path: Path):
    def import_with(folder: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / folder).mkdir()
        script = f"import sys; sys.path.append({str(tmp_path)!r}); import eval_protocol"
        return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    ours = import_with("eval_protocol-0.3.33+tunesmith.dist-info")
    assert ours.returncode == 0, ours.stderr
    other = import_with("eval_protocol-0.3.33.dist-info")
    assert other.returncode == 1
    assert "own the same import name" in other.stderr
    assert "pip uninstall eval-protocol" in other.stderr


def test_public_names():
    import eval_protocol
    import eval_protocol.pytest

    for module in (eval_protocol, eval_protocol.pytest):
        for name in module.__all__:
            assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        eval_protocol.no_such_name  # noqa: B018
