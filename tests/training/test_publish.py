"""A published folder is a plain PEFT adapter, and its canary is what that adapter says."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
from tunesmith.training.model import Policy
from tunesmith.training.publish import canary, canary_ids, publish, remove_torn_folders

from tests.training.makers import VOCABULARY, policy_of


def put(run_dir: Path, version: int, policy: Policy) -> Path:
    return publish(run_dir, version, policy, canary(policy))


# peft asks transformers for a property under its old name.
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")
@pytest.mark.parametrize("family", ["qwen3", "llama"])
def test_plain_peft_and_transformers_load_it(request: pytest.FixtureRequest, family: str, tmp_path: Path):
    base = request.getfixturevalue(family)
    policy = policy_of(base, disturb=0.1)
    folder = put(tmp_path, 3, policy)
    assert folder == tmp_path / "adapters" / "v000003"

    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder)
    canary = json.loads((folder / "canary.json").read_text())
    ids = torch.tensor([canary["token_ids"]])
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0, :-1]
    found = logits.log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0].tolist()
    assert found == pytest.approx(canary["logprobs"], abs=1e-5)
    with torch.no_grad():
        merged = model.merge_and_unload()(input_ids=ids).logits[0, :-1]
    torch.testing.assert_close(merged, logits, rtol=1e-4, atol=1e-4)
    settings = json.loads((folder / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == str(base)
    assert settings["target_modules"] == sorted(settings["target_modules"])


def test_the_canary_tells_versions_apart_and_names_the_weights(tmp_path: Path, qwen3: Path):
    canaries = []
    for version, disturb in enumerate([0.0, 0.01]):
        folder = put(tmp_path, version, policy_of(qwen3, disturb=disturb))
        canaries.append(json.loads((folder / "canary.json").read_text()))
        assert canaries[-1]["sha256"] == hashlib.sha256((folder / "adapter_model.safetensors").read_bytes()).hexdigest()
    assert canaries[0]["token_ids"] == canaries[1]["token_ids"] == canary_ids(VOCABULARY)
    assert len(canaries[0]["logprobs"]) == 63
    difference = max(abs(a - b) for a, b in zip(canaries[0]["logprobs"], canaries[1]["logprobs"], strict=True))
    assert difference > 1e-3


def test_canary_ids_are_the_documented_generator():
    assert canary_ids(2**40)[:2] == [1442695040888963407 >> 33, 1876011003808476466 >> 33]
    assert len(set(canary_ids(1000))) > 40
    assert max(canary_ids(1000)) < 1000


def test_a_published_version_is_never_written_again(tmp_path: Path, qwen3: Path):
    folder = put(tmp_path, 0, policy_of(qwen3))
    before = folder.stat().st_mtime_ns
    assert put(tmp_path, 0, policy_of(qwen3, disturb=0.1)) == folder
    assert folder.stat().st_mtime_ns == before


def test_torn_folders_are_removed_and_nothing_else(tmp_path: Path):
    for name in (".v000004.77.tmp", "v000003"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "part").touch()
    remove_torn_folders(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["v000003"]
