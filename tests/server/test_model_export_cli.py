"""`tunesmith model export` against a real web process: what it saves loads elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import pytest
from click.testing import CliRunner
from eval_protocol.client.packing import EXPORT_MARK
from tunesmith.catalog import resolve
from tunesmith.cli import models, transfer
from tunesmith.db.tables import Model
from tunesmith.errors import Unavailable

from tests.engines.makers import write_adapter
from tests.server.conftest import BASE_MODEL, Platform


@pytest.fixture
def home(platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Platform:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".tunesmith").mkdir()
    profile = {"api_base": platform.url, "api_key": platform.key, "account_id": "local"}
    (tmp_path / ".tunesmith" / "profile.json").write_text(json.dumps(profile))
    base = resolve(BASE_MODEL, models_dir=tmp_path)
    folder = write_adapter(platform.control.settings.path("objects", "models", "local", "m", "x").parent, base.path)
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
    return platform


def said(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(models.command, arguments)
    assert done.exit_code == code, done.output
    assert "Traceback" not in done.output
    return done.output


def test_an_adapter_names_its_base_model(home: Platform, tmp_path: Path) -> None:
    assert said("export", "m") == "Saved 2 files in m-peft.\n"
    config = json.loads((tmp_path / "m-peft" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == BASE_MODEL
    assert config["peft_type"] == "LORA"
    assert "`ep upload`" in (tmp_path / "m-peft" / EXPORT_MARK).read_text()
    said("download", "m")
    assert (tmp_path / "m" / EXPORT_MARK).exists()
    assert "m-peft is not empty" in said("export", "m", code=1)
    assert "--format gguf only" in said("export", "m", "-o", "x", "--quantization", "f32", code=1)
    assert "no model accounts/local/models/none" in said("export", "none", code=1)


@pytest.mark.parametrize(("verb", "flag"), [("download", "--output-dir"), ("export", "--output")])
def test_what_breaks_off_is_marked_too(
    home: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str, flag: str
) -> None:
    """A folder that is new or empty; one with files of a person's own is not, as the whole of it would stay at home."""
    whole = transfer.download

    def break_off(after: int) -> None:
        left = iter(range(after))

        def download(url: str, target: Path) -> Path:
            if next(left, None) is None:
                raise Unavailable("The file did not get through.")
            return whole(url, target)

        monkeypatch.setattr(transfer, "download", download)

    for name in ("new", "empty"):
        if name == "empty":
            (tmp_path / name).mkdir()
        break_off(0)
        said(verb, "m", flag, name, code=1)
        assert (tmp_path / name).exists() == (name == "empty"), "it is not left behind with nothing in it"
        break_off(1)
        said(verb, "m", flag, name, code=1)
        assert len(list((tmp_path / name).iterdir())) == 2
        assert (tmp_path / name / EXPORT_MARK).exists()
    monkeypatch.setattr(transfer, "download", whole)
    if verb == "download":
        said("download", "m", flag, "new")
        assert (tmp_path / "new" / EXPORT_MARK).exists()
        (tmp_path / "own").mkdir()
        (tmp_path / "own" / "evaluator.py").touch()
        said("download", "m", flag, "own")
        assert not (tmp_path / "own" / EXPORT_MARK).exists()


def test_a_base_model_and_a_folder_that_cannot_be(home: Platform, tmp_path: Path) -> None:
    for verb in ("export", "download"):
        refused = said(verb, BASE_MODEL, code=1)
        assert f"{BASE_MODEL} is a base model: no job made it" in refused
        folder = refused.split("Its files are in ")[1].split(" on this machine")[0]
        assert (Path(folder) / "config.json").is_file()
    for form in ("peft", "gguf"):
        told = said("export", "m", "-o", "/proc/x/y", "--format", form, code=1)
        assert "/proc/x/y cannot be written (No such file or directory); nothing was fetched" in told
    assert not (tmp_path / "m-peft").exists()


def test_a_gguf_file_and_its_modelfile(home: Platform, tmp_path: Path) -> None:
    answer = json.loads(said("export", "m", "-o", "out", "--format", "gguf", "--quantization", "q8_0", "--json"))
    assert answer["files"] == ["out/Modelfile", "out/model.gguf"]
    reader = gguf.GGUFReader(tmp_path / "out" / "model.gguf")
    assert reader.fields["general.name"].contents() == "m"
    assert "FROM ./model.gguf" in (tmp_path / "out" / "Modelfile").read_text()
