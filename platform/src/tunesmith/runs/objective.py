"""The numbers of the losses and of the optimizer, free of torch: the learner computes with them, an exported step states them."""

from __future__ import annotations

from typing import Any

from tunesmith.runs.config import LearnerConfig, LossMethod

ADAM_BETAS = (0.9, 0.95)
ADAM_EPS = 1e-8
LOG_RATIO_LIMIT = 10.0
"""Log-ratios are clamped to +-10 before exp: exp(10) is far outside every band, and nothing overflows."""
BAND = (0.5, 5.0)
"""Ratios that DEFAULT trains on; others are masked (IcePop, arXiv 2510.18855)."""
GRPO_CLIP = (0.8, 1.2)
DAPO_CLIP = (0.8, 1.28)
GSPO_CLIP = (1 - 3e-4, 1 + 4e-4)
PPO_CLIP = (0.8, 1.2)
CISPO_MOST = 5.0
"""Largest weight of a token: the value of ScaleRL (arXiv 2510.13786); the paper of CISPO names none."""
GRPO_KL_BETA = 0.001


def loss_numbers(settings: LearnerConfig) -> dict[str, Any]:
    """Method and numbers of the loss that a learner with these settings computes."""
    numbers: dict[LossMethod, dict[str, Any]] = {
        LossMethod.DEFAULT: {"band": list(BAND)},
        LossMethod.GRPO: {
            "clip": list(GRPO_CLIP),
            "kl_beta": GRPO_KL_BETA if settings.kl_beta is None else settings.kl_beta,
        },
        LossMethod.DAPO: {"clip": list(DAPO_CLIP)},
        LossMethod.GSPO_TOKEN: {"clip": list(GSPO_CLIP)},
        LossMethod.CISPO: {"most": CISPO_MOST},
        LossMethod.PPO: {"clip": list(PPO_CLIP)},
        LossMethod.REINFORCE: {},
    }
    return {"method": settings.loss, "log_ratio_limit": LOG_RATIO_LIMIT, **numbers[settings.loss]}


def optimizer_numbers(settings: LearnerConfig) -> dict[str, Any]:
    """The optimizer that such a learner steps with, and what comes before the step."""
    return {
        "name": "AdamW",
        "betas": list(ADAM_BETAS),
        "eps": ADAM_EPS,
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.max_grad_norm,
        "warmup_steps": settings.warmup_steps,
    }
