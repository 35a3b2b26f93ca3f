"""Builds with real uv and real processes: what comes out, and the reason when nothing does."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
from pathlib import Path

import pytest
from tunesmith.errors import Internal, InvalidArgument
from tunesmith.evaluators import protection
from tunesmith.evaluators.build import BuildTimedOut, Manifest, build
from tunesmith.evaluators.environment import Toolchain, overrides

GOOD = {
    "requirements.txt": "# what it needs\neval-protocol==0.2.7\n",
    "evaluation.py": "print('imported')\ndef test_it(row): return row\n",
}


def log(request) -> str:
    return request.log_path.read_text()


async def test_a_build_holds_source_environment_and_manifest(request_for, settings):
    request = request_for(GOOD)
    manifest = await build(request, settings)
    assert manifest == Manifest.read(request.target)
    assert manifest.described.pop("sandbox") == protection.chosen("auto").as_json()
    assert manifest.described == {
        "name": "test_it",
        "mode": "pointwise",
        "file": "evaluation.py",
        "line": 1,
        "timeout": 60,
    }
    assert manifest.packages == ["eval-protocol==0.3.33+tunesmith", "tunesmith-eval==0.1.0"]
    assert (request.target / "src" / "evaluation.py").read_text() == GOOD["evaluation.py"]
    found = subprocess.run(
        [request.target / "venv" / "bin" / "python", "-c", "import eval_protocol; print(eval_protocol.__file__)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.startswith(str(request.target / "venv"))  # the environment survived being renamed into place
    assert "installing requirements.txt" in log(request)
    assert "imported" in log(request)
    assert protection.describe("auto") in log(request)
    assert [path.name for path in request.work.iterdir()] == ["cache"]


async def test_building_again_is_harmless_and_a_new_upload_replaces(request_for, settings):
    request = request_for(GOOD)
    first = await build(request, settings)
    assert await build(request, settings) == first
    request = request_for({**GOOD, "evaluation.py": "def test_it(row): return 2\n"})
    second = await build(request, settings)
    assert second.archive_sha256 != first.archive_sha256
    assert "return 2" in (request.target / "src" / "evaluation.py").read_text()


BAD = {
    "no-requirements": ({"evaluation.py": "def test_it(row): ..."}, "has no requirements.txt in its top folder"),
    "no-entry-file": ({"requirements.txt": "", "other.py": ""}, "names evaluation.py, which is not in the upload. Python files in it: other.py"),
    "syntax": ({"requirements.txt": "", "evaluation.py": "def test_it(:\n"}, "cannot be loaded: SyntaxError"),
    "import": ({"requirements.txt": "", "evaluation.py": "import not_there\n"}, "No module named 'not_there'"),
    "no-function": ({"requirements.txt": "", "evaluation.py": "x = 1\n"}, "no attribute 'test_it'"),
    "crash": ({"requirements.txt": "", "evaluation.py": "import os; print('bye', flush=True); os._exit(3)\n"}, "exit status 3\nbye"),
    "bad-requirement": ({"requirements.txt": "eval-protocol ==\n", "evaluation.py": ""}, "Installing requirements.txt failed"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
async def test_the_reason_of_a_failed_build(request_for, settings, name):
    files, reason = BAD[name]
    request = request_for(files)
    with pytest.raises(InvalidArgument) as caught:
        await build(request, settings)
    assert reason in caught.value.message
    assert not request.target.exists()
    assert not [path for path in request.work.iterdir() if path.name != "cache"]


async def test_a_hanging_import_is_stopped_and_leaves_no_process(request_for, settings):
    files = {
        **GOOD,
        "evaluation.py": "import subprocess, time\nsubprocess.Popen(['sleep', '7.1357'])\ntime.sleep(600)\n",
    }
    said = ""
    for seconds in (4.0, 30.0, 120.0):  # on a busy machine the installation alone takes longer than the first
        limited = settings.model_copy(update={"build_timeout_seconds": seconds})
        with pytest.raises(BuildTimedOut) as caught:
            await build(request_for(files), limited)
        said = caught.value.message
        if said.startswith("Importing"):
            break
    assert re.match(r"Importing evaluation.py::test_it did not end within \d+ seconds and was stopped\.", said)
    assert not running("sleep 7.1357")


async def test_a_cancelled_build_leaves_nothing(request_for, settings):
    request = request_for({**GOOD, "evaluation.py": "import time\nprint('in', flush=True)\ntime.sleep(33.1)\n"})
    task = asyncio.create_task(build(request, settings))
    while not request.log_path.exists() or "in\n" not in log(request):
        await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not request.target.exists()
    assert not running(f"{request.work}/demo-1/venv/bin/python")


async def test_the_module_may_read_secrets_and_a_key_while_imported(request_for, settings):
    files = {
        **GOOD,
        "evaluation.py": "import os\nos.environ['JUDGE'], os.environ['FIREWORKS_API_KEY']\ndef test_it(row): ...\n",
    }
    manifest = await build(request_for(files, secrets={"JUDGE": "s3cret-value"}), settings)
    assert manifest.described["name"] == "test_it"


async def test_missing_wheels_are_our_fault_and_say_what_to_run(request_for, settings, tmp_path):
    with pytest.raises(Internal, match=r"build_sdk_wheels\.py"):
        await build(request_for(GOOD, wheels=tmp_path / "none"), settings)


def test_overrides_keep_the_extras_also_of_included_files(wheels, tmp_path):
    (tmp_path / "requirements.txt").write_text(
        "-r more.txt\n-r ../outside.txt\nEval_Protocol[svgbench, LangFuse]>=0.3 # why\n"
    )
    (tmp_path / "more.txt").write_text("tunesmith-eval[mcp]\n-r requirements.txt\n")
    (tmp_path.parent / "outside.txt").write_text("eval-protocol[outside]\n")
    lines = overrides(Toolchain.find(wheels), tmp_path).splitlines()
    assert lines[0].startswith("eval-protocol[langfuse,mcp,svgbench] @ file:///")
    assert lines[0].endswith("eval_protocol-0.3.33%2Btunesmith-py3-none-any.whl")
    assert lines[1].startswith("tunesmith-eval[langfuse,mcp,svgbench] @ file:///")


def running(words: str) -> bool:
    for process in Path("/proc").iterdir():
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (OSError, NotADirectoryError):
            continue
        if words in command and process.name != str(os.getpid()):
            return True
    return False
