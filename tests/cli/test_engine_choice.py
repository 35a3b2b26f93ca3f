"""Which engine serves a base model, and what `tunesmith up` says of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tunesmith.cli.engines import describe, engine_kind
from tunesmith.errors import FailedPrecondition, InvalidArgument
from tunesmith.settings import Settings

SMALL, LARGE = "accounts/tunesmith/models/tiny-math-v1", "accounts/fireworks/models/qwen3-4b"


def test_one_base_model_may_have_an_engine_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TUNESMITH_ENGINE_OF", f'{{"{LARGE}": "vllm"}}')
    monkeypatch.setenv("TUNESMITH_VLLM_ARGUMENTS", "--max-model-len 8192 --dtype 'bfloat16'")
    settings = Settings.load(data_dir=str(tmp_path))
    assert settings.vllm_arguments == ("--max-model-len", "8192", "--dtype", "bfloat16")
    assert engine_kind(settings, LARGE) == "vllm"
    assert engine_kind(settings, SMALL) == "builtin"
    assert describe(Settings()) == "builtin"
    with pytest.raises(FailedPrecondition, match="vllm_python"):
        describe(settings)


@pytest.mark.parametrize(("name", "value"), [("ENGINE", "sglang"), ("ENGINE_OF", "vllm"), ("ENGINE_OF", '{"m": "x"}')])
def test_an_engine_that_is_none_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, value: str
) -> None:
    monkeypatch.setenv(f"TUNESMITH_{name}", value)
    with pytest.raises(InvalidArgument, match="not valid"):
        Settings.load(data_dir=str(tmp_path))


def test_up_refuses_to_start_without_the_vllm_that_it_was_told_to_use(tmp_path: Path) -> None:
    env = os.environ | {"HOME": str(tmp_path), "TUNESMITH_ENGINE": "vllm", "TUNESMITH_VLLM_PYTHON": sys.executable}
    argv = [sys.executable, "-m", "tunesmith", "up", "--port", "0", "--data-dir", str(tmp_path / "d")]
    ended = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 1
    assert f"(vllm_python = {sys.executable}) has no vLLM" in ended.stderr
    assert "pip install vllm" in ended.stderr
    assert "Traceback" not in ended.stderr
