"""`tunesmith job`: what can be done with a training job beyond running it."""

from __future__ import annotations

import click

from tunesmith.cli.job_export import export_step
from tunesmith.cli.job_extend import extend_job
from tunesmith.cli.job_promote import promote_step


@click.group("job")
def command() -> None:
    """What a job has learned, taken further.

    \b
    Examples:
      tunesmith job extend my-job --epochs 1
      tunesmith job promote my-job --step 12
      tunesmith job export my-job --step 3
    """


for _verb in (extend_job, promote_step, export_step):
    command.add_command(_verb)
