"""`tunesmith job`: what can be done with a training job beyond running it."""

from __future__ import annotations

import click

from tunesmith.cli.job_export import export_step


@click.group("job")
def command() -> None:
    """What a job has learned, taken further.

    \b
    Examples:
      tunesmith job export my-job --step 3
    """


for _verb in (export_step,):
    command.add_command(_verb)
