"""`tunesmith dataset`: rows to the platform and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from tunesmith.cli import transfer
from tunesmith.cli.client import call, resource_path
from tunesmith.cli.errors import told_plainly
from tunesmith.cli.listing import list_options, moment, print_fields, short, show
from tunesmith.cli.profile import Profile, read_profile
from tunesmith.cli.terminal import say

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print the API's JSON.")


@click.group("dataset")
def command() -> None:
    """Datasets of your account: JSONL, one conversation ("messages") or one preference a line.

    \b
    Examples:
      tunesmith dataset create chats chats.jsonl
      tunesmith dataset list
      tunesmith dataset render-preview chats --base-model accounts/fireworks/models/qwen3-0p6b
      tunesmith dataset download chats --output-dir rows
    """


@command.command("create")
@click.argument("dataset")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--display-name", help="Name for people.")
@as_json_option
def create_dataset(dataset: str, file: Path, display_name: str | None, as_json: bool) -> None:
    """Upload FILE as DATASET. Every row is checked; the first wrong line is named, and the same command can be repeated."""
    described = {"userUploaded": {}, **({"displayName": display_name} if display_name else {})}
    with told_plainly():
        if not file.stat().st_size:
            raise click.ClickException(f"{file} is empty. A dataset has one row a line, as JSON.")
        profile = read_profile()
        path = _path(profile, dataset)  # of the account that a full name names, for every call
        parent, _, identity = path.rpartition("/")
        call(profile, "POST", parent, {"datasetId": identity, "dataset": described})
        sizes = {"filenameToSize": {file.name: str(file.stat().st_size)}}
        urls = call(profile, "POST", f"{path}:getUploadEndpoint", sizes)["filenameToSignedUrls"]
        transfer.upload(urls[file.name], file)
        call(profile, "POST", f"{path}:validateUpload", {})
        made = call(profile, "GET", path)
    click.echo(json.dumps(made, indent=2) if as_json else f"{made['name']} has {made['exampleCount']} rows.")


@command.command("list")
@list_options
def list_datasets(**flags: Any) -> None:
    """List the datasets, newest first."""
    with told_plainly():
        profile = read_profile()
        header = ("DATASET", "STATE", "ROWS", "KIND", "CREATED")
        nothing = "No datasets yet. Upload one with `tunesmith dataset create`."
        show(profile, _path(profile), "datasets", header, _row, nothing, **flags)


@command.command("get")
@click.argument("dataset")
@as_json_option
def get_dataset(dataset: str, as_json: bool) -> None:
    """Show one dataset."""
    with told_plainly():
        profile = read_profile()
        found = call(profile, "GET", _path(profile, dataset))
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    print_fields(
        [
            ("Dataset", found["name"]),
            ("State", found["state"]),
            ("Message", (found.get("status") or {}).get("message", "")),
            ("Rows", found.get("exampleCount", "")),
            ("Kind", found.get("rowKind", "").lower()),
            ("Bytes", found.get("bytes", "")),
            ("Created", moment(found.get("createTime"))),
        ]
    )


@command.command("download")
@click.argument("dataset")
@click.option(
    "--output-dir", type=click.Path(path_type=Path, file_okay=False), default=".", help="Folder (default: here)."
)
@as_json_option
def download_dataset(dataset: str, output_dir: Path, as_json: bool) -> None:
    """Save the rows of DATASET as OUTPUT_DIR/DATASET.jsonl."""
    with told_plainly():
        profile = read_profile()
        urls = call(profile, "GET", f"{_path(profile, dataset)}:getDownloadEndpoint")["filenameToSignedUrls"]
        files = [str(transfer.download(url, Path(output_dir, name))) for name, url in urls.items()]
    click.echo(json.dumps({"files": files}, indent=2) if as_json else f"Saved {', '.join(files)}.")


@command.command("render-preview")
@click.argument("dataset")
@click.option("--base-model", required=True, help="The base model that renders the rows.")
@click.option("--context-length", type=int, help="Cut renderings there, in tokens.")
@click.option("--page-size", type=click.IntRange(1, 50), default=3, help="Rows (default 3).")
@click.option("--page-token", default="", help="Show the page that this token of an earlier one stands for.")
@as_json_option
def render_preview(
    dataset: str, base_model: str, context_length: int | None, page_size: int, page_token: str, as_json: bool
) -> None:
    """Show how rows are rendered; what is trained stands in ⟦brackets⟧."""
    body = {"baseModel": base_model, "pageSize": page_size, "pageToken": page_token}
    if context_length is not None:
        body["contextLength"] = context_length
    with told_plainly():
        profile = read_profile()
        page = call(profile, "POST", f"{_path(profile, dataset)}:renderPreview", body)
    if as_json:
        click.echo(json.dumps(page, indent=2))
        return
    for example in page["examples"]:
        for rendering in example["renderings"]:
            mode = rendering["thinkingTraceHistoryMode"].rsplit("_", 1)[-1].lower()
            say(f"--- row {example['sourceJsonlRowIndex']}, thinking history {mode}")
            if "error" in rendering:
                say(f"cannot be trained: {rendering['error']}")
            for datum in rendering["renderedDatums"]:
                say("".join(_shown(part) for part in datum["segments"]))
    if page["nextPageToken"]:
        say(f"More: --page-token {page['nextPageToken']}")


@command.command("delete")
@click.argument("dataset")
@as_json_option
def delete_dataset(dataset: str, as_json: bool) -> None:
    """Remove a dataset and its rows. Refused while a job needs it."""
    with told_plainly():
        profile = read_profile()
        answer = call(profile, "DELETE", _path(profile, dataset))
    click.echo(json.dumps(answer, indent=2) if as_json else f"Deleted {short(dataset)}.")


def _path(profile: Profile, dataset: str | None = None) -> str:
    return resource_path(profile, "datasets", dataset)


def _row(dataset: dict[str, Any]) -> tuple[str, ...]:
    return (
        short(dataset["name"]),
        dataset["state"],
        str(dataset.get("exampleCount", "")),
        dataset.get("rowKind", "").lower(),
        moment(dataset.get("createTime")),
    )


def _shown(part: dict[str, Any]) -> str:
    return f"⟦{part['text']}⟧" if part["lossWeight"] else part["text"]
