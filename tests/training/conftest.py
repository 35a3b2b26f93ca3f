"""Fixtures of the learner's tests: one thread, and tiny random base models made once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers.utils.logging import disable_progress_bar

from tests.training.makers import write_base


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)
    disable_progress_bar()


@pytest.fixture(scope="session")
def qwen3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grouped-query attention, qk-norm, tied embeddings."""
    return write_base(tmp_path_factory.mktemp("qwen3"))


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grouped-query attention, untied head, another width."""
    return write_base(tmp_path_factory.mktemp("llama"), "llama", hidden_size=48)
