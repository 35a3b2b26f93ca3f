"""The command line itself: what `--help` costs and shows, and that no flag is accepted and ignored."""

from __future__ import annotations

import json
import subprocess
import sys

import click
import pytest
from eval_protocol.cli import COMMANDS, cli
from eval_protocol.cli.rft_options import FLAGS, job_body, job_flags

HEAVY = (
    "aiohttp",
    "rich",
    "pydantic",
    "pytest",
    "questionary",
    "tqdm",
    "asyncio",
    "eval_protocol.models",
    "eval_protocol.client",
)

# Section 2.1 of the published client's contract: every flag of `create rft`.
PUBLISHED = [
    "--yes",
    "-y",
    "--dry-run",
    "--force",
    "--skip-validation",
    "--ignore-docker",
    "--docker-build-extra",
    "--docker-run-extra",
    "--env-file",
    "--source-job",
    "--quiet",
    "--dataset",
    "--evaluator",
    "--reinforcement-fine-tuning-job-id",
    "--job-id",
    "--chunk-size",
    "--eval-auto-carveout",
    "--evaluation-dataset",
    "--max-concurrent-evaluations",
    "--max-concurrent-rollouts",
    "--max-inference-replica-count",
    "--mcp-server",
    "--reservation-target",
    "--node-count",
    "--nodes",
    "--aws-s3-config-credentials-secret",
    "--credentials-secret",
    "--aws-s3-config-iam-role-arn",
    "--iam-role-arn",
    "--azure-blob-storage-config-credentials-secret",
    "--azure-blob-storage-config-managed-identity-client-id",
    "--managed-identity-client-id",
    "--azure-blob-storage-config-tenant-id",
    "--tenant-id",
    "--inference-parameters-extra-body",
    "--extra-body",
    "--inference-parameters-max-output-tokens",
    "--max-output-tokens",
    "--inference-parameters-response-candidates-count",
    "--response-candidates-count",
    "--inference-parameters-temperature",
    "--temperature",
    "--inference-parameters-top-k",
    "--top-k",
    "--inference-parameters-top-p",
    "--top-p",
    "--loss-config-kl-beta",
    "--rl-kl-beta",
    "--kl-beta",
    "--loss-config-method",
    "--rl-loss-method",
    "--method",
    "--loss-config-dpo",
    "--dpo",
    "--training-config-base-model",
    "--base-model",
    "--training-config-warm-start-from",
    "--warm-start-from",
    "--training-config-output-model",
    "--output-model",
    "--training-config-epochs",
    "--epochs",
    "--training-config-learning-rate",
    "--learning-rate",
    "--training-config-learning-rate-warmup-steps",
    "--learning-rate-warmup-steps",
    "--training-config-lora-rank",
    "--lora-rank",
    "--training-config-max-context-length",
    "--max-context-length",
    "--training-config-batch-size",
    "--batch-size",
    "--training-config-batch-size-samples",
    "--batch-size-samples",
    "--training-config-gradient-accumulation-steps",
    "--gradient-accumulation-steps",
    "--training-config-optimizer-weight-decay",
    "--optimizer-weight-decay",
    "--training-config-sampler-checkpoint-save-interval-steps",
    "--sampler-checkpoint-save-interval-steps",
    "--wandb-config-api-key",
    "--wandb-api-key",
    "--api-key",
    "--wandb-config-project",
    "--wandb-project",
    "--project",
    "--wandb-config-entity",
    "--wandb-entity",
    "--entity",
    "--wandb-config-enabled",
    "--wandb",
    "--enabled",
]


def modules_after(*arguments: str) -> tuple[str, list[str]]:
    """Run the CLI in a fresh process; its output and the modules that it imported."""
    code = (
        "import json, sys\n"
        "from eval_protocol.cli import main\n"
        f"sys.argv = {['ep', *arguments]!r}\n"
        "try:\n    main()\n"
        "finally:\n    print('MODULES' + json.dumps(sorted(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    shown, _, modules = done.stdout.partition("MODULES")
    return shown, json.loads(modules)


@pytest.mark.parametrize(
    "arguments", [("--help",), ("create", "rft", "--help"), ("local-test", "--help"), ("results", "--help")]
)
def test_help_imports_nothing_heavy(arguments: tuple[str, ...]) -> None:
    shown, modules = modules_after(*arguments)
    assert "Usage: ep" in shown
    assert [name for name in HEAVY if name in modules] == []


def test_help_lists_every_command_and_each_can_be_imported() -> None:
    shown, _ = modules_after("--help")
    context = click.Context(cli)
    for name, (_, _, summary) in COMMANDS.items():
        assert name in shown
        assert summary.split(":")[0][:30] in shown
        command = cli.get_command(context, name)
        assert command is not None
        assert command.name == name


def published_command() -> click.Command:
    create = cli.get_command(click.Context(cli), "create")
    assert isinstance(create, click.Group)
    return create.commands["rft"]


def test_every_flag_of_the_published_client_is_known() -> None:
    known = {name for parameter in published_command().params for name in parameter.opts}
    assert [name for name in PUBLISHED if name not in known] == []


def test_every_flag_stands_in_the_help_with_what_it_does(ep) -> None:
    shown = ep("create", "rft", "--help").out
    for flag in FLAGS:
        assert f"{flag.names[0]} " in shown or f"{flag.names[0]}\n" in shown or f"{flag.names[0]}," in shown
    for title in ("Workflow", "Model", "Training", "Rollouts", "Loss"):
        assert f"{title}:" in shown


@click.command()
@job_flags
def only_the_body(**values: object) -> None:
    """A command that prints the request body."""
    click.echo(json.dumps(job_body(dict(values))))


def body_of(*arguments: str) -> dict:
    from click.testing import CliRunner

    result = CliRunner().invoke(only_the_body, list(arguments))
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


def test_flags_fill_the_request() -> None:
    arguments = [
        "--base-model",
        "accounts/tunesmith/models/tiny-math-v1",
        "--output-model",
        "mine",
        "--epochs",
        "2",
        "--learning-rate",
        "5e-4",
        "--learning-rate-warmup-steps",
        "3",
        "--lora-rank",
        "16",
        "--optimizer-weight-decay",
        "0.01",
        "--max-context-length",
        "2048",
        "--chunk-size",
        "10",
        "--eval-auto-carveout",
        "--response-candidates-count",
        "4",
        "--temperature",
        "0.9",
        "--max-output-tokens",
        "64",
        "--max-concurrent-rollouts",
        "8",
        "--rl-loss-method",
        "gspo-token",
        "--evaluation-dataset",
        "held-out",
    ]
    assert body_of(*arguments, "--extra-body", '{"stop": ["x"]}') == {
        "chunkSize": 10,
        "evalAutoCarveout": True,
        "evaluationDataset": "held-out",
        "maxConcurrentRollouts": 8,
        "trainingConfig": {
            "baseModel": "accounts/tunesmith/models/tiny-math-v1",
            "outputModel": "mine",
            "epochs": 2,
            "learningRate": 5e-4,
            "learningRateWarmupSteps": 3,
            "loraRank": 16,
            "optimizerWeightDecay": 0.01,
            "maxContextLength": 2048,
        },
        "inferenceParameters": {
            "responseCandidatesCount": 4,
            "temperature": 0.9,
            "maxOutputTokens": 64,
            "extraBody": '{"stop": ["x"]}',
        },
        "lossConfig": {"method": "GSPO_TOKEN"},
    }


def test_nothing_is_sent_that_was_not_asked_for() -> None:
    assert body_of() == {}


@pytest.mark.parametrize("name", ["--loss-config-method", "--rl-loss-method", "--method"])
def test_the_loss_can_be_named_under_all_its_aliases(name: str) -> None:
    assert body_of(name, "GRPO") == {"lossConfig": {"method": "GRPO"}}


@pytest.mark.parametrize("prefix", ["", "wandb-", "wandb-config-"])
def test_weights_and_biases_can_be_asked_for_under_all_its_aliases(prefix: str) -> None:
    enabled = {"": "--enabled", "wandb-": "--wandb", "wandb-config-": "--wandb-config-enabled"}[prefix]
    asked = body_of(enabled, f"--{prefix}project", "sums", f"--{prefix}entity", "us")
    assert asked == {"wandbConfig": {"enabled": True, "project": "sums", "entity": "us"}}


@pytest.mark.parametrize(
    ("flag", "name"),
    [(flag, name) for flag in FLAGS if flag.refused for name in flag.names],
    ids=lambda value: str(value)[-40:],
)
def test_a_flag_without_effect_is_refused_with_the_reason(ep, flag, name: str) -> None:
    value = [] if flag.kind is None else ["1"]
    result = ep("create", "rft", "--base-model", "m", name, *value)
    assert result.status == 2
    assert f"{flag.names[0]} cannot take effect: {flag.refused}" in result.err.replace("\n", " ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "0"], "--epochs"),
        (["--response-candidates-count", "1"], "--response-candidates-count"),
        (["--temperature", "0"], "--temperature"),
        (["--temperature", "3"], "--temperature"),
        (["--chunk-size", "-2"], "--chunk-size"),
        (["--rl-loss-method", "DPO"], "DPO is not a loss of reinforcement fine-tuning here"),
        (["--rl-loss-method", "nonsense"], "'nonsense' is not one of GRPO, DAPO, GSPO_TOKEN, CISPO, PPO, REINFORCE"),
        (["--rl-kl-beta", "0.1"], "takes effect with --rl-loss-method GRPO only"),
        (["--rl-kl-beta", "0.1", "--method", "DAPO"], "the loss is DAPO"),
        (["--warm-start-from", "x"], "both were given"),
        (["--wandb-project", "p"], "--wandb-project takes effect with --wandb only"),
        (["--wandb", "--wandb-api-key", "k"], "the account's secret WANDB_API_KEY"),
        (["--eval-auto-carveout", "--evaluation-dataset", "x"], "not both"),
        (["--unknown"], "No such option"),
    ],
)
def test_values_that_cannot_work_are_refused_at_once(ep, arguments: list[str], message: str) -> None:
    result = ep("create", "rft", "--base-model", "m", *arguments)
    assert result.status == 2
    assert message in result.err


def test_a_job_needs_a_model(ep) -> None:
    result = ep("create", "rft")
    assert result.status == 2
    assert "neither was given" in result.err


def test_the_console_script_reports_usage_errors_without_a_traceback() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from eval_protocol.cli import main; main()", "nonsense"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "No such command 'nonsense'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("given", "meant"), [("--epoch", "'--epochs'"), ("--temprature", "'--temperature'"), ("--zzz", None)]
)
def test_an_unknown_flag_brings_up_only_what_was_likely_meant(ep, given: str, meant: str | None) -> None:
    result = ep("create", "rft", "--base-model", "m", given, "3")
    assert result.status == 2
    last = result.err.strip().splitlines()[-1]
    assert ("Did you mean" in last) == (meant is not None)
    if meant:
        assert f"Did you mean {meant}?" in last
