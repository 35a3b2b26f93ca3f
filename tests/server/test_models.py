"""Models: the account's adapters to list, download and delete; the catalogue's base models to look at."""

from __future__ import annotations

import json
from pathlib import Path

import httpx2
from tunesmith.catalog import resolve
from tunesmith.db.tables import Model

from tests.server.conftest import BASE_MODEL, Platform


def _add(platform: Platform, folder: Path) -> None:
    (folder / "adapter_config.json").write_text(json.dumps({"r": 8, "target_modules": ["q_proj"]}))
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    (folder / "private.txt").write_text("not yours")
    with platform.control.sessions.begin() as session:
        session.add(
            Model(
                name="accounts/local/models/m",
                account="accounts/local",
                base_model=BASE_MODEL,
                job="accounts/local/reinforcementFineTuningJobs/j",
                adapter_path=str(folder),
                sha256="ab",
            )
        )


def test_an_adapter_is_shown_and_downloaded(platform: Platform, tmp_path: Path):
    _add(platform, tmp_path)
    shown = platform.ok("GET", "/models/m")
    assert shown["peftDetails"] == {"baseModel": BASE_MODEL, "r": 8, "targetModules": ["q_proj"]}
    assert (shown["kind"], shown["state"]) == ("HF_PEFT_ADDON", "READY")
    assert platform.ok("GET", "/models")["models"] == [shown]
    urls = platform.ok("GET", "/models/m:getDownloadEndpoint")["filenameToSignedUrls"]
    assert {name: httpx2.get(url).content for name, url in urls.items()} == {
        "adapter_config.json": (tmp_path / "adapter_config.json").read_bytes(),
        "adapter_model.safetensors": b"weights",
    }
    stolen = urls["adapter_config.json"].replace("adapter_config.json", "private.txt")
    assert httpx2.get(stolen).status_code == 403
    assert httpx2.get(urls["adapter_config.json"].split("?")[0]).status_code == 403
    platform.ok("DELETE", "/models/m")
    platform.fails(404, "GET", "/models/m")
    assert httpx2.get(urls["adapter_config.json"]).status_code == 404
    assert (tmp_path / "adapter_config.json").exists()  # not ours to remove


def test_deleting_a_model_removes_what_promotion_kept(platform: Platform):
    folder = platform.control.settings.path("objects", "models", "local", "m", "x").parent
    _add(platform, folder)
    platform.ok("DELETE", "/models/m")
    assert not folder.exists()


def test_files_that_are_gone_are_said_to_be(platform: Platform, tmp_path: Path):
    _add(platform, tmp_path)
    for file in tmp_path.glob("adapter*"):
        file.unlink()
    assert "not at" in platform.fails(404, "GET", "/models/m:getDownloadEndpoint")
    assert "peftDetails" not in platform.ok("GET", "/models/m")


def test_base_models_are_listed(platform: Platform):
    models = platform.ok("GET", "/v1/accounts/tunesmith/models")["models"]
    assert BASE_MODEL in [model["name"] for model in models]
    shown = platform.ok("GET", f"/v1/{BASE_MODEL}")
    assert (shown["kind"], shown["tunable"]) == ("HF_BASE_MODEL", True)
    assert shown["contextLength"] > 0
    platform.fails(404, "GET", "/v1/accounts/tunesmith/models/none")
    platform.fails(403, "GET", "/v1/accounts/other/models")


def test_a_base_model_says_what_its_training_options_may_be(platform: Platform):
    models = platform.ok("GET", "/v1/accounts/tunesmith/models")["models"]
    options = next(model for model in models if model["name"] == BASE_MODEL)["trainingOptions"]
    assert set(options) == {"rft", "sft", "dpo"}
    training = resolve(BASE_MODEL, models_dir=platform.control.settings.path("models")).training
    rate = options["rft"]["learningRate"]
    assert rate["default"] == training.learning_rate
    assert (rate["low"], rate["high"]) == (training.learning_rate_bounds.low, training.learning_rate_bounds.high)
    assert tuple(options["sft"]["loraRank"]["choices"]) == training.tuning.lora_rank_bounds.choices
    assert "high" not in options["sft"]["optimizerWeightDecay"]
