"""`tunesmith sftj`: supervised fine-tuning from the terminal, through the same API as everything else."""

from __future__ import annotations

from typing import Any

import click

from tunesmith.cli.tuning_jobs import Kind, add_commands, create, create_options

SFT = Kind("sftj", "supervisedFineTuningJobs", "supervisedFineTuningJobId", nested=False, what="SFT")


@click.group("sftj")
def command() -> None:
    """SFT jobs of your account: a model learns the answers of a dataset.

    \b
    Examples:
      tunesmith dataset create chats chats.jsonl
      tunesmith sftj create --base-model Qwen/Qwen3-0.6B --dataset chats --eval-auto-carveout --wait
      tunesmith sftj list
      tunesmith sftj metrics my-job
    """


@command.command("create")
@create_options
def create_job(**flags: Any) -> None:
    """Start a job.

    \b
    Examples:
      tunesmith sftj create --base-model accounts/fireworks/models/qwen3-0p6b --dataset chats --epochs 2 --wait
      tunesmith sftj create --warm-start-from my-model --dataset more-chats --output-model my-model-2
    """
    create(SFT, flags)


add_commands(command, SFT)
