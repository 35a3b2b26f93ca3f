"""`tunesmith session`: the Agent, from an instruction or a plan to a deployed model."""

from __future__ import annotations

import json
import re
import sys
import urllib.parse
from pathlib import Path
from typing import Any

import click
import yaml

from tunesmith.cli.client import call, fetch, resource_id, resource_path
from tunesmith.cli.errors import told_plainly
from tunesmith.cli.listing import list_options, moment, print_fields, short, show
from tunesmith.cli.profile import Profile, read_profile
from tunesmith.cli.session_events import line_of, past_events, print_followed
from tunesmith.cli.yaml_numbers import Loader
from tunesmith.errors import FailedPrecondition, InvalidArgument

_PICTURE = re.compile(r"!\[[^\]]*\]\((?:\./)?([\w-][\w.-]*)\)")
"""A picture of the report itself: a plain file name."""
_FAILED = {"failed", "cancelled"}

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print the API's JSON.")
yes_option = click.option("--yes", is_flag=True, help="Do not ask.")
wait_option = click.option(
    "--wait", is_flag=True, help="Print events until the session waits or has ended; exit status 1 if it failed."
)


@click.group("session")
def command() -> None:
    """Sessions of the Agent: data inspection, plan, sweep, training, evaluation, deployment, report.

    \b
    Examples:
      tunesmith session create --wait --instruction "Run SFT on accounts/local/datasets/math with qwen3-0p6b for 2 epochs."
      tunesmith session create --plan plan.yaml
      tunesmith session send ID "Approved, proceed." --wait
      tunesmith session events ID --wait
      tunesmith session list --filter "status=waiting"
      tunesmith session get ID --report final_report.md
    """


@command.command("create")
@click.option("--instruction", help="What to do, in plain English.")
@click.option(
    "--plan", "plan_file", type=click.Path(path_type=Path), help="A plan as YAML or JSON; - reads it from stdin."
)
@click.option("--session-id", help="Id of the session (default: made from the time).")
@click.option("--display-name", help="Name for people.")
@click.option(
    "--scope", type=click.Choice(["optimize"]), default="optimize", show_default=True, help="What to work on."
)
@wait_option
@as_json_option
def create_session(
    instruction: str | None,
    plan_file: Path | None,
    session_id: str | None,
    display_name: str | None,
    scope: str,
    wait: bool,
    as_json: bool,
) -> None:
    """Start a session. Nothing is trained before you approve its plan."""
    body: dict[str, Any] = {"instruction": instruction, "displayName": display_name, "scope": scope}
    with told_plainly():
        if plan_file is not None:
            body["plan"] = read_plan(plan_file)
        if not instruction and plan_file is None:
            raise InvalidArgument("Say what to do: --instruction TEXT, or --plan FILE, or both.")
        profile = read_profile()
        query = urllib.parse.urlencode({"sessionId": resource_id("sessions", session_id)}) if session_id else ""
        made = call(profile, "POST", f"{_path(profile)}?{query}", {k: v for k, v in body.items() if v is not None})
        if not as_json:
            click.echo(f"Session ID: {short(made['name'])}")
        elif not wait:
            click.echo(json.dumps(made, indent=2))
        ended = print_followed(profile, _path(profile, made["name"]), 0, as_json) if wait else made
    _leave(ended, wait)


@command.command("events")
@click.argument("session")
@click.option("--after", type=click.IntRange(0), default=0, help="Only events behind this number.")
@wait_option
@click.option("--json", "as_json", is_flag=True, help="Print each event as a line of JSON.")
def list_events(session: str, after: int, wait: bool, as_json: bool) -> None:
    """Print what happened, oldest first."""
    with told_plainly():
        profile = read_profile()
        path = _path(profile, session)
        if wait:
            _leave(print_followed(profile, path, after, as_json), wait)
        for event in past_events(profile, path, after) if not wait else ():
            click.echo(json.dumps(event) if as_json else line_of(event))


@command.command("send")
@click.argument("session")
@click.argument("message", required=False)
@click.option(
    "--plan", "plan_file", type=click.Path(path_type=Path), help="A plan in the place of the one not approved yet."
)
@wait_option
@as_json_option
def send_message(session: str, message: str | None, plan_file: Path | None, wait: bool, as_json: bool) -> None:
    """Answer a question, approve, revise, or ask something; with --wait prints what comes of it."""
    with told_plainly():
        if (message is None) == (plan_file is None):
            raise InvalidArgument('Send either a message ("Approved, proceed.") or --plan FILE.')
        body: dict[str, Any] = {"message": message} if plan_file is None else {"plan": read_plan(plan_file)}
        profile = read_profile()
        path = _path(profile, session)
        seen = 0
        for event in past_events(profile, path):
            seen = event["sequence"]
        found = call(profile, "POST", f"{path}:send", body)
        if wait:
            found = print_followed(profile, path, seen, as_json)
        elif as_json:
            click.echo(json.dumps(found, indent=2))
        else:
            for event in past_events(profile, path, seen):
                click.echo(line_of(event))
            click.echo(f"[done] session status: {found['state']}")
    _leave(found, wait)


@command.command("list")
@list_options
def list_sessions(**flags: Any) -> None:
    """List the sessions, newest first."""
    with told_plainly():
        profile = read_profile()
        header = ("SESSION", "STATUS", "PHASE", "CREATED", "MESSAGE")
        show(profile, _path(profile), "sessions", header, _row, "No sessions yet: `tunesmith session create`.", **flags)


@command.command("get")
@click.argument("session")
@click.option(
    "--report", type=click.Path(path_type=Path), metavar="FILE", help="Save the final report, its pictures beside it."
)
@as_json_option
def get_session(session: str, report: Path | None, as_json: bool) -> None:
    """Show one session: what it does, what it waits for, what it found."""
    with told_plainly():
        profile = read_profile()
        found = call(profile, "GET", _path(profile, session))
        files = save_report(profile, _path(profile, session), report) if report else []
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for file in files:
        click.echo(f"Saved {file}")
    if not files:
        print_fields(_details(found))


@command.command("update")
@click.argument("session")
@click.option("--display-name", required=True, help="Name for people.")
@yes_option
@as_json_option
def update_session(session: str, display_name: str, yes: bool, as_json: bool) -> None:
    """Give a session another name."""
    _confirm(yes, f"Rename session {short(session)} to {display_name!r}?")
    with told_plainly():
        profile = read_profile()
        found = call(profile, "PATCH", _path(profile, session), {"displayName": display_name})
    click.echo(json.dumps(found, indent=2) if as_json else f"Renamed {short(session)} to {found['displayName']}.")


@command.command("cancel")
@click.argument("session")
@yes_option
def cancel_session(session: str, yes: bool) -> None:
    """End a session and its running jobs; what they made stays."""
    _confirm(yes, f"Cancel session {short(session)} and its running jobs?")
    with told_plainly():
        profile = read_profile()
        path = _path(profile, session)
        before = call(profile, "GET", path)["state"]
        call(profile, "POST", f"{path}:cancel", {})
    ended = before in ("succeeded", *_FAILED)
    click.echo(f"{short(session)} has ended already ({before})." if ended else f"Cancelled {short(session)}.")


@command.command("delete")
@click.argument("session")
@yes_option
def delete_session(session: str, yes: bool) -> None:
    """Remove a session and its history; models, datasets and deployments stay."""
    _confirm(yes, f"Delete session {short(session)} and its history?")
    with told_plainly():
        profile = read_profile()
        call(profile, "DELETE", _path(profile, session))
    click.echo(f"Deleted {short(session)}.")


@command.command("compare")
@click.argument("base", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("tuned", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def compare_scored(base: Path, tuned: Path, as_json: bool) -> None:
    """Compare two models on the same scored rows, as a session's report does. Needs no platform.

    The files are downloads of the datasets that evaluations wrote; the report names them.

    \b
    Example:
      tunesmith dataset download ds-ID-scored-report-base-t7
      tunesmith dataset download ds-ID-scored-report-final
      tunesmith session compare ds-ID-scored-report-base-t7.jsonl ds-ID-scored-report-final.jsonl
    """
    from tunesmith.agent.statistics import compare_scores, score_interval

    with told_plainly():
        scores = [read_scores(file) for file in (base, tuned)]
        if len(scores[0]) != len(scores[1]):
            raise InvalidArgument(
                f"{base} has {len(scores[0])} rows and {tuned} has {len(scores[1])}: they were not scored on the same rows."
            )
        found = compare_scores(*scores)
    intervals = [*map(score_interval, scores), found.difference]
    if as_json:
        names = ("base", "tuned", "difference")
        parts = {name: one.dump() for name, one in zip(names, intervals, strict=True)}
        click.echo(json.dumps({**parts, "pValue": found.p_value}, indent=2))
        return
    for name, one in zip((str(base), str(tuned), "difference, paired"), intervals, strict=True):
        click.echo(f"{name}: {one.mean:.4f} [{one.low:.4f}, {one.high:.4f}], {one.rows} rows, {one.invalid} invalid")
    click.echo(f"p-value, two-sided: {found.p_value:.4g}")


def read_scores(file: Path) -> list[float | None]:
    """The score of each row of a scored dataset; None where it is not valid. Raises InvalidArgument naming the line."""
    scores: list[float | None] = []
    for number, line in enumerate(file.read_text().splitlines(), start=1):
        try:
            result = json.loads(line)["evaluation_result"]
            scores.append(float(result["score"]) if result["is_score_valid"] else None)
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidArgument(
                f"{file}, line {number}: no scored row. Give datasets that an evaluation job wrote (`ds-...-scored-...`)."
            ) from error
    return scores


def read_plan(file: Path) -> dict[str, Any]:
    """A plan from a YAML or JSON file. Raises InvalidArgument saying where it is wrong."""
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text()
        plan = _parsed(text)
    except OSError as error:
        raise InvalidArgument(f"The plan {file} cannot be read ({error.strerror}).") from error
    except (ValueError, yaml.YAMLError) as error:
        raise InvalidArgument(f"The plan {file} is neither YAML nor JSON: {error}") from error
    if not isinstance(plan, dict):
        raise InvalidArgument(
            f"The plan {file} must be one object with the fields of a plan (GET …/sessionPlanSchema)."
        )
    return plan


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return yaml.load(text, Loader)


def save_report(profile: Profile, path: str, target: Path) -> list[Path]:
    """Save a session's report at `target` and its pictures beside it; the files. Raises FailedPrecondition when that fails."""
    text = fetch(profile, "GET", f"{path}/report").decode()
    saved = [target]
    try:
        target.write_text(text)
        for picture in dict.fromkeys(_PICTURE.findall(text)):
            saved.append(target.parent / picture)
            saved[-1].write_bytes(fetch(profile, "GET", f"{path}/report/{picture}"))
    except OSError as error:
        raise FailedPrecondition(
            f"{saved[-1]} cannot be written ({error.strerror}). Choose another --report."
        ) from error
    return saved


def _confirm(yes: bool, question: str) -> None:
    if not yes:
        click.confirm(question, abort=True, err=True)


def _leave(session: dict[str, Any], waited: bool) -> None:
    if waited and session["state"] in _FAILED:
        sys.exit(1)


def _path(profile: Profile, session: str | None = None) -> str:
    return resource_path(profile, "sessions", session)


def _details(session: dict[str, Any]) -> list[tuple[str, str]]:
    gate, deployed = session.get("pendingGate") or {}, session.get("deployed") or {}
    winner, status = session.get("winner"), session.get("status") or {}
    return [
        ("Session", session["name"]),
        ("Name", session.get("displayName", "")),
        ("Status", session["state"]),
        ("Phase", session["phase"]),
        ("Message", session.get("message", "")),
        ("Error", status.get("message", "") if status.get("code", "OK") != "OK" else ""),
        ("Instruction", session.get("instruction", "")),
        ("Created", moment(session.get("createTime"))),
        ("Spent", f"{session.get('spentSeconds', 0):.0f} s"),
        ("Winner", f"candidate {winner}" if winner else ""),
        ("Held out", (session.get("heldOut") or {}).get("statement", "")),
        ("Model", deployed.get("model", "")),
        ("Deployment", deployed.get("deployment", "")),
        ("Report", session.get("reportUrl") or ""),
        ("Waits for", gate.get("text", "")),
    ]


def _row(session: dict[str, Any]) -> tuple[str, ...]:
    message = (session.get("message") or "").splitlines()
    made = moment(session.get("createTime"))
    return (short(session["name"]), session["state"], session["phase"], made, message[0][:80] if message else "")
