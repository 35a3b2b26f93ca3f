"""`tunesmith model export`: a trained model as a folder that other programs load.

The adapter (or full model) comes from the platform, wherever that runs; what needs torch runs here, in a child process, with the base model
from this machine's folders and caches, or from where the catalogue gets it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from tunesmith.cli import transfer
from tunesmith.cli.client import call, resource_path
from tunesmith.cli.errors import told_plainly
from tunesmith.cli.exports import check_new_folder, mark, marked
from tunesmith.cli.listing import short
from tunesmith.cli.profile import Profile, read_profile
from tunesmith.errors import FailedPrecondition, InvalidArgument
from tunesmith.schemas.model_exports import FORMATS, QUANTIZATIONS

FULL_MODEL = "HF_BASE_MODEL"
_COMMAND = "tunesmith model export"


@click.command("export")
@click.argument("model")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="New folder (default: the model's id and the format).",
)
@click.option("--format", "form", type=click.Choice(FORMATS), default="peft", show_default=True)
@click.option(
    "--quantization", type=click.Choice(QUANTIZATIONS), help="How a GGUF file stores matrices (default: f16)."
)
@click.option(
    "--base",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of the base model (default: found by its name).",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def export_model(
    model: str, output: Path | None, form: str, quantization: str | None, base: Path | None, as_json: bool
) -> None:
    """Write MODEL in a form that other programs load.

    \b
    peft     the adapter, for peft on its base model
    merged   base and adapter in one, as safetensors, for transformers, vLLM, SGLang
    gguf     the same as one GGUF file, for llama.cpp, with a Modelfile for Ollama

    `ep upload` leaves the folder out of an evaluator's project. merged and gguf need `pip install "tunesmith[train]"` on this machine; the platform may run on another one.

    \b
    Examples:
      tunesmith model export my-model -o my-model
      tunesmith model export my-model --format merged
      tunesmith model export my-model --format gguf --quantization q8_0
    """
    folder = output or Path(f"{short(model)}-{form}")
    with told_plainly():
        if quantization and form != "gguf":
            raise InvalidArgument("--quantization takes effect with --format gguf only.")
        check_new_folder(folder)
        profile = read_profile()
        found = call(profile, "GET", _path(profile, model))
        refuse_base_model(profile, found["name"])
        if form == "peft":
            with marked(folder, _COMMAND):
                files = _peft(profile, found, folder)
        else:  # whole or not at all
            files = _converted(profile, found, folder, form, quantization or QUANTIZATIONS[0], base)
            mark(folder, _COMMAND)
    if as_json:
        click.echo(json.dumps({"model": found["name"], "format": form, "files": files}, indent=2))
        return
    click.echo(f"Saved {len(files)} files in {folder}.")
    if form == "gguf":
        click.echo(f"With Ollama: ollama create {short(model)} -f {folder / 'Modelfile'}")


def refuse_base_model(profile: Profile, name: str) -> None:
    """Raise FailedPrecondition for a model of the catalogue, which no job of the account made, with the place of its files."""
    if name.startswith(f"accounts/{profile.account_id}/"):
        return
    from tunesmith.catalog import available
    from tunesmith.settings import Settings

    here = next((entry.path for entry in available(Settings.load().path("models")) if entry.name == name), None)
    public = _public_name(name)
    places = [f"in {here} on this machine"] if here else ["in models/ of the data folder of the platform's machine"]
    places += [f"at https://huggingface.co/{public}"] if public != name else []
    raise FailedPrecondition(
        f"{name} is a base model: no job made it, and it is not copied. Its files are {', and '.join(places)}; other programs load them as they are."
    )


def _peft(profile: Profile, model: dict[str, Any], folder: Path) -> list[str]:
    """The adapter with its base model's real name: what the platform keeps has the folder that it was trained from."""
    if model["kind"] == FULL_MODEL:
        raise FailedPrecondition(f"{model['name']} is a full model, not an adapter: use --format merged.")
    files = _download(profile, model["name"], folder)
    settings = folder / "adapter_config.json"
    config = json.loads(settings.read_text())
    config["base_model_name_or_path"] = _public_name(model["baseModel"])
    settings.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    return files


def _converted(
    profile: Profile, model: dict[str, Any], folder: Path, form: str, quantization: str, base: Path | None
) -> list[str]:
    missing = [name for name in ("torch", "peft", "gguf") if find_spec(name) is None]
    if missing:
        raise FailedPrecondition(
            f'--format {form} needs {", ".join(missing)} on this machine: pip install "tunesmith[train]". --format peft needs nothing.'
        )
    with tempfile.TemporaryDirectory(prefix="tunesmith-export-") as work:
        own = Path(work, "model")
        _download(profile, model["name"], own)
        full = model["kind"] == FULL_MODEL
        argv = [sys.executable, "-m", "tunesmith.training.export"]
        argv += [
            str(own if full else base or _base_folder(profile, model["baseModel"], Path(work, "base"))),
            str(folder),
        ]
        argv += [] if full else ["--adapter", str(own)]
        argv += ["--format", form, "--quantization", quantization, "--name", short(model["name"])]
        done = subprocess.run(argv, capture_output=True, text=True)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"it ended with status {done.returncode} and said nothing"]
        raise FailedPrecondition(said[-1].removeprefix("export: "))
    return json.loads(done.stdout)["files"]


def _base_folder(profile: Profile, name: str, work: Path) -> Path:
    """The base model's files: from here, or, a full model of the account, from the platform. May download. Raises NotFound."""
    from tunesmith.catalog import resolve
    from tunesmith.settings import Settings

    if name.startswith(f"accounts/{profile.account_id}/"):
        _download(profile, name, work)
        return work
    return resolve(name, models_dir=Settings.load().path("models")).path


def _public_name(name: str) -> str:
    """What others call a base model: its Hugging Face id where the catalogue knows one."""
    from tunesmith.catalog.known import KNOWN

    known = KNOWN.get(name)
    return known.repo if known and known.repo else name


def _download(profile: Profile, model: str, folder: Path) -> list[str]:
    urls = call(profile, "GET", f"/v1/{model}:getDownloadEndpoint")["filenameToSignedUrls"]
    return [str(transfer.download(url, folder / Path(name).name)) for name, url in urls.items()]


def _path(profile: Profile, model: str) -> str:
    return resource_path(profile, "models", model)
