"""One random model, its adapters and one engine process for the whole room."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import torch
import transformers
from tunesmith.engines.builtin import BuiltinEngine

from tests.contract.engine import EngineTarget
from tests.engines.makers import STOP_IDS, engine_process, write_adapter, write_model

torch.set_num_threads(1)
transformers.utils.logging.disable_progress_bar()


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose answers rarely end by themselves."""
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def ending_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same weights with more stop ids: about every twentieth token ends the answer."""
    return write_model(tmp_path_factory.mktemp("ending-model"), stop_ids=STOP_IDS)


@pytest.fixture(scope="session")
def adapters(model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Twenty adapters of different shapes."""
    folder = tmp_path_factory.mktemp("adapters")
    targets = ["all-linear", ["q_proj", "v_proj"], ["up_proj", "down_proj", "gate_proj"]]
    return [
        write_adapter(folder / f"v{k}", model, seed=k, r=2 + k % 5, lora_alpha=3 + k, target_modules=targets[k % 3])
        for k in range(20)
    ]


@pytest.fixture(scope="session")
def engine(model: Path, adapters: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineTarget]:
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
    other = write_model(folder / "other", narrow)
    misfit = write_adapter(folder / "misfit", other)
    with engine_process(model, folder) as (url, _):
        yield EngineTarget(url, "secret", "accounts/local/models/random", (adapters[0], adapters[3]), misfit)


@pytest.fixture
async def builtin(ending_model: Path) -> AsyncIterator[BuiltinEngine]:
    """An engine inside the test's own process."""
    engine = BuiltinEngine(ending_model, "random")
    yield engine
    engine.close()


@pytest.fixture
async def long_winded(model: Path) -> AsyncIterator[BuiltinEngine]:
    """The same with the model whose answers rarely end by themselves."""
    engine = BuiltinEngine(model, "random")
    yield engine
    engine.close()
