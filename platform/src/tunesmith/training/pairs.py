"""Pairs in micro-batches: both answers of a pair in one pack, their prompt computed once where that costs less.

Sample 2i is the preferred answer of pair i, sample 2i + 1 the other. Suffixes: P pairs and S samples of a pack, K its trained tokens,
N all samples.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from collections.abc import Sequence as Seq

from torch import Tensor

from tunesmith.training.model import Policy
from tunesmith.training.packing import Costs, Pack, Plan, Sequence, Sharing, build_pack, plan_packs
from tunesmith.training.preferences import PairInput
from tunesmith.training.samples import Samples


def sequences_of(samples: Samples, pairs: Seq[int], vocabulary: int) -> list[Sequence]:
    """Both answers of each pair, the preferred one first."""
    return [samples.sequence(2 * pair + side, vocabulary) for pair in pairs for side in (0, 1)]


def packs_of(answers: Seq[Sequence], budget: int, policy: Policy, sharing: Sharing = Sharing.AUTO) -> Iterator[Pack]:
    """The answers of whole pairs as micro-batches, one at a time."""
    for plans in plan_pairs(answers, budget, policy.costs, sharing):
        yield build_pack(plans, policy.device)


def plan_pairs(answers: Seq[Sequence], budget: int, costs: Costs, sharing: Sharing = Sharing.AUTO) -> list[list[Plan]]:
    """Lay pairs out in micro-batches of at most `budget` tokens, none of them split (a longer pair gets one of its own).

    `answers` holds both answers of a pair behind each other. First fit, largest first; deterministic.
    """
    pairs = [(answers[place], answers[place + 1]) for place in range(0, len(answers), 2)]
    sized = [(sum(plan.tokens for plan in _plan(pair, costs, sharing)), pair) for pair in pairs]
    bins: list[list[Sequence]] = []
    room: list[int] = []
    for tokens, pair in sorted(sized, key=lambda one: -one[0]):
        fits = next((number for number, left in enumerate(room) if left >= tokens), None)
        if fits is None:
            bins.append([])
            room.append(budget)
            fits = len(bins) - 1
        bins[fits] += pair
        room[fits] -= tokens
    return [_plan(members, costs, sharing) for members in bins]


def answer_logprobs(policy: Policy, pack: Pack) -> Tensor:
    """log pi of each answer of a pack, summed over its tokens: float32 [S], differentiable."""
    logp_K, _ = policy.logprobs(pack, entropy=False)
    return logp_K.new_zeros(len(pack.numbers)).index_add(0, pack.sequence_K, logp_K)


def pair_input(pack: Pack, logp_S: Tensor, reference_N: Tensor | None, batch_pairs: int) -> PairInput:
    """The answers of a pack as pairs, in the order of `pairs_of`."""
    slot = {number: place for place, number in enumerate(pack.numbers)}
    pairs = pairs_of(pack)
    chosen_P, rejected_P = ([slot[2 * pair + side] for pair in pairs] for side in (0, 1))
    tokens_S = pack.sequence_K.bincount(minlength=len(pack.numbers))
    told = [None, None]
    if reference_N is not None:
        told = [reference_N[[2 * pair + side for pair in pairs]].to(logp_S.device) for side in (0, 1)]
    return PairInput(
        chosen_P=logp_S[chosen_P],
        rejected_P=logp_S[rejected_P],
        chosen_tokens_P=tokens_S[chosen_P],
        rejected_tokens_P=tokens_S[rejected_P],
        batch_pairs=batch_pairs,
        reference_chosen_P=told[0],
        reference_rejected_P=told[1],
    )


def pairs_of(pack: Pack) -> list[int]:
    """Numbers of the pairs of a pack, ascending."""
    return sorted(number // 2 for number in pack.numbers if number % 2 == 0)


def _plan(members: Seq[Sequence], costs: Costs, sharing: Sharing) -> list[Plan]:
    """One pack of all members."""
    (plans,) = plan_packs(members, sys.maxsize, costs, sharing)
    return plans
