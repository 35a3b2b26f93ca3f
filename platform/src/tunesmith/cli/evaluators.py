"""`tunesmith evaluator`: what was uploaded, its versions, and edits."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from tunesmith.cli.client import call, resource_path
from tunesmith.cli.errors import told_plainly
from tunesmith.cli.listing import list_options, moment, print_table, short, show
from tunesmith.cli.profile import Profile, read_profile
from tunesmith.cli.terminal import say
from tunesmith.errors import FailedPrecondition, InvalidArgument

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print the API's JSON.")
version_option = click.option(
    "--version", "version", type=click.IntRange(1), help="Which version (default: the newest)."
)
_LEFT_OUT = ("__pycache__", "node_modules", "venv")
_BUILD_SECONDS = 660.0


@click.group("evaluator")
def command() -> None:
    """Evaluators of your account. Every upload and every edit is a version.

    \b
    Examples:
      tunesmith evaluator list
      tunesmith evaluator source math-check --output-dir math-check
      tunesmith evaluator edit math-check math-check --message "half a point for the unit"
      tunesmith evaluator diff math-check
    """


@command.command("list")
@list_options
def list_evaluators(**flags: Any) -> None:
    """List the evaluators, newest first."""
    with told_plainly():
        profile = read_profile()
        header = ("EVALUATOR", "STATE", "VERSION", "ENTRY POINT", "UPDATED")
        nothing = "No evaluators yet. Upload one with `ep upload`."
        show(profile, _path(profile), "evaluators", header, _row, nothing, **flags)


@command.command("versions")
@click.argument("evaluator")
@as_json_option
def versions(evaluator: str, as_json: bool) -> None:
    """List the versions of EVALUATOR, newest first."""
    with told_plainly():
        profile = read_profile()
        found = call(profile, "GET", f"{_path(profile, evaluator)}/versions")["evaluatorVersions"]
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    rows = [(str(v["version"]), v["state"], v["origin"], moment(v["createTime"]), v["message"]) for v in found]
    print_table([("VERSION", "STATE", "BY", "CREATED", "MESSAGE"), *rows])


@command.command("source")
@click.argument("evaluator")
@version_option
@click.option(
    "--output-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder to write the files to; it must be empty.",
)
@as_json_option
def source(evaluator: str, version: int | None, output_dir: Path | None, as_json: bool) -> None:
    """Print the names of the files of a version, or save its text files."""
    with told_plainly():
        profile = read_profile()
        files = _files(profile, evaluator, version or _newest(profile, evaluator))
        if output_dir is not None:
            if output_dir.exists() and any(output_dir.iterdir()):
                raise FailedPrecondition(f"{output_dir} is not empty. Name a new folder with --output-dir.")
            for file in files:
                if file["text"] is not None:
                    _save(output_dir, file["path"], file["text"])
    if as_json:
        click.echo(json.dumps(files, indent=2))
    elif output_dir is not None:
        say(f"Saved {sum(file['text'] is not None for file in files)} of {len(files)} files in {output_dir}.")
    else:
        for file in files:
            say(f"{file['size']:>9}  {file['path']}")


@command.command("diff")
@click.argument("evaluator")
@version_option
@click.option("--base", type=click.IntRange(1), help="The version to compare with (default: the one before).")
@as_json_option
def diff(evaluator: str, version: int | None, base: int | None, as_json: bool) -> None:
    """Show what a version has otherwise than another one."""
    with told_plainly():
        profile = read_profile()
        path = f"{_path(profile, evaluator)}/versions/{version or _newest(profile, evaluator)}/diff"
        files = call(profile, "GET", path + (f"?base={base}" if base else ""))["files"]
    if as_json:
        click.echo(json.dumps(files, indent=2))
        return
    for file in files:
        say(file["diff"] if file.get("diff") else f"{file['status']}: {file['path']} (no text)\n", nl=False)
    if not files:
        say("No difference.")


@command.command("edit")
@click.argument("evaluator")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--message", default="", help="What the change is about.")
@click.option(
    "--base-version", type=click.IntRange(1), help="The version that FOLDER was made from (default: the newest)."
)
@click.option("--no-wait", is_flag=True, help="Do not wait until it is built.")
@as_json_option
def edit(evaluator: str, folder: Path, message: str, base_version: int | None, no_wait: bool, as_json: bool) -> None:
    """Make the next version of EVALUATOR from the text files in FOLDER (`source --output-dir` saves them there).

    Changed and new files are sent, and text files that are not in FOLDER any more are removed. Files that are no text stay.
    """
    with told_plainly():
        profile = read_profile()
        base = base_version or _newest(profile, evaluator)
        changes = _changes(_files(profile, evaluator, base), dict(_texts(folder)))
        if not changes:
            say(f"{folder} is what version {base} is: nothing to send.")
            return
        body = {"baseVersion": base, "files": changes, "message": message}
        made = call(profile, "POST", f"{_path(profile, evaluator)}:edit", body)
        if not no_wait:
            made = _built(profile, evaluator, made["version"])
        if made["state"] == "BUILD_FAILED":
            raise InvalidArgument(f"Version {made['version']} was not built: {made['status']['message']}")
    click.echo(
        json.dumps(made, indent=2)
        if as_json
        else f"Version {made['version']} of {short(evaluator)} is {made['state']}."
    )


def _changes(files: list[dict[str, Any]], texts: dict[str, str]) -> dict[str, str | None]:
    before = {file["path"]: file["text"] for file in files}
    changed: dict[str, str | None] = {path: text for path, text in texts.items() if before.get(path) != text}
    return {**changed, **{path: None for path, text in before.items() if text is not None and path not in texts}}


def _texts(folder: Path) -> Iterator[tuple[str, str]]:
    """The text files of a folder, but for what tools and editors leave there."""
    for path in sorted(folder.rglob("*")):
        inner = path.relative_to(folder)
        if not path.is_file() or path.is_symlink() or any(p.startswith(".") or p in _LEFT_OUT for p in inner.parts):
            continue
        try:
            yield inner.as_posix(), path.read_bytes().decode()
        except UnicodeDecodeError:
            continue


def _save(folder: Path, path: str, text: str) -> None:
    target = (folder / path).resolve()
    if not target.is_relative_to(folder.resolve()):
        raise InvalidArgument(f"The file {path!r} would be written outside {folder}.")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(text.encode())


def _built(profile: Profile, evaluator: str, version: int) -> dict[str, Any]:
    """The version once its build has ended, or when it takes longer than a build may."""
    deadline = time.monotonic() + _BUILD_SECONDS
    while True:
        found = call(profile, "GET", f"{_path(profile, evaluator)}/versions/{version}")
        if found["state"] != "BUILDING" or time.monotonic() > deadline:
            return found
        time.sleep(0.5)


def _newest(profile: Profile, evaluator: str) -> int:
    found = call(profile, "GET", f"{_path(profile, evaluator)}/versions")["evaluatorVersions"]
    if not found:
        raise FailedPrecondition(f"The evaluator {short(evaluator)} has no source yet. Upload it with `ep upload`.")
    return found[0]["version"]


def _files(profile: Profile, evaluator: str, version: int) -> list[dict[str, Any]]:
    return call(profile, "GET", f"{_path(profile, evaluator)}/versions/{version}/source")["files"]


def _path(profile: Profile, evaluator: str | None = None) -> str:
    return resource_path(profile, "evaluators", evaluator)


def _row(evaluator: dict[str, Any]) -> tuple[str, ...]:
    return (
        short(evaluator["name"]),
        evaluator["state"],
        str(evaluator["version"]),
        evaluator.get("entryPoint", ""),
        moment(evaluator.get("updateTime")),
    )
