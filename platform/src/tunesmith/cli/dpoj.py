"""`tunesmith dpoj` (or `dpo-job`): preference tuning from the terminal, through the same API as everything else."""

from __future__ import annotations

from typing import Any

import click

from tunesmith.cli.tuning_jobs import Kind, add_commands, create, create_options

DPO = Kind("dpoj", "dpoJobs", "dpoJobId", nested=True, what="DPO")


@click.group("dpoj")
def command() -> None:
    """DPO and ORPO jobs of your account: a model learns which of two answers is preferred.

    \b
    Examples:
      tunesmith dataset create pairs pairs.jsonl
      tunesmith dpoj create --base-model Qwen/Qwen3-0.6B --dataset pairs --wait
      tunesmith dpoj create --loss-method ORPO --orpo-lambda 0.2 --base-model Qwen/Qwen3-0.6B --dataset pairs
      tunesmith dpoj list
    """


@command.command("create")
@click.option("--loss-method", type=click.Choice(["DPO", "ORPO"], case_sensitive=False), help="Default DPO.")
@click.option(
    "--beta", type=float, help="DPO: how strongly it is held to the base model; 0 < beta < 0.5 (default 0.1)."
)
@click.option("--orpo-lambda", type=float, help="ORPO: weight of the odds ratio, 0 to 1 (default 0.1).")
@create_options
def create_job(loss_method: str | None, beta: float | None, orpo_lambda: float | None, **flags: Any) -> None:
    """Start a job.

    \b
    Examples:
      tunesmith dpoj create --base-model accounts/fireworks/models/qwen3-0p6b --dataset pairs --beta 0.3 --wait
      tunesmith dpoj create --warm-start-from my-model --dataset pairs --output-model my-model-2
    """
    given = {
        "method": loss_method.upper() if loss_method else None,
        "dpo": {"beta": beta} if beta is not None else None,
        "orpoLambda": orpo_lambda,
    }
    create(DPO, flags, {name: value for name, value in given.items() if value is not None})


add_commands(command, DPO)
