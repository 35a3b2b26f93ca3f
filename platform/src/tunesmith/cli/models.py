"""`tunesmith model`: what jobs made, and the base models that are here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from tunesmith.cli import transfer
from tunesmith.cli.client import call, resource_path
from tunesmith.cli.errors import told_plainly
from tunesmith.cli.exports import marked
from tunesmith.cli.listing import list_options, moment, print_fields, short, show
from tunesmith.cli.model_export import export_model, refuse_base_model
from tunesmith.cli.profile import Profile, read_profile

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print the API's JSON.")


@click.group("model")
def command() -> None:
    """Models of your account. A model is called by its full name, as soon as it is here.

    \b
    Examples:
      tunesmith model list
      tunesmith model list --base
      tunesmith model download my-model --output-dir my-model
      tunesmith model export my-model --format gguf
    """


command.add_command(export_model)


@command.command("list")
@click.option("--base", is_flag=True, help="The bundled base models instead.")
@list_options
def list_models(base: bool, **flags: Any) -> None:
    """List the models, newest first."""
    with told_plainly():
        profile = read_profile()
        path = "/v1/accounts/tunesmith/models" if base else _path(profile)
        header = ("MODEL", "KIND", "BASE MODEL", "JOB", "CREATED")
        nothing = "No models yet. Make one with `tunesmith sftj create`."
        show(profile, path, "models", header, _row, nothing, **flags)


@command.command("get")
@click.argument("model")
@as_json_option
def get_model(model: str, as_json: bool) -> None:
    """Show one model; a base model by its full name."""
    with told_plainly():
        profile = read_profile()
        found = call(profile, "GET", _path(profile, model))
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    peft, whole = found.get("peftDetails") or {}, found.get("baseModelDetails") or {}
    count = whole.get("parameterCount")
    print_fields(
        [
            ("Model", found["name"]),
            ("Kind", _kind(found)),
            ("Base model", found.get("baseModel", "")),
            ("LoRA rank", str(peft.get("r", ""))),
            ("Parameters", f"{int(count):,}" if count else ""),
            ("Context", f"{found['contextLength']} tokens" if found.get("contextLength") else ""),
            ("Job", found.get("fineTuningJob", "")),
            ("SHA-256", found.get("sha256", "")),
            ("Created", moment(found.get("createTime"))),
        ]
    )


@command.command("download")
@click.argument("model")
@click.option(
    "--output-dir", type=click.Path(path_type=Path, file_okay=False), help="Folder (default: the model's id)."
)
@as_json_option
def download_model(model: str, output_dir: Path | None, as_json: bool) -> None:
    """Save the files of MODEL; plain peft and transformers load them from that folder."""
    folder = output_dir or Path(short(model))
    with told_plainly():
        profile = read_profile()
        if "/" in model:
            refuse_base_model(profile, call(profile, "GET", _path(profile, model))["name"])
        urls = call(profile, "GET", f"{_path(profile, model)}:getDownloadEndpoint")["filenameToSignedUrls"]
        with marked(folder, "tunesmith model download"):
            files = [str(transfer.download(url, folder / Path(name).name)) for name, url in urls.items()]
    click.echo(json.dumps({"files": files}, indent=2) if as_json else f"Saved {len(files)} files in {folder}.")


@command.command("delete")
@click.argument("model")
@as_json_option
def delete_model(model: str, as_json: bool) -> None:
    """Remove a model and its files. Refused while a job or a deployment needs it."""
    with told_plainly():
        profile = read_profile()
        answer = call(profile, "DELETE", _path(profile, model))
    click.echo(json.dumps(answer, indent=2) if as_json else f"Deleted {short(model)}.")


def _path(profile: Profile, model: str | None = None) -> str:
    return resource_path(profile, "models", model)


def _kind(model: dict[str, Any]) -> str:
    return "full model" if model.get("kind") == "HF_BASE_MODEL" else "adapter"


def _row(model: dict[str, Any]) -> tuple[str, ...]:
    return (
        model["name"] if not model.get("fineTuningJob") else short(model["name"]),
        _kind(model),
        short(model.get("baseModel", "")),
        short(model.get("fineTuningJob", "")),
        moment(model.get("createTime")),
    )
