"""What `tunesmith sftj` and `tunesmith dpoj` share: flags of a create, following a job, and the commands on existing ones."""

from __future__ import annotations

import json
import sys
import time
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from tunesmith.cli import transfer
from tunesmith.cli.client import ApiError, call, resource_id, resource_path
from tunesmith.cli.errors import told_plainly
from tunesmith.cli.jobs import FINAL, state_of
from tunesmith.cli.listing import list_options, moment, print_fields, short, show
from tunesmith.cli.profile import Profile, read_profile
from tunesmith.cli.terminal import plain, say
from tunesmith.errors import NotFound, Unavailable

_POLL_SECONDS = 0.5
_AWAY_SECONDS = 60.0
"""How long a platform that does not answer is waited for: it may be restarting."""
_DELETE_SECONDS = 10.0
"""How long `delete` waits for the worker to have removed the job."""

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print the API's JSON.")
_SCHEDULES = click.Choice(["constant", "linear", "cosine"])
_HISTORIES = click.Choice(["interleaved", "preserved"])
_CREATE_OPTIONS = (
    click.option("--dataset", help="Id or full name of the dataset to train on."),
    click.option("--base-model", help="Base model: this or --warm-start-from."),
    click.option("--warm-start-from", help="An adapter of yours to continue from."),
    click.option("--output-model", help="Id of the model that is made (default: the job's id)."),
    click.option("--job-id", help="Id of the job (default: random)."),
    click.option("--display-name", help="Name for people."),
    click.option("--source-job", help="Take every option that is not given here from this job."),
    click.option("--epochs", type=float, help="Passes over the rows; a fraction stops within a pass (default 1)."),
    click.option("--learning-rate", type=float, help="Default: the base model's."),
    click.option("--learning-rate-warmup-steps", type=int, help="Steps of linear warm-up (default 0)."),
    click.option("--learning-rate-scheduler", type=_SCHEDULES, help="How it goes on after that (default constant)."),
    click.option(
        "--learning-rate-min-lr-ratio", type=float, help="Floor, as a share of the learning rate (default 0)."
    ),
    click.option("--learning-rate-decay-ratio", type=float, help="Share of the run in which it falls (default: all)."),
    click.option("--lora-rank", type=int, help="1, 2, 4, 8, 16 or 32; 0: full parameters."),
    click.option("--full-parameter-tuning", is_flag=True, help="The same as --lora-rank 0."),
    click.option("--batch-size-samples", type=int, help="Samples, or pairs, of an optimizer step."),
    click.option("--max-context-length", type=int, help="Longer samples are cut there, in tokens."),
    click.option("--optimizer-weight-decay", type=float, help="Default 0.01."),
    click.option("--evaluation-dataset", help="Held-out rows: the best checkpoint on them becomes the model."),
    click.option("--eval-auto-carveout", is_flag=True, help="Hold a tenth of the rows out instead (at most 100)."),
    click.option(
        "--thinking-trace-history-mode", type=_HISTORIES, help="Earlier thinking traces (default: the model's)."
    ),
    click.option("--dry-run", is_flag=True, help="Have the options checked, dataset aside; nothing is made."),
    click.option("--wait", is_flag=True, help="Follow the job; exit status 1 unless it completes."),
    as_json_option,
)
_WIRE = {
    "base_model": "baseModel",
    "warm_start_from": "warmStartFrom",
    "output_model": "outputModel",
    "epochs": "epochs",
    "learning_rate": "learningRate",
    "learning_rate_warmup_steps": "learningRateWarmupSteps",
    "lora_rank": "loraRank",
    "batch_size_samples": "batchSizeSamples",
    "max_context_length": "maxContextLength",
    "optimizer_weight_decay": "optimizerWeightDecay",
}
_JOB_WIRE = {"dataset": "dataset", "evaluation_dataset": "evaluationDataset", "display_name": "displayName"}
_COPIED_JOB = ("dataset", "evaluationDataset", "evalAutoCarveout", "thinkingTraceHistoryMode")
_COPIED_TRAINING = ("lrScheduler", *(name for name in _WIRE.values() if name != "outputModel"))


@dataclass(frozen=True)
class Kind:
    """A kind of job as its commands see it."""

    command: str
    noun: str
    id_query: str
    nested: bool
    """Whether the training options are in `trainingConfig`."""
    what: str

    def path(self, profile: Profile, job: str | None = None) -> str:
        """Path of the collection, or of one job by its id or full name."""
        return resource_path(profile, self.noun, job)

    def training(self, job: Mapping[str, Any]) -> Mapping[str, Any]:
        """The training options of a job as the API shows it."""
        return job.get("trainingConfig") or {} if self.nested else job


def create_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the flags that `create` takes."""
    for option in reversed(_CREATE_OPTIONS):
        command = option(command)
    return command


def create(kind: Kind, flags: dict[str, Any], loss_config: dict[str, Any] | None = None) -> None:
    """Create a job from the flags of `create_options`, and follow it where that was asked for."""
    as_json = flags["as_json"]
    with told_plainly():
        profile = read_profile()
        body = _body(kind, profile, flags, loss_config)
        if flags["dry_run"]:
            call(profile, "POST", f"{kind.path(profile)}:validate", {"dataset": "none", **body})
            click.echo(json.dumps(body, indent=2) if as_json else "The options are valid. Nothing was made.")
            return
        if "dataset" not in body:
            raise click.UsageError("Give --dataset, the id of a dataset (see `tunesmith dataset create`).")
        query = (
            urllib.parse.urlencode({kind.id_query: resource_id(kind.noun, flags["job_id"])}) if flags["job_id"] else ""
        )
        job = call(profile, "POST", f"{kind.path(profile)}?{query}", body)
        if not as_json:
            say(f"Created {kind.what} job {job['name']}; it makes {kind.training(job)['outputModel']}.")
            for note in job.get("notes") or []:
                say(f"Note: {note['option']} has no effect: {note['reason']}.")
        if flags["wait"]:
            job = _watched(kind, profile, job["name"], quiet=as_json)
    if as_json:
        click.echo(json.dumps(job, indent=2))
    elif flags["wait"]:
        say(f"{state_of(job)}: {(job.get('status') or {}).get('message', '')}")
        if state_of(job) == "COMPLETED":
            say(f"Call it by its name: {kind.training(job)['outputModel']}")
    else:
        say(f"See `tunesmith {kind.command} get {short(job['name'])}`.")
    if flags["wait"] and state_of(job) != "COMPLETED":
        sys.exit(1)


def _watched(kind: Kind, profile: Profile, job: str, *, quiet: bool) -> dict[str, Any]:
    try:
        return follow(kind, profile, job, quiet=quiet)
    except KeyboardInterrupt:
        say(f"The job goes on; see `tunesmith {kind.command} get {short(job)}`.", err=True)
        sys.exit(130)


def follow(kind: Kind, profile: Profile, job: str, *, quiet: bool = False) -> dict[str, Any]:
    """Show a job's progress until it has ended. Returns the job."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    console = Console(stderr=True, quiet=quiet)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[figures]}"))
    told = ""
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal, transient=True) as progress:
        bar = progress.add_task(short(job), total=100, figures="")
        while True:
            found = _found(profile, kind.path(profile, job), console.print)
            line = f"{state_of(found)}  {figures(found)}".rstrip()
            percent = (found.get("jobProgress") or {}).get("percent", 0)
            progress.update(bar, completed=percent, figures=line)
            if not console.is_terminal and line != told:
                console.print(line, highlight=False, soft_wrap=True)
                told = line
            if state_of(found) in FINAL:
                return found
            time.sleep(_POLL_SECONDS)


def _found(profile: Profile, path: str, tell: Callable[[str], None]) -> dict[str, Any]:
    """A job, also where the platform is away for a moment. Raises Unavailable when it stays away."""
    deadline = time.monotonic() + _AWAY_SECONDS
    told = False
    while True:
        try:
            return call(profile, "GET", path)
        except Unavailable as error:
            if time.monotonic() > deadline:
                raise
            if not told:
                tell(f"{error.message} Waiting for it.")
            told = True
            time.sleep(_POLL_SECONDS)


def figures(job: Mapping[str, Any]) -> str:
    """A job's latest figures in one line."""
    run, progress = job.get("run") or {}, job.get("jobProgress") or {}
    if queue := job.get("queue"):
        return f"place {queue['position']} in the queue: {queue['waitingFor']}"
    parts = [f"{progress.get('percent', 0)} %"]
    if run.get("total_steps"):
        parts.append(f"step {run.get('step', 0)} of {run['total_steps']}")
    for name, label in (("loss", "loss"), ("eval_loss", "eval loss")):
        if run.get(name) is not None:
            parts.append(f"{label} {run[name]:.4f}")
    if run.get("seconds_left") is not None and state_of(job) not in FINAL:
        parts.append(f"{run['seconds_left']:.0f} s left")
    return ", ".join(parts)


def add_commands(group: click.Group, kind: Kind) -> None:
    """Give a group the commands on existing jobs."""

    @group.command("list")
    @list_options
    def list_jobs(**flags: Any) -> None:
        """List the jobs, newest first."""
        with told_plainly():
            profile = read_profile()
            header = ("JOB", "STATE", "PROGRESS", "MODEL", "CREATED")
            nothing = f"No {kind.what} jobs yet. Start one with `tunesmith {kind.command} create`."
            show(profile, kind.path(profile), kind.noun, header, lambda job: _row(kind, job), nothing, **flags)

    @group.command("get")
    @click.argument("job")
    @as_json_option
    def get_job(job: str, as_json: bool) -> None:
        """Show one job: state, figures, options, notes."""
        with told_plainly():
            profile = read_profile()
            found = call(profile, "GET", kind.path(profile, job))
        if as_json:
            click.echo(json.dumps(found, indent=2))
        else:
            print_fields(_details(kind, found))

    @group.command("cancel")
    @click.argument("job")
    @as_json_option
    def cancel_job(job: str, as_json: bool) -> None:
        """Ask for a job to be cancelled. Its checkpoints stay until it is deleted."""
        with told_plainly():
            profile = read_profile()
            found = call(profile, "GET", kind.path(profile, job))
            answer = call(profile, "POST", f"{kind.path(profile, job)}:cancel", {})
        if as_json:
            click.echo(json.dumps(answer, indent=2))
        elif state_of(found) in FINAL:
            say(f"{short(job)} has ended already ({state_of(found)}); there is nothing to cancel.")
        else:
            say(f"Cancelling {short(job)}; see `tunesmith {kind.command} get {short(job)}`.")

    @group.command("resume")
    @click.argument("job")
    @click.option("--wait", is_flag=True, help="Follow the job; exit status 1 unless it completes.")
    @as_json_option
    def resume_job(job: str, wait: bool, as_json: bool) -> None:
        """Have a failed job go on from its last checkpoint."""
        with told_plainly():
            profile = read_profile()
            found = call(profile, "POST", f"{kind.path(profile, job)}:resume", {})
            if wait:
                found = _watched(kind, profile, job, quiet=as_json)
        if as_json:
            click.echo(json.dumps(found, indent=2))
        else:
            say(f"{short(job)}: {state_of(found)}. {(found.get('status') or {}).get('message', '')}")
        if wait and state_of(found) != "COMPLETED":
            sys.exit(1)

    @group.command("delete")
    @click.argument("job")
    @as_json_option
    def delete_job(job: str, as_json: bool) -> None:
        """Delete a job and its files. A running one is cancelled first; the model that it made stays."""
        with told_plainly():
            profile = read_profile()
            answer = call(profile, "DELETE", kind.path(profile, job))
            gone = _is_gone(kind, profile, job)
        if as_json:
            click.echo(json.dumps(answer, indent=2))
        elif gone:
            say(f"Deleted {short(job)}.")
        else:
            say(f"Deleting {short(job)}; its process is being stopped and its files removed.")

    _add_file_command(group, kind, "metrics", "metricsFileSignedUrl", "Print a job's metrics, one JSON object a line.")
    _add_file_command(
        group,
        kind,
        "render-samples",
        "renderSamplesSignedUrl",
        "Print the first samples as they are trained: token ids, tokens, weights. They hold training text.",
    )
    _add_file_command(group, kind, "logs", "trainerLogsSignedUrl", "Print what the training process wrote.")


def _add_file_command(group: click.Group, kind: Kind, name: str, field: str, help: str) -> None:
    @group.command(name, help=help)
    @click.argument("job")
    @click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Save it as this file instead.")
    @as_json_option
    def get_file(job: str, output: Path | None, as_json: bool) -> None:
        with told_plainly():
            profile = read_profile()
            url = call(profile, "GET", kind.path(profile, job)).get(field)
            if url is None:
                raise NotFound(
                    f"The job {short(job)} has no {name} yet; see `tunesmith {kind.command} get {short(job)}`."
                )
            content = b"" if as_json else transfer.fetch(url)
            if output and not as_json:
                transfer.download(url, output)
        if as_json:
            click.echo(json.dumps({field: url}, indent=2))
        elif output:
            say(f"Saved {output}.")
        else:
            # A file or a program gets it as it is.
            click.echo(plain(content.decode(errors="replace")) if sys.stdout.isatty() else content, nl=False)


def _body(kind: Kind, profile: Profile, flags: dict[str, Any], loss_config: dict[str, Any] | None) -> dict[str, Any]:
    job: dict[str, Any] = {}
    training: dict[str, Any] = {}
    if flags["source_job"]:
        source = call(profile, "GET", kind.path(profile, flags["source_job"]))
        job = {name: source[name] for name in _COPIED_JOB if name in source}
        training = {name: kind.training(source)[name] for name in _COPIED_TRAINING if name in kind.training(source)}
        loss_config = {**(source.get("lossConfig") or {}), **loss_config} if loss_config is not None else None
        if flags["base_model"] or flags["warm_start_from"]:
            training = {name: value for name, value in training.items() if name not in ("baseModel", "warmStartFrom")}
        if flags["evaluation_dataset"] or flags["eval_auto_carveout"]:
            job = {name: value for name, value in job.items() if name not in ("evaluationDataset", "evalAutoCarveout")}
    job |= {wire: flags[name] for name, wire in _JOB_WIRE.items() if flags[name] is not None}
    training |= {wire: flags[name] for name, wire in _WIRE.items() if flags[name] is not None}
    if flags["eval_auto_carveout"]:
        job["evalAutoCarveout"] = True
    if flags["thinking_trace_history_mode"]:
        job["thinkingTraceHistoryMode"] = f"THINKING_TRACE_HISTORY_MODE_{flags['thinking_trace_history_mode'].upper()}"
    if flags["full_parameter_tuning"]:
        if flags["lora_rank"]:
            raise click.UsageError("--full-parameter-tuning and --lora-rank contradict each other; give one of them.")
        training["loraRank"] = 0
    scheduler = _scheduler(flags)
    if scheduler is not None:
        training["lrScheduler"] = scheduler
    body = {**job, "trainingConfig": training} if kind.nested else {**job, **training}
    return {**body, "lossConfig": loss_config} if loss_config else body


def _scheduler(flags: dict[str, Any]) -> dict[str, Any] | None:
    given = {
        "minLrRatio": flags["learning_rate_min_lr_ratio"],
        "decayRatio": flags["learning_rate_decay_ratio"],
    }
    decay = {name: value for name, value in given.items() if value is not None}
    named = flags["learning_rate_scheduler"]
    if decay and named in (None, "constant"):
        raise click.UsageError(
            "--learning-rate-min-lr-ratio and --learning-rate-decay-ratio go with --learning-rate-scheduler linear or cosine."
        )
    return None if named is None else {named: decay}


def _is_gone(kind: Kind, profile: Profile, job: str) -> bool:
    deadline = time.monotonic() + _DELETE_SECONDS
    while time.monotonic() < deadline:
        try:
            call(profile, "GET", kind.path(profile, job))
        except ApiError as error:
            if error.status == 404:
                return True
            raise
        time.sleep(0.2)
    return False


def _row(kind: Kind, job: dict[str, Any]) -> tuple[str, ...]:
    model = short(str(kind.training(job).get("outputModel", "")))
    return (short(job["name"]), state_of(job), figures(job), model, moment(job.get("createTime")))


def _details(kind: Kind, job: dict[str, Any]) -> list[tuple[str, str]]:
    training, run = kind.training(job), job.get("run") or {}
    best = ""
    if run.get("best_step") is not None and run.get("best_eval_loss") is not None:
        best = f"step {run['best_step']}, eval loss {run['best_eval_loss']:.4f}"
    rank = training.get("loraRank")
    return [
        ("Job", job["name"]),
        ("State", state_of(job)),
        ("Message", (job.get("status") or {}).get("message", "")),
        ("Progress", figures(job)),
        ("Best", best),
        ("Base model", training.get("baseModel") or ""),
        ("Continues", training.get("warmStartFrom") or ""),
        ("Model", str(training.get("outputModel", ""))),
        ("Dataset", job.get("dataset", "")),
        ("Held out", str(job.get("evaluationDataset") or ("a tenth" if job.get("evalAutoCarveout") else ""))),
        ("Epochs", f"{training.get('epochs', 0):g}"),
        ("Learning rate", f"{training.get('learningRate', 0):g} ({', '.join(training.get('lrScheduler') or {})})"),
        ("LoRA rank", "full parameters" if rank == 0 else str(rank)),
        ("Batch", str(training.get("batchSizeSamples", ""))),
        ("Loss", json.dumps(job["lossConfig"]) if job.get("lossConfig") else ""),
        ("Created", moment(job.get("createTime"))),
        ("Completed", moment(job.get("completedTime"))),
        *(("Note", f"{note['option']}: {note['reason']}") for note in job.get("notes") or []),
    ]
