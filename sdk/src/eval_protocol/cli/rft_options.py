"""The job flags of `ep create rft`: one table from flag to field of the request.

Names and aliases are those of the published client. A flag whose feature does not exist here yet is in the table too,
with the reason it is refused: nothing is accepted and then ignored. Ranges that depend on the base model are the
platform's to check.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import click


@dataclass(frozen=True)
class JobFlag:
    """One flag. `field` is its path in the request body; `refused` is the reason it cannot take effect."""

    names: tuple[str, ...]
    field: str
    help: str
    group: str
    kind: click.ParamType | type | None = None
    """None: a flag without a value."""
    refused: str = ""

    @property
    def parameter(self) -> str:
        """Name under which Click hands the value over."""
        return "job__" + self.field.replace(".", "__").lower()


MODEL, TRAINING, ROLLOUTS, LOSS, TRACKING, DATA, LATER = (
    "Model",
    "Training",
    "Rollouts",
    "Loss",
    "Tracking",
    "Data and names",
    "Known to the published client, refused here",
)
METHODS = ("GRPO", "DAPO", "GSPO_TOKEN", "CISPO", "PPO", "REINFORCE")
OTHER_METHODS = ("METHOD_UNSPECIFIED", "DPO", "ORPO")


class LossMethod(click.ParamType):
    """`grpo`, `GSPO-token`, ... in any case, as the wire spells it."""

    name = "method"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """What `--help` shows for the value."""
        return f"[{'|'.join(METHODS)}]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The method's name, or the reason it cannot be used."""
        name = str(value).upper().replace("-", "_")
        if name in OTHER_METHODS:
            self.fail(
                f"{name} is not a loss of reinforcement fine-tuning here; choose one of {', '.join(METHODS)}, or none.",
                param,
                ctx,
            )
        if name not in METHODS:
            self.fail(f"{value!r} is not one of {', '.join(METHODS)}.", param, ctx)
        return name


POSITIVE, NOT_NEGATIVE = click.IntRange(min=1), click.IntRange(min=0)


def _training(name: str, *more: str) -> tuple[str, ...]:
    return (f"--{name}", *(f"--{other}" for other in more), f"--training-config-{name}")


def _inference(name: str) -> tuple[str, ...]:
    return f"--{name}", f"--inference-parameters-{name}"


def _wandb(name: str, *more: str) -> tuple[str, ...]:
    return (f"--wandb-{name}", f"--wandb-config-{name}", *(f"--{other}" for other in more))


_FULL_SUPPORT = "rollouts are sampled from the whole distribution, so that their log-probabilities are exact; shape it with --temperature"
_ONE_MACHINE = "a job runs on the platform's own machines; there is nothing to choose"

FLAGS: tuple[JobFlag, ...] = (
    JobFlag(
        _training("base-model"), "trainingConfig.baseModel",
        "Model to train: a catalogue name (accounts/tunesmith/models/tiny-math-v1), a Hugging Face id or a folder on the "
        "platform's machine. Either this or --warm-start-from.",
        MODEL, str,
    ),
    JobFlag(
        _training("warm-start-from"), "trainingConfig.warmStartFrom",
        "Fine-tuned model (LoRA) to continue from, e.g. accounts/local/models/my-model; its base model comes with it.",
        MODEL, str,
    ),
    JobFlag(_training("output-model"), "trainingConfig.outputModel", "Id of the model that comes out. Default: the job's id.", MODEL, str),
    JobFlag(_training("epochs"), "trainingConfig.epochs", "Passes over the dataset, 1 to 10. Default: 1.", TRAINING, POSITIVE),
    JobFlag(
        _training("learning-rate"), "trainingConfig.learningRate",
        "Step size, e.g. 5e-5. Default: 1e-4; range 1e-5 to 5e-4. Bundled tiny models have their own (default 1e-3).",
        TRAINING, click.FloatRange(min=0),
    ),
    JobFlag(
        _training("learning-rate-warmup-steps"), "trainingConfig.learningRateWarmupSteps",
        "Steps over which the learning rate rises from 0. Default: 0.", TRAINING, NOT_NEGATIVE,
    ),
    JobFlag(_training("lora-rank"), "trainingConfig.loraRank", "Rank of the adapter: 4, 8, 16 or 32. Default: 8 (tiny models: 16).", TRAINING, POSITIVE),
    JobFlag(
        _training("optimizer-weight-decay"), "trainingConfig.optimizerWeightDecay",
        "Weight decay of AdamW, e.g. 0.01. Default: 0.", TRAINING, click.FloatRange(min=0),
    ),
    JobFlag(
        _training("max-context-length"), "trainingConfig.maxContextLength",
        "Longest prompt plus answer, in tokens. Default: what the model allows.", TRAINING, POSITIVE,
    ),
    JobFlag(
        ("--chunk-size",), "chunkSize",
        "Rows rolled out per optimizer step; -1: the whole epoch in one. Default: 200 where the dataset has at least twice as many rows.",
        TRAINING, click.IntRange(min=-1),
    ),
    JobFlag(
        ("--eval-auto-carveout",), "evalAutoCarveout",
        "Hold some rows of the dataset out of training and score the model on them as it learns.", TRAINING,
    ),
    JobFlag(
        ("--evaluation-dataset",), "evaluationDataset",
        "Held-out rows that choose the best checkpoint: a dataset id, or a JSONL file, which is uploaded.", TRAINING, str,
    ),
    JobFlag(
        ("--audit-evaluator",), "auditEvaluator",
        "A second evaluator that scores held-out rollouts and is not trained on; `tunesmith rftj audit` compares the two.", TRAINING, str,
    ),
    JobFlag(
        ("--preflight-rows",), "preflight.rows",
        "Rows that are rolled out before the first step, to say whether there is anything to learn. Default: the platform's, 16; 0: none.", TRAINING, click.IntRange(0, 1000),
    ),
    JobFlag(
        (*_inference("response-candidates-count"), "--n"), "inferenceParameters.responseCandidatesCount",
        "Rollouts per row, at least 2: a row's rollouts are compared with each other. Default: 8.", ROLLOUTS, click.IntRange(min=2),
    ),
    JobFlag(
        _inference("temperature"), "inferenceParameters.temperature",
        "Sampling temperature, 0.1 to 2. Default: 1.", ROLLOUTS, click.FloatRange(min=0, min_open=True, max=2),
    ),
    JobFlag(
        _inference("max-output-tokens"), "inferenceParameters.maxOutputTokens",
        "Longest completion, in tokens, 16 to 16384. Default: 2048.", ROLLOUTS, POSITIVE,
    ),
    JobFlag(
        _inference("extra-body"), "inferenceParameters.extraBody",
        """More of the inference request, as JSON; "stop" and "seed" (of the job) take effect, e.g. '{"stop": ["</answer>"], "seed": 1}'.""", ROLLOUTS, str,
    ),
    JobFlag(
        ("--max-concurrent-rollouts",), "maxConcurrentRollouts",
        "Rollouts in flight at once. Default: 96. Changes speed only.", ROLLOUTS, POSITIVE,
    ),
    JobFlag(
        ("--max-staleness",), "maxStaleness",
        "Steps by which rollouts may lag behind the newest policy, 0 to 8. Above 0 they overlap with training (slow agents: try 1). Default: 0.", ROLLOUTS, click.IntRange(0, 8),
    ),
    JobFlag(
        ("--group-deadline-seconds",), "groupDeadlineSeconds",
        "Slow agents: so long after half of a row's rollouts ended, its group goes on without the others, once --group-quorum is met. Default: it waits.", ROLLOUTS, click.FloatRange(min=0, min_open=True),
    ),
    JobFlag(
        ("--group-quorum",), "groupQuorum",
        "Valid scores with which a group may go on then, from 2 to n - 1; rollouts that had not ended are recorded as stragglers, and not trained.", ROLLOUTS, click.IntRange(min=2),
    ),
    JobFlag(
        ("--rl-loss-method", "--loss-config-method", "--method"), "lossConfig.method",
        "Named loss. Default: none, a policy gradient with an importance weight inside a band.", LOSS, LossMethod(),
    ),
    JobFlag(
        ("--rl-kl-beta", "--loss-config-kl-beta", "--kl-beta"), "lossConfig.klBeta",
        "KL coefficient of GRPO. Default: 0.001 there; the other losses have none.", LOSS, click.FloatRange(min=0),
    ),
    JobFlag(
        ("--wandb", "--wandb-config-enabled", "--enabled"), "wandbConfig.enabled",
        "Send the job's metrics to Weights & Biases too, with the key in the account's secret WANDB_API_KEY.", TRACKING,
    ),
    JobFlag(_wandb("project", "project"), "wandbConfig.project", "Project there. Default: tunesmith.", TRACKING, str),
    JobFlag(_wandb("entity", "entity"), "wandbConfig.entity", "User or team there. Default: the key's own.", TRACKING, str),
    # What follows is refused.
    JobFlag(_inference("top-p"), "inferenceParameters.topP", "", LATER, str, _FULL_SUPPORT),
    JobFlag(_inference("top-k"), "inferenceParameters.topK", "", LATER, str, _FULL_SUPPORT),
    JobFlag(("--mcp-server",), "mcpServer", "", LATER, str, "jobs do not attach MCP servers yet; start it from the evaluator"),
    JobFlag(("--nodes", "--node-count"), "nodeCount", "", LATER, str, _ONE_MACHINE),
    JobFlag(("--reservation-target",), "reservationTarget", "", LATER, str, _ONE_MACHINE),
    JobFlag(("--max-inference-replica-count",), "maxInferenceReplicaCount", "", LATER, str, "a job has one inference engine"),
    JobFlag(
        ("--max-concurrent-evaluations",), "maxConcurrentEvaluations", "", LATER, str,
        "scores are computed as their rollouts end; bound them with --max-concurrent-rollouts",
    ),
    JobFlag(
        _training("batch-size"), "trainingConfig.batchSize", "", LATER, str,
        "packing follows the machine's memory and does not change the result; rows per step is --chunk-size",
    ),
    JobFlag(_training("batch-size-samples"), "trainingConfig.batchSizeSamples", "", LATER, str, "one chunk is one step: use --chunk-size"),
    JobFlag(
        _training("gradient-accumulation-steps"), "trainingConfig.gradientAccumulationSteps", "", LATER, str,
        "one chunk is one step, whatever the micro-batches: use --chunk-size",
    ),
    JobFlag(
        _training("sampler-checkpoint-save-interval-steps"), "trainingConfig.samplerCheckpointSaveIntervalSteps", "", LATER, str,
        "every step is checkpointed; the last two and the best are kept",
    ),
    JobFlag(("--dpo", "--loss-config-dpo"), "lossConfig.dpo", "", LATER, str, "DPO is another kind of job"),
    JobFlag(
        _wandb("api-key", "api-key"), "wandbConfig.apiKey", "", LATER, str,
        "a job keeps no keys; store it once as the account's secret WANDB_API_KEY (the dashboard's secrets, or a line of the env file of `ep upload`), "
        "then --wandb is enough",
    ),
    *(
        JobFlag((f"--{name}", f"--aws-s3-config-{name}"), f"awsS3Config.{field}", "", LATER, str, "datasets are read from the platform, not from S3 yet")
        for name, field in (("credentials-secret", "credentialsSecret"), ("iam-role-arn", "iamRoleArn"))
    ),
    *(
        JobFlag(names, f"azureBlobStorageConfig.{field}", "", LATER, str, "datasets are read from the platform, not from Azure yet")
        for names, field in (
            (("--azure-blob-storage-config-credentials-secret",), "credentialsSecret"),
            (("--managed-identity-client-id", "--azure-blob-storage-config-managed-identity-client-id"), "managedIdentityClientId"),
            (("--tenant-id", "--azure-blob-storage-config-tenant-id"), "tenantId"),
        )
    ),
)  # fmt: skip
"""Every job flag of the published client. The first name is the one that help and errors use."""


def job_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add all job flags to a command; the callback gets them as `job__…` keyword arguments."""
    for flag in reversed(FLAGS):
        click.option(
            *flag.names,
            flag.parameter,
            type=flag.kind,
            is_flag=flag.kind is None,
            default=None,
            callback=_refuse(flag) if flag.refused else None,
            help=flag.help or f"Refused: {flag.refused}.",
        )(command)
    return command


def job_body(values: dict[str, Any]) -> dict[str, Any]:
    """The request's fields from what Click handed over; only what was set. `values` loses its `job__…` keys."""
    body: dict[str, Any] = {}
    for flag in FLAGS:
        value = values.pop(flag.parameter, None)
        if value is None or value is False:
            continue
        *groups, leaf = flag.field.split(".")
        target = body
        for group in groups:
            target = target.setdefault(group, {})
        target[leaf] = value
    return body


def check_body(body: dict[str, Any]) -> None:
    """What no single flag can tell. Raises UsageError."""
    training = body.get("trainingConfig", {})
    if ("baseModel" in training) == ("warmStartFrom" in training):
        given = "both were given" if "baseModel" in training else "neither was given"
        raise click.UsageError(f"Give either --base-model or --warm-start-from; {given}.")
    loss = body.get("lossConfig", {})
    if loss.get("klBeta") and loss.get("method") != "GRPO":
        raise click.UsageError(
            f"--rl-kl-beta takes effect with --rl-loss-method GRPO only; the loss is {loss.get('method', 'the default one')}."
        )
    wandb = body.get("wandbConfig", {})
    if wandb and not wandb.get("enabled"):
        raise click.UsageError(f"--wandb-{next(iter(wandb))} takes effect with --wandb only.")
    if body.get("evalAutoCarveout") and body.get("evaluationDataset"):
        raise click.UsageError("Give either --evaluation-dataset or --eval-auto-carveout, not both.")


def sections() -> Iterator[tuple[str, set[str]]]:
    """Help sections in order: title and the parameters in it."""
    for title in (MODEL, TRAINING, ROLLOUTS, LOSS, TRACKING, LATER):
        yield title, {flag.parameter for flag in FLAGS if flag.group == title}


def _refuse(flag: JobFlag) -> Callable[[click.Context, click.Parameter, Any], Any]:
    def callback(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
        if value not in (None, False):
            raise click.UsageError(f"{flag.names[0]} cannot take effect: {flag.refused}.", ctx)
        return None

    return callback
