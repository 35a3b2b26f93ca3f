"""Adapters: what cannot be computed exactly is refused with the reason; what can is merged into copies, never into the base."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tunesmith.engines.adapters import load_adapter
from tunesmith.engines.model import Model, load_model
from tunesmith.errors import InvalidArgument

from tests.engines.makers import write_adapter


@pytest.fixture(scope="module")
def base(model: Path) -> Model:
    return load_model(model)


@pytest.fixture
def adapter(model: Path, tmp_path: Path) -> Path:
    return write_adapter(tmp_path / "adapter", model)


def test_the_base_and_untouched_weights_are_shared(base: Model, model: Path, tmp_path: Path) -> None:
    before = {name: parameter.clone() for name, parameter in base.module.named_parameters()}
    path = write_adapter(tmp_path / "a", model, target_modules=["q_proj"])
    adapted = load_adapter(base, "v1", path)
    for name, parameter in base.module.named_parameters():
        assert torch.equal(parameter, before[name])
        copied = adapted.module.get_parameter(name)
        assert (copied.data_ptr() == parameter.data_ptr()) == ("q_proj" not in name), name
    assert adapted.module.config is base.module.config


def test_a_merged_weight_is_the_sum(base: Model, adapter: Path) -> None:
    tensors = load_file(adapter / "adapter_model.safetensors")
    adapted = load_adapter(base, "v1", adapter)
    name = "model.layers.1.mlp.down_proj"
    low_rank = tensors[f"base_model.model.{name}.lora_B.weight"] @ tensors[f"base_model.model.{name}.lora_A.weight"]
    expected = base.module.get_parameter(f"{name}.weight") + 2.0 * low_rank  # alpha 8 / rank 4
    assert torch.allclose(adapted.module.get_parameter(f"{name}.weight"), expected, atol=1e-6)


def change_config(**options: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / "adapter_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | options))

    return change


def change_tensors(change: Callable[[dict[str, torch.Tensor]], None]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        file = folder / "adapter_model.safetensors"
        tensors = load_file(file)
        change(tensors)
        save_file(tensors, file)

    return apply


Q_A = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


def drop(tensors: dict[str, torch.Tensor]) -> None:
    del tensors[Q_A]


def drop_module(tensors: dict[str, torch.Tensor]) -> None:
    del tensors[Q_A], tensors[Q_A.replace("lora_A", "lora_B")]


def poison(tensors: dict[str, torch.Tensor]) -> None:
    tensors[Q_A][0, 0] = torch.nan


def narrow(tensors: dict[str, torch.Tensor]) -> None:
    tensors[Q_A] = tensors[Q_A][:, 1:].contiguous()


def rename(tensors: dict[str, torch.Tensor]) -> None:
    tensors[Q_A.replace("layers.0", "layers.7")] = tensors.pop(Q_A)
    tensors[Q_A.replace("layers.0", "layers.7").replace("_A", "_B")] = tensors.pop(Q_A.replace("_A", "_B"))


def add_bias(tensors: dict[str, torch.Tensor]) -> None:
    tensors["base_model.model.model.layers.0.self_attn.q_proj.bias"] = torch.zeros(3)


def truncate(folder: Path) -> None:
    file = folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-7])


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (remove("adapter_model.safetensors"), "adapter_model.safetensors cannot be read"),
        (remove("adapter_config.json"), "adapter_config.json cannot be read"),
        (truncate, "damaged"),
        (change_config(peft_type="IA3"), "peft_type LORA"),
        (change_config(r=0), "r = 0"),
        (change_config(r=8), r"rank and base model ask for \(\(8, 200\)"),
        (change_config(lora_alpha=None), "lora_alpha"),
        (change_config(target_modules="q_.*"), "target_modules"),
        (change_config(target_modules=["q_proj"]), "which target_modules does not name"),
        (change_config(bias="all"), "bias = 'all'"),
        (change_config(use_dora=True), "use_dora"),
        (change_config(use_rslora=True), "use_rslora"),
        (change_config(modules_to_save=["lm_head"]), "modules_to_save"),
        (change_config(rank_pattern={"q_proj": 2}), "rank_pattern"),
        (change_config(alpha_pattern={"q_proj": 2}), "alpha_pattern"),
        (change_config(fan_in_fan_out=True), "fan_in_fan_out"),
        (change_config(a_future_option=1), "a_future_option"),
        (change_config(init_lora_weights="pissa"), "pissa"),
        (change_tensors(drop), "without its counterpart"),
        (change_tensors(drop_module), "for which there are no tensors"),
        (change_tensors(poison), "not finite"),
        (change_tensors(narrow), r"\(4, 127\)"),
        (change_tensors(rename), r"no linear layer model.layers.7"),
        (change_tensors(add_bias), "q_proj.bias is not one of"),
    ],
)
def test_refused_with_the_reason(base: Model, adapter: Path, damage: Callable[[Path], None], reason: str) -> None:
    assert load_adapter(base, "v1", adapter).sha256
    damage(adapter)
    with pytest.raises(InvalidArgument, match=reason) as refused:
        load_adapter(base, "v1", adapter)
    assert str(adapter) in refused.value.message


def test_half_precision_adapters_are_merged_in_fp32(base: Model, adapter: Path) -> None:
    def halve(tensors: dict[str, torch.Tensor]) -> None:
        for name in tensors:
            tensors[name] = tensors[name].bfloat16()

    change_tensors(halve)(adapter)
    assert all(p.dtype == torch.float32 for p in load_adapter(base, "v1", adapter).module.parameters())
