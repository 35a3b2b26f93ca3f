"""One random model that vLLM's CPU attention takes, its adapters, and one engine process. Run by `make check-vllm`."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import transformers

from tests.contract.engine import EngineTarget
from tests.engines.makers import write_adapter, write_model

PYTHON = Path(os.environ.get("VLLM_PYTHON", ".tools/vllm/bin/python")).absolute()
BASE = "accounts/local/models/random"

torch.set_num_threads(1)
transformers.utils.logging.disable_progress_bar()


@pytest.fixture(scope="session")
def vllm_python() -> Path:
    """The Python that has vLLM; `scripts/check_vllm.sh` makes it."""
    assert PYTHON.exists(), f"{PYTHON} is missing: run make check-vllm"
    return PYTHON


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Like the built-in engine's, with heads of width 32: vLLM's kernels for the CPU have none of width 16."""
    config = transformers.Qwen3Config(
        vocab_size=263,
        hidden_size=128,
        intermediate_size=200,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        initializer_range=0.12,
        bos_token_id=None,
        eos_token_id=257,
    )
    return write_model(tmp_path_factory.mktemp("model"), config)


@pytest.fixture(scope="session")
def engine(vllm_python: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineTarget]:
    """A running engine process."""
    folder = tmp_path_factory.mktemp("engine")
    narrow = transformers.Qwen3Config(
        vocab_size=150,
        hidden_size=32,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=16,
    )
    adapters = write_adapter(folder / "v0", model, seed=0), write_adapter(folder / "v3", model, seed=3, r=5)
    misfit = write_adapter(folder / "misfit", write_model(folder / "other", narrow))
    with vllm_process(vllm_python, model, folder) as (url, _):
        yield EngineTarget(url, "secret", BASE, adapters, misfit)


@contextlib.contextmanager
def vllm_process(python: Path, model: Path, folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A running engine; yields its URL and the process. The key is `secret`."""
    folder.mkdir(exist_ok=True)
    (folder / "key").write_text("secret\n")
    port_file = folder / "port"
    command = [sys.executable, "-m", "tunesmith.engines.vllm", "--model", str(model), "--name", BASE, "--port", "0"]
    command += ["--key-file", str(folder / "key"), "--port-file", str(port_file), "--threads", "1"]
    command += ["--vllm-python", str(python), "--vllm-log", str(folder / "vllm.log"), "--max-lora-rank", "8"]
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        while not port_file.exists():
            assert process.poll() is None, (folder / "log").read_text()
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port_file.read_text().strip()}", process
    finally:
        if process.poll() is None:
            process.terminate()
            assert process.wait(60) == 0, (folder / "log").read_text()
