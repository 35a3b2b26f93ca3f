"""`tunesmith rftj rollouts|logs|audit|compare|export`: what RFT jobs have done."""

from __future__ import annotations

import json
import shutil
import sys
import time
import urllib.parse
from pathlib import Path
from typing import Any

import click

from tunesmith.cli.client import call, opened, resource_id
from tunesmith.cli.errors import told_plainly
from tunesmith.cli.jobs import FINAL, RFT_JOBS, rft_path, state_of
from tunesmith.cli.listing import print_table, short
from tunesmith.cli.profile import read_profile
from tunesmith.cli.terminal import say

_AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print the API's JSON.")
_FOLLOW_SECONDS = 1.0
_EXPORT_SILENCE_SECONDS = 300.0


@click.command("rollouts")
@click.argument("job")
@click.argument("rollout", required=False)
@click.option("--step", type=click.IntRange(0), help="Of this step.")
@click.option("--epoch", type=click.IntRange(0), help="Of this epoch.")
@click.option("--kind", type=click.Choice(["train", "evaluation", "preflight", "baseline"]), help="What they were for.")
@click.option("--valid/--invalid", "valid", default=None, help="With or without a valid score.")
@click.option("--contains", metavar="TEXT", help="In reason, prompt or answer.")
@click.option(
    "--order-by", metavar="FIELD", default="score desc", show_default=True, help="`score`, `step`, `advantage`, …"
)
@click.option("--limit", type=click.IntRange(1, 200), default=20, show_default=True, help="Most rollouts.")
@_AS_JSON
def rollouts(job: str, rollout: str | None, limit: int, order_by: str, as_json: bool, **narrow: Any) -> None:
    """Rollouts of a job; with a ROLLOUT's id, that one with its messages, score and turns.

    \b
    Examples:
      tunesmith rftj rollouts my-job --step 3
      tunesmith rftj rollouts my-job --invalid --order-by "step desc"
      tunesmith rftj rollouts my-job my-job-c0-r0-k0-a0
    """
    with told_plainly():
        profile = read_profile()
        path = f"{rft_path(profile, job)}/rollouts"
        if rollout is not None:
            found = call(profile, "GET", f"{path}/{urllib.parse.quote(rollout, safe='')}")
        else:
            query = {**narrow, "pageSize": limit, "orderBy": order_by, "view": "SUMMARY"}
            found = call(profile, "GET", f"{path}?{_query(query)}")
    if as_json:
        click.echo(json.dumps(found, indent=2))
    elif rollout is not None:
        _show_rollout(found)
    else:
        rows = [("ROLLOUT", "STEP", "ROW", "SCORE", "TOKENS", "REASON"), *map(_row, found["rollouts"])]
        print_table(rows)
        say(f"{len(found['rollouts'])} of {found['totalSize']} rollouts.")


@click.command("logs")
@click.argument("job")
@click.option("-f", "--follow", is_flag=True, help="Go on until the job ends.")
@click.option(
    "--source", type=click.Choice(["orchestrator", "learner", "evaluator-host", "agent", "job"]), help="Only these."
)
@click.option("--level", type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"]), help="This level and above.")
@click.option("--contains", metavar="TEXT", help="Lines with this text.")
@click.option("--rollout", "rolloutId", metavar="ID", help="Lines about this rollout.")
@click.option("--step", type=click.IntRange(0), help="While this step went on.")
@click.option("--epoch", type=click.IntRange(0), help="While this epoch went on.")
@click.option(
    "--tail", type=click.IntRange(1, 5000), default=200, show_default=True, help="Begin with the last so many."
)
@_AS_JSON
def logs(job: str, follow: bool, tail: int, as_json: bool, **narrow: Any) -> None:
    """Log lines of a job: its processes, its agents, and what happened to it. `--json` prints one object a line.

    \b
    Examples:
      tunesmith rftj logs my-job -f
      tunesmith rftj logs my-job --level WARNING --source evaluator-host
    """
    with told_plainly():
        profile = read_profile()
        path = f"{rft_path(profile, job)}/logs"
        begun = call(profile, "GET", f"{path}?{_query({'tail': 1})}")["lines"]  # from here on nothing is missed
        lines = call(profile, "GET", f"{path}?{_query({**narrow, 'tail': tail})}")["lines"]
        _show_lines(lines, as_json)
        position = (lines or begun)[-1]["position"] if lines or begun else ""
        while follow:
            ended = state_of(call(profile, "GET", rft_path(profile, job))) in FINAL
            lines = call(profile, "GET", f"{path}?{_query({**narrow, 'pageToken': position})}")["lines"]
            _show_lines(lines, as_json)
            position = lines[-1]["position"] if lines else position
            if ended and not lines:
                return
            time.sleep(0 if lines else _FOLLOW_SECONDS)


@click.command("audit")
@click.argument("job")
@_AS_JSON
def audit(job: str, as_json: bool) -> None:
    """What the scores of a job go with besides good answers: length, one answer to several rows, one metric alone. It tells; it
    prevents nothing."""
    with told_plainly():
        profile = read_profile()
        found = call(profile, "GET", f"{rft_path(profile, job)}/audit")
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    length = found["lengthCorrelation"]
    say(f"{found['rollouts']} scored rollouts.")
    if length["spearman"] is not None:
        interval = f"{length['low']:+.2f} to {length['high']:+.2f}"
        say(f"Score against length: rank correlation {length['spearman']:+.2f} (95 % interval {interval}).")
    if found["duplicates"]:
        most = max(found["duplicates"], key=lambda each: each["count"])
        say(f"{found['duplicateShare']:.0%} of the rollouts gave an answer that another row was given, too.")
        shown = " ".join(most["answer"].split())
        say(f"  most often ({most['count']} times, mean score {most['meanScore']:.2f}): {shown[:80]}")
    else:
        say("No answer was given to more than one row.")
    if not found["metricDominance"]:
        say("The evaluator reports no metrics that vary.")
    for metric in found["metricDominance"]:
        say(f"{metric['metric']} explains {metric['share']:.0%} of the score's variance.")
    if second := found["auditEvaluator"]:
        agreement = second["agreement"]
        say(f"Second evaluator {short(second['evaluator'])}: {second['rollouts']} rollouts scored.")
        if agreement["spearman"] is not None:
            between = f"{agreement['low']:+.2f} to {agreement['high']:+.2f}"
            auroc = f", AUROC {second['auroc']:.2f}" if second["auroc"] is not None else ""
            say(f"  Rank correlation with the score {agreement['spearman']:+.2f} (95 % interval {between}){auroc}.")
        for step in second["bySteps"]:
            say(
                f"  step {step['step']:<6} score {step['score']:.3f}  second {step['auditScore']:.3f}  ({step['rollouts']} rollouts)"
            )
    for finding in found["findings"]:
        say(f"\n{finding['severity'].upper()}: {finding['title']}\n  {finding['detail']}")
    if not found["findings"]:
        say("Nothing stands out. That is no proof: read some top-scored rollouts.")


@click.command("compare")
@click.argument("jobs", nargs=-1, required=True)
@_AS_JSON
def compare(jobs: tuple[str, ...], as_json: bool) -> None:
    """Two to eight jobs side by side: scores, time, tokens, cost, and the options in which they differ."""
    with told_plainly():
        profile = read_profile()
        query = urllib.parse.urlencode([("job", resource_id(RFT_JOBS, job)) for job in jobs])
        found = call(profile, "GET", f"{rft_path(profile)}:compare?{query}")
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    rows = [("JOB", "STATE", "FIRST SCORE", "LAST SCORE", "HELD OUT", "SECONDS", "TRAINED TOKENS", "COST")]
    for each in found["jobs"]:
        scores = [point["meanScore"] for point in each["curve"] if point["meanScore"] is not None]
        held_out = each["heldOut"][-1] if each["heldOut"] else None
        cost = each["cost"]
        rows.append(
            (
                short(each["job"]["name"]),
                state_of(each["job"]),
                f"{scores[0]:.3f}" if scores else "",
                f"{scores[-1]:.3f}" if scores else "",
                f"{held_out['score']:.3f} ({held_out['low']:.3f} to {held_out['high']:.3f})" if held_out else "",
                f"{each['seconds']:.0f}",
                str(each["trainedTokens"]),
                f"{cost['amount']:g} {cost['currency']}" if cost else "",
            )
        )
    print_table(rows)
    for difference in found["differences"]:
        shown = " | ".join("-" if value is None else str(value) for value in difference["values"])
        say(f"{difference['field']}: {shown}")


@click.command("export")
@click.argument("job")
@click.option("--what", type=click.Choice(["rollouts", "metrics"]), default="rollouts", show_default=True)
@click.option("--format", "form", type=click.Choice(["jsonl", "csv", "json"]), default="jsonl", show_default=True)
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="File to write (default: standard output)."
)
def export(job: str, what: str, form: str, output: Path | None) -> None:
    """Save a job's rollouts or metrics."""
    with told_plainly():
        profile = read_profile()
        path = f"{rft_path(profile, job)}/export?{_query({'what': what, 'format': form})}"
        with opened(profile, "GET", path, silence=_EXPORT_SILENCE_SECONDS) as response:
            if output is None:
                if sys.stdout.isatty():
                    for line in response:
                        say(line.decode(errors="replace"), nl=False)
                    return
                shutil.copyfileobj(response, sys.stdout.buffer)
                sys.stdout.buffer.flush()
                return
            partial = output.with_name(f".{output.name}.partial")
            with partial.open("wb") as file:
                shutil.copyfileobj(response, file)
            partial.replace(output)
    say(f"Saved {output}.")


def _show_rollout(found: dict[str, Any]) -> None:
    score = "invalid" if found["score"] is None else f"{found['score']:.3f}"
    say(f"{found['rolloutId']}: step {found['step']}, row {found['rowIndex']}, version {found['version']}")
    say(f"Score {score}: {found['reason']}")
    for name, value in (found["metrics"] or {}).items():
        say(f"  {name} {value:g}")
    for message in found["row"].get("messages") or []:
        content = message.get("content")
        say(f"\n[{message.get('role')}] {content if isinstance(content, str) else json.dumps(content or message)}")
    for turn in found["turns"]:
        sampled = [token for token in turn["tokens"] if token["sampled"]]
        say(f"\nTurn {turn['turn']}: {len(sampled)} tokens sampled, ended by {turn['finishReason']}.")


def _show_lines(lines: list[dict[str, Any]], as_json: bool) -> None:
    for line in lines:
        if as_json:
            click.echo(json.dumps(line))
        else:
            about = f" {line['rolloutId']}:" if line["rolloutId"] else ""
            say(f"{line['time'][:19]} {line['level']:<7} {line['source']:<14}{about} {line['message']}")


def _row(rollout: dict[str, Any]) -> tuple[str, ...]:
    score = "invalid" if rollout["score"] is None else f"{rollout['score']:.3f}"
    tokens = rollout["completionTokens"]
    reason = " ".join(rollout["reason"].split())[:60]
    return (rollout["rolloutId"], str(rollout["step"]), str(rollout["rowIndex"]), score, str(tokens or ""), reason)


def _query(values: dict[str, Any]) -> str:
    given = {name: str(value).lower() if isinstance(value, bool) else value for name, value in values.items()}
    return urllib.parse.urlencode({name: value for name, value in given.items() if value is not None})
