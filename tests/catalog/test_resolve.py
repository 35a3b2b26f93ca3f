"""From names to folders: the catalogue, Hugging Face ids (against a hub of our own), local folders; what is refused, and why."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from tunesmith.catalog import Bounds, TrainingDefaults, account_model, available, canonical_name, is_listed, resolve
from tunesmith.catalog.known import KNOWN
from tunesmith.errors import InvalidArgument, NotFound

from tests.fakes.model_folder import make_model_folder

QWEN = "accounts/fireworks/models/qwen3-0p6b"
REPO = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.mark.parametrize(("id", "max_tokens"), [("tiny-math-v1", 80), ("tiny-tools-v1", 64), ("tiny-svg-v1", 64)])
def test_a_bundled_model_is_there_with_its_own_defaults(models: Path, id: str, max_tokens: int) -> None:
    entry = next(entry for entry in available(models) if entry.name == f"accounts/tunesmith/models/{id}")
    assert (entry.source, entry.path.is_dir()) == ("bundled", True)
    training = entry.training
    assert training.max_tokens == max_tokens
    assert (training.learning_rate, training.lora_rank, training.lora_alpha, training.chunk_size) == (1e-3, 16, 32, 10)
    assert training.learning_rate in training.learning_rate_bounds


def test_a_real_model_has_the_documented_defaults() -> None:
    training = TrainingDefaults()
    assert (training.learning_rate, training.lora_rank, training.n, training.epochs) == (1e-4, 8, 8, 1)
    assert (training.max_tokens, training.temperature, training.lora_alpha) == (2048, 1.0, 32)
    assert (training.chunk_for(399), training.chunk_for(400)) == (None, 200)


@pytest.mark.parametrize(
    ("option", "good", "bad"),
    [
        ("learning_rate", (1e-5, 5e-4), (9e-6, 6e-4)),
        ("lora_rank", (4, 32), (5, 64)),
        ("epochs", (1, 10), (0, 11)),
        ("max_tokens", (16, 16384), (15, 16385)),
        ("n", (2, 128), (1, 129)),
        ("temperature", (0.1, 2.0), (0.0, float("nan"))),
    ],
)
def test_ranges_are_checked_by_name(option: str, good: tuple, bad: tuple) -> None:
    training = TrainingDefaults()
    for value in (*good, None):
        training.check("m", **{option: value})
    for value in bad:
        with pytest.raises(InvalidArgument, match=option):
            training.check("m", **{option: value})


def test_bounds_read_as_a_sentence() -> None:
    assert (str(Bounds(1, 10)), str(Bounds(choices=(4, 8)))) == ("between 1 and 10", "one of 4, 8")


def test_aliases_are_one_model(models: Path) -> None:
    make_model_folder(models / "Qwen--Qwen3-0.6B")
    entries = {resolve(name, models_dir=models) for name in (QWEN, "Qwen/Qwen3-0.6B")}
    (entry,) = entries
    assert (entry.name, entry.source, entry.path) == (QWEN, "Qwen/Qwen3-0.6B", models / "Qwen--Qwen3-0.6B")
    assert canonical_name("Qwen/Qwen3-0.6B") == canonical_name(QWEN) == QWEN
    assert is_listed("Qwen/Qwen3-0.6B")
    assert entry in available(models)


def test_any_hugging_face_id_and_any_folder(models: Path, tmp_path: Path) -> None:
    make_model_folder(models / "org--name")
    assert resolve("org/name", models_dir=models).name == "org/name"
    folder = make_model_folder(tmp_path / "local")
    for name in (str(folder), f"file:{folder}", f"file://{folder}", f"{folder}/../local/"):
        entry = resolve(name, models_dir=models)
        assert (entry.name, entry.path, entry.source) == (str(folder), folder, "folder")
        assert canonical_name(name) == str(folder)


def test_a_full_model_of_an_account_keeps_the_defaults_of_its_base(models: Path, tmp_path: Path) -> None:
    objects, name = tmp_path / "objects", "accounts/a/models/full"
    folder = make_model_folder(objects / "a" / "full")
    plain = resolve(name, models_dir=models, account_models=objects)
    assert (plain.name, plain.path, plain.source, plain.display_name) == (name, folder, "account", "full")
    assert plain.training == TrainingDefaults()
    (folder / "tunesmith.json").write_text(json.dumps({"base_model": QWEN}))
    full, base = resolve(name, models_dir=models, account_models=objects), KNOWN[QWEN]
    assert (full.training, full.inference_max_tokens, full.family) == (
        base.training,
        base.inference_max_tokens,
        base.family,
    )
    (folder / "tunesmith.json").write_text("[]")
    assert resolve(name, models_dir=models, account_models=objects) == plain
    for other in (
        "accounts/a/models/none",
        "accounts/b/models/full",
        "accounts/a/models/../a",
        "accounts/../a/models/full",
    ):
        assert account_model(other, objects) is None
        with pytest.raises(NotFound):
            resolve(other, models_dir=models, account_models=objects)
    with pytest.raises(NotFound):
        resolve(name, models_dir=models)


def test_what_is_nowhere_names_every_place(models: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound) as caught:
        resolve(QWEN, models_dir=models)
    for words in (QWEN, "Qwen/Qwen3-0.6B", str(models / "Qwen--Qwen3-0.6B"), str(tmp_path / "cache"), "HF_HUB_OFFLINE"):
        assert words in caught.value.message
    with pytest.raises(NotFound, match="catalogue") as caught:
        resolve("accounts/x/models/y", models_dir=models)
    assert all(name in caught.value.message for name in KNOWN)
    with pytest.raises(NotFound, match="catalogue"):
        resolve("qwen3", models_dir=models)
    with pytest.raises(NotFound, match="is not a folder"):
        resolve(str(tmp_path / "nothing"), models_dir=models)


def spoil_config(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"auto_map": {"AutoModel": "modeling.Model"}}))


def spoil_index(folder: Path) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


SPOILT = [
    (lambda folder: (folder / "config.json").unlink(), "no config.json"),
    (lambda folder: (folder / "tokenizer.json").unlink(), "no tokenizer.json"),
    (lambda folder: (folder / "model.safetensors").unlink(), r"no \*.safetensors"),
    (lambda folder: (folder / "pytorch_model.bin").write_bytes(b""), "pytorch_model.bin"),
    (lambda folder: (folder / "weights.pt").write_bytes(b""), "weights.pt"),
    (spoil_config, "auto_map"),
    (spoil_index, "model-2.safetensors"),
    (lambda folder: (folder / "config.json").write_text("[]"), "config.json"),
    (lambda folder: (folder / "tokenizer_config.json").write_text("{"), "tokenizer_config.json"),
]


@pytest.mark.parametrize(("spoil", "words"), SPOILT)
def test_unsafe_and_unfinished_folders_are_refused(models: Path, tmp_path: Path, spoil, words: str) -> None:
    folder = make_model_folder(tmp_path / "m")
    resolve(str(folder), models_dir=models)
    spoil(folder)
    with pytest.raises(NotFound, match=words):
        resolve(str(folder), models_dir=models)


def test_the_machines_cache_is_used_before_the_network(models: Path, tmp_path: Path) -> None:
    commit = "0" * 40
    cached = tmp_path / "cache" / "models--org--name"
    make_model_folder(cached / "snapshots" / commit)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(commit)
    entry = resolve("org/name", models_dir=models)
    assert entry.path == cached / "snapshots" / commit
    assert not models.exists()


def test_a_download_takes_no_code_and_appears_whole(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    source = make_model_folder(tmp_path / "hub")
    seen: dict[str, object] = {}

    def download(repo: str, local_dir: Path | None = None, **arguments: object) -> str:
        if local_dir is None:
            raise OSError("not in the cache")
        seen.update(arguments, repo=repo, while_loading=(models / "org--name").exists())
        shutil.copytree(source, local_dir, dirs_exist_ok=True)
        return str(local_dir)

    monkeypatch.setattr("tunesmith.catalog.lookup.snapshot_download", download)
    assert resolve("org/name", models_dir=models).path == models / "org--name"
    assert seen["repo"] == "org/name"
    assert not seen["while_loading"]
    assert not any(str(pattern).endswith((".py", ".bin", ".pt")) for pattern in seen["allow_patterns"])  # type: ignore[union-attr]

    (source / "model.safetensors").unlink()
    with pytest.raises(NotFound, match="has no"):
        resolve("org/other", models_dir=models)
    assert not (models / "org--other").exists()


def test_nothing_but_the_catalogue_knows_the_bundled_model() -> None:
    done = subprocess.run(
        ["git", "grep", "-il", "tiny", "--", "platform/src"], cwd=REPO, capture_output=True, text=True, check=True
    )
    elsewhere = [line for line in done.stdout.split() if not line.startswith("platform/src/tunesmith/catalog/")]
    assert elsewhere == []


@pytest.mark.parametrize("name", ["tiny-math-v1", "accounts/local/models/tiny-math-v2"])
def test_a_name_that_is_nearly_right_is_answered_with_the_right_one(name: str, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="Did you mean accounts/tunesmith/models/tiny-math-v1"):
        resolve(name, models_dir=tmp_path)
