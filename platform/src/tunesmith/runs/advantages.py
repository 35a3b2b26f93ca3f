"""Advantages: how much better a rollout is than its group, in units that fit any score scale.

The group mean is the baseline (GRPO, arXiv 2402.03300); the scale is one standard deviation for the whole batch, taken over the
group-centred scores of the groups that vary (ScaleRL, arXiv 2510.13786), because a deviation per group would blow up
the nearly constant ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def batch_advantages(scores: Sequence[float], groups: Sequence[int]) -> list[float]:
    """Advantage of each rollout.

    Args:
        scores: score of each of B rollouts, finite.
        groups: group number of each rollout.

    Returns:
        B advantages: (score - group mean) / population standard deviation of the group-centred scores over all non-constant
        groups. Rollouts of constant groups, and all of them when no group varies, get exactly 0.
    """
    score_B = np.asarray(scores, dtype=np.float64)
    group_B = np.asarray(groups)
    centred_B = np.zeros_like(score_B)
    varies_B = np.zeros(score_B.shape, dtype=bool)
    for group in np.unique(group_B):
        members_B = group_B == group
        member_scores = score_B[members_B]
        # Compared, not subtracted: the mean of equal floats may differ from them in the last bit.
        if member_scores.min() < member_scores.max():
            centred_B[members_B] = member_scores - member_scores.mean()
            varies_B |= members_B
    if not varies_B.any():
        return [0.0] * len(score_B)
    # Centred scores have mean 0 within every group, so their deviation is their root mean square.
    deviation = float(np.sqrt(np.mean(centred_B[varies_B] ** 2)))
    if deviation == 0.0:
        return [0.0] * len(score_B)
    return (centred_B / deviation).tolist()
