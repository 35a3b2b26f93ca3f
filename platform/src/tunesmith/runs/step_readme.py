"""The README of an exported step (`step_export`): how adapter K + 1 follows from adapter K, for a reader without this program."""

from __future__ import annotations

from typing import Any

LOSSES = {
    "DEFAULT": "-w A log pi, where w = r inside the band {band} and 0 outside; w is a constant, no gradient flows through it",
    "GRPO": "-min(r A, clip(r, {clip}) A) + {kl_beta} (exp(d) - d - 1) with d = log ref - log pi; ref is the base model without adapter",
    "DAPO": "-min(r A, clip(r, {clip}) A)",
    "GSPO_TOKEN": (
        "-min(q A, clip(q, {clip}) A) with q = s pi / constant(pi), where s, a constant, is exp of the mean of log pi - log mu over the "
        "tokens of the sequence"
    ),
    "CISPO": "-w A log pi with w = min(r, {most}) as a constant",
    "PPO": "-min(r A, clip(r, {clip}) A)",
    "REINFORCE": "-r A",
}
TOKEN_MEAN = "The loss is the sum over all trained tokens of the batch, divided by their number."
SEQUENCE_MEAN = (
    "The loss is the mean over a sequence's trained tokens, then over the sequences of the batch that have one."
)

TEXT = """\
# Optimizer step {step} of {job}

Everything needed to compute policy version {after} (adapters/{after_folder}) from version {before} (adapters/{before_folder}) without the
program that trained it. The base model is not in here: it is {base}; step.json has the SHA-256 of its files.

{history}

## How a step is computed

1. **Batch.** batches/step-{step:06d}.safetensors. Tensors lie flat over all samples: `token_ids`, `sampled` (1 = trained), `logprobs` (log mu: what the
   policy that sampled the token gave it, at the batch's temperature); sample i is `starts[i]` to `starts[i + 1]`; `rollout[i]` is the
   rollout it belongs to, an index into the `rollouts` of the .json beside it. A rollout of several turns may have several samples.
2. **Advantage** of a rollout: its score minus the mean of its group, divided by one number for the batch: the population standard deviation of the
   group-centred scores over the groups whose scores are not all equal. Groups of equal scores get 0. All samples of a rollout have its advantage.
3. **log pi** of a trained token: log-softmax of the logits at the position before it, divided by the batch's temperature (a temperature of 0 counts
   as 1), with the adapter, no dropout, in float32.
4. **Loss** of a token ({method}; r = pi / mu, log r clamped to +-{limit}): {loss}.
   {mean}
5. **Update.** The gradient of all adapter tensors together is clipped to norm {norm}. AdamW with betas {betas}, eps {eps}, weight decay {decay}; learning
   rate: that of the batch's header{warmup}. AdamW's step count before the step is {step}.
6. **Compare.** Two correct float32 programs agree to 1e-5, but for elements whose gradients were no larger than rounding so far: AdamW divides
   by their root mean square, sqrt(v). Leave out, and count, what gradients off by 5e-6 of the tensor's largest sqrt(v) would move by more than 1e-5.
"""


def readme(description: dict[str, Any]) -> str:
    """The text, from `step_export.describe`."""
    step, first, base = description["step"], description["first_step"], description["base_model"]
    loss, optimizer = description["loss"], description["optimizer"]
    warmup = optimizer["warmup_steps"]
    return TEXT.format(
        step=step,
        job=description["job"],
        before=step,
        after=step + 1,
        before_folder=f"v{step:06d}",
        after_folder=f"v{step + 1:06d}",
        base=f"{base['name']}, which lay in {base['path']}",
        history=_history(step, first),
        method=loss["method"],
        limit=loss["log_ratio_limit"],
        loss=LOSSES[loss["method"]].format(**loss),
        mean=SEQUENCE_MEAN if loss["method"] == "GSPO_TOKEN" else TOKEN_MEAN,
        norm=optimizer["max_grad_norm"],
        betas=" and ".join(map(str, optimizer["betas"])),
        eps=optimizer["eps"],
        decay=optimizer["weight_decay"],
        warmup=f", times min(1, (step + 1) / {warmup})" if warmup else "",
    )


def _history(step: int, first: int) -> str:
    if first == step:
        return (
            "Step 0 begins with AdamW's moments at 0."
            if step == 0
            else "AdamW's moments before the step are in optimizer/state.safetensors: `exp_avg/{name}` and `exp_avg_sq/{name}`, by the adapter's tensor names."
        )
    begin = (
        "moments of 0" if first == 0 else "those in optimizer/state.safetensors (`exp_avg/{name}`, `exp_avg_sq/{name}`)"
    )
    return (
        f"AdamW's moments before step {step} were not kept. They follow from the steps before: begin at step {first} with {begin}, and for each "
        f"step up to {step} compute the gradient at that step's adapter (all are in adapters/) and update the moments with it."
    )
