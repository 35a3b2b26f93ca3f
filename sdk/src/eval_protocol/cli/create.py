"""`ep create rft`: the flags and their help. The five steps themselves are in `rft.py`, imported when the command runs."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

import click

from eval_protocol.cli.rft_options import LATER, check_body, job_body, job_flags, sections
from eval_protocol.cli.session import Invocation, reports_errors

SIMILAR = 0.8
"""How like a flag must be to be suggested, 0 to 1: at Click's own 0.6, `--epoch` brings up `--dpo` and `--project`."""


class GroupedCommand(click.Command):
    """A command whose help lists its flags in sections, and which suggests only flags that were likely meant."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse; an unknown flag gets suggestions of our own. Raises click's UsageErrors."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            likely = get_close_matches(error.option_name, self._useful_flags(ctx), cutoff=SIMILAR)
            raise click.NoSuchOption(error.option_name, possibilities=likely, ctx=error.ctx) from None

    def _useful_flags(self, ctx: click.Context) -> list[str]:
        later = {name for title, names in sections() if title == LATER for name in names}
        return [flag for parameter in self.get_params(ctx) if parameter.name not in later for flag in parameter.opts]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The flags of the workflow first, then those of the job by theme, then the refused ones."""
        titles = {parameter: title for title, names in sections() for parameter in names}
        grouped: dict[str, list[tuple[str, str]]] = {"Workflow": []} | {title: [] for title, _ in sections()}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record and parameter.name:
                grouped[titles.get(parameter.name, "Workflow")].append(record)
        for title, records in grouped.items():
            with formatter.section(title):
                formatter.write_dl(_short(records) if title == LATER else records, col_max=34)


def _short(records: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Only the first name of each flag: their aliases are of no use to anybody."""
    return [(names.split(",")[0].split(" ")[0], reason) for names, reason in records]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def create() -> None:
    """Start a job on the platform."""


@create.command(
    "rft",
    cls=GroupedCommand,
    epilog="Example: ep create rft --base-model accounts/tunesmith/models/tiny-math-v1 --epochs 2 --n 8 --wait",
)
@click.option("--yes", "-y", is_flag=True, help="Ask nothing; needs exactly one evaluator here, or --evaluator.")
@click.option("--dry-run", is_flag=True, help="Show what would be sent, and change nothing anywhere.")
@click.option("--force", is_flag=True, help="Upload the evaluator even if its source did not change.")
@click.option(
    "--skip-validation",
    is_flag=True,
    help="Do not run the evaluator on a few rows here first. The dataset is checked all the same.",
)
@click.option(
    "--wait", is_flag=True, help="Follow the job to its end. Exit status 0 if it completed or stopped early, else 1."
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print one JSON object on stdout at the end; everything else goes to stderr.",
)
@click.option(
    "--dataset",
    metavar="ID|FILE",
    help="Rows to train on: a dataset id, or a JSONL file. Default: the test's input_dataset.",
)
@click.option(
    "--evaluator",
    metavar="ID",
    help="Evaluator to train against, here or on the platform. Default: the one found here.",
)
@click.option(
    "--reinforcement-fine-tuning-job-id",
    "--job-id",
    "job_id",
    metavar="ID",
    help="Id of the job. Default: a random one.",
)
@click.option("--env-file", metavar="FILE", help="File of secrets to upload. Default: .env of the project.")
@click.option("--ignore-docker", is_flag=True, help="Validate on this machine although there is a Dockerfile.")
@click.option("--docker-build-extra", default="", metavar="ARGS", help="More arguments for docker build.")
@click.option("--docker-run-extra", default="", metavar="ARGS", help="More arguments for docker run.")
@click.option("--source-job", metavar="JOB", help="Accepted for the published client's scripts; has no effect.")
@click.option("--quiet", is_flag=True, help="Accepted for the published client's scripts; has no effect.")
@job_flags
@click.pass_obj
@reports_errors
def rft(invocation: Invocation, **values: Any) -> int:
    """Train a model against an evaluator, with one command.

    Uploads secrets and evaluator, waits until it is built, creates the dataset and launches the job. Run it in the folder that
    holds the evaluator and its requirements.txt.
    """
    from eval_protocol.cli.plan import Request
    from eval_protocol.cli.rft import create_rft

    for inert in ("source_job", "quiet"):
        del values[inert]
    body = job_body(values)
    check_body(body)
    return create_rft(invocation, Request(body=body, **values))
