"""From the samples of a batch to the rows that the model sees: padding-free, with a group's prompt computed once.

A micro-batch ("pack") is one row of T tokens, made of segments. A segment is an optional shared prompt and branches behind it: each
branch attends to the prompt and to itself, never to another branch, and its positions continue after the prompt. A sample that
shares nothing is a branch without prompt. Whether the samples of one prompt share it is decided by cost, from lengths.

Suffixes: T tokens of a pack, K trained tokens of a pack.
"""

from __future__ import annotations

import math
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from enum import StrEnum

import torch
from torch import Tensor

from tunesmith.errors import FailedPrecondition
from tunesmith.runs.batch import Batch
from tunesmith.training.attention import Layout, Segment

TILE_FILL = 0.7
"""Branches whose length is at least this fraction of the longest one go through attention together, padded to it."""
MASK_LIMIT = 2**26
"""Largest mask of one tile, in elements; longer samples go unshared, where attention needs no mask."""


class Sharing(StrEnum):
    """Whether samples with the same prompt compute it once."""

    AUTO = "auto"
    """Where it costs less."""
    NEVER = "never"
    ALWAYS = "always"


@dataclass(frozen=True)
class Sequence:
    """One sample, as far as it is trained."""

    token_ids: list[int]
    """Inputs of the model: everything before the last trained token."""
    prompt: int
    """Number of leading tokens before the first trained one; at least 1."""
    trained: list[int]
    """Positions of trained tokens in the sample, ascending; position t is predicted from input t - 1."""
    targets: list[int]
    """The trained tokens."""
    mu: list[float] = field(default_factory=list)
    """Their recorded log-probabilities (RFT)."""
    advantage: float = 0.0
    group: int = 0
    """Samples of one group share their prompt where it is the same."""
    weights: list[float] = field(default_factory=list)
    """What each trained token counts in the loss (SFT)."""
    number: int = 0
    """The caller's number of the sample."""

    @property
    def branch(self) -> int:
        """Inputs behind the prompt; 0 when only the first sampled token is trained."""
        return len(self.token_ids) - self.prompt


@dataclass(frozen=True)
class Costs:
    """What a forward pass costs, in multiply-adds."""

    token: float
    """Linear layers, per token."""
    pair: float
    """Attention, per (query, key)."""


@dataclass(frozen=True)
class Plan:
    """A segment to be: which sequences, whether they share their prompt, cut into tiles of similar branch length."""

    shared: bool
    tiles: tuple[tuple[Sequence, ...], ...]

    @property
    def tokens(self) -> int:
        """Tokens the segment puts into a pack."""
        members = [member for tile in self.tiles for member in tile]
        if self.shared:
            return members[0].prompt + sum(member.branch for member in members)
        return sum(len(member.token_ids) for member in members)


@dataclass(frozen=True)
class Pack:
    """One micro-batch, as tensors on one device."""

    token_ids_T: Tensor
    position_ids_T: Tensor
    layout: Layout
    row_K: Tensor
    """int64: index into T of the hidden state that predicts the trained token."""
    target_K: Tensor
    mu_K: Tensor
    """Empty where nothing was recorded."""
    advantage_K: Tensor
    sequence_K: Tensor
    """int64 number of the sequence within the pack."""
    weight_K: Tensor
    """Empty where tokens are not weighted."""
    numbers: tuple[int, ...]
    """`Sequence.number` of each sequence of the pack."""


def default_budget() -> int:
    """Tokens of a micro-batch. On the CPU small ones are as fast as large ones, and need less memory."""
    return 16384 if torch.cuda.is_available() else 512


def sequences_of(batch: Batch, advantages: Seq[float], vocabulary: int) -> list[Sequence]:
    """The trainable sequences of a sealed batch; `advantages` has one entry per rollout of the header.

    Samples without a sampled token are left out. Raises FailedPrecondition when nothing is left, a sample begins with
    a sampled token (nothing predicts it), an id lies outside the model's vocabulary, or a recorded log-probability is not finite.
    """
    sequences = []
    for number, sample in enumerate(batch.samples):
        trained = [position for position, sampled in enumerate(sample.sampled) if sampled]
        if not trained:
            continue
        where = f"Sample {number} of batch {batch.header.step}"
        if trained[0] == 0:
            raise FailedPrecondition(f"{where} begins with a sampled token: it has no prompt, so it cannot be trained.")
        if max(sample.token_ids) >= vocabulary or min(sample.token_ids) < 0:
            raise FailedPrecondition(f"{where} has token ids outside the base model's vocabulary of {vocabulary}.")
        mu = [sample.logprobs[position] for position in trained]
        if not all(math.isfinite(value) for value in mu):
            raise FailedPrecondition(
                f"{where} has a recorded log-probability that is not finite; it cannot be trained."
            )
        sequences.append(
            Sequence(
                token_ids=sample.token_ids[: trained[-1]],
                prompt=trained[0],
                trained=trained,
                targets=[sample.token_ids[position] for position in trained],
                mu=mu,
                advantage=advantages[sample.rollout],
                group=batch.header.rollouts[sample.rollout].group,
            )
        )
    if not sequences:
        raise FailedPrecondition(f"Batch {batch.header.step} has no sampled token to train on.")
    return sequences


def plan_packs(
    sequences: Seq[Sequence], budget: int, costs: Costs, sharing: Sharing = Sharing.AUTO
) -> list[list[Plan]]:
    """Lay the sequences out in micro-batches of at most `budget` tokens each (a longer sequence gets one of its own).

    Deterministic in its arguments. Every sequence appears exactly once.
    """
    shared, single = [], []
    for members in _same_prompt(sequences):
        pieces = _within_budget(members, budget)
        for piece in pieces:
            if len(piece) > 1 and _share(piece, costs, sharing):
                shared.append(Plan(True, _tiles(piece, prompt=piece[0].prompt)))
            else:
                single.extend(piece)
    # Stable sort: equal lengths keep the batch's order.
    alone = [Plan(False, (tile,)) for tile in _tiles(single, prompt=0, budget=budget)]
    return _fill([*shared, *alone], budget)


def build_pack(plans: Seq[Plan], device: torch.device | str = "cpu") -> Pack:
    """Write planned segments out as tensors."""
    ids: list[int] = []
    positions: list[int] = []
    segments: list[Segment] = []
    rows: list[int] = []
    members: list[Sequence] = []
    for plan in plans:
        prompt = plan.tiles[0][0].prompt if plan.shared else 0
        start = len(ids)
        ids += plan.tiles[0][0].token_ids[:prompt]
        positions += range(prompt)
        for member in (member for tile in plan.tiles for member in tile):
            branch_start = len(ids)
            ids += member.token_ids[prompt:]
            positions += range(prompt, len(member.token_ids))
            # The hidden state at position t - 1 predicts token t; it lies in the shared prompt or in the branch.
            rows += [
                start + position - 1 if position - 1 < prompt else branch_start + position - 1 - prompt
                for position in member.trained
            ]
            members.append(member)
        lengths = tuple(tuple(len(member.token_ids) - prompt for member in tile) for tile in plan.tiles)
        segments.append(Segment(prompt, lengths))

    def tensor(values: list, dtype: torch.dtype) -> Tensor:
        return torch.tensor(values, dtype=dtype).to(device)

    return Pack(
        token_ids_T=tensor(ids, torch.int64),
        position_ids_T=tensor(positions, torch.int64),
        layout=Layout.of(segments, device),
        row_K=tensor(rows, torch.int64),
        target_K=tensor([target for member in members for target in member.targets], torch.int64),
        mu_K=tensor([value for member in members for value in member.mu], torch.float32),
        advantage_K=tensor([member.advantage for member in members for _ in member.targets], torch.float32),
        sequence_K=tensor([number for number, member in enumerate(members) for _ in member.targets], torch.int64),
        weight_K=tensor([value for member in members for value in member.weights], torch.float32),
        numbers=tuple(member.number for member in members),
    )


def _same_prompt(sequences: Seq[Sequence]) -> list[list[Sequence]]:
    clusters: dict[tuple, list[Sequence]] = {}
    for sequence in sequences:
        clusters.setdefault((sequence.group, tuple(sequence.token_ids[: sequence.prompt])), []).append(sequence)
    return list(clusters.values())


def _within_budget(members: list[Sequence], budget: int) -> list[list[Sequence]]:
    """Cut a cluster so that one prompt and its branches fit the budget."""
    pieces: list[list[Sequence]] = []
    used = 0
    for member in members:
        if not pieces or used + member.branch > budget:
            pieces.append([])
            used = member.prompt
        pieces[-1].append(member)
        used += member.branch
    return pieces


def _share(members: list[Sequence], costs: Costs, sharing: Sharing) -> bool:
    if sharing is not Sharing.AUTO:
        return sharing is Sharing.ALWAYS
    prompt = members[0].prompt
    longest = max(member.branch for member in members)
    if longest * (prompt + longest) > MASK_LIMIT:
        return False
    apart = sum(costs.token * len(m.token_ids) + costs.pair * _causal(len(m.token_ids)) for m in members)
    together = costs.token * (prompt + sum(member.branch for member in members)) + costs.pair * _causal(prompt)
    for tile in _tiles(members, prompt):
        longest = tile[0].branch
        together += costs.pair * len(tile) * longest * (prompt + longest)
    return together < apart


def _causal(length: int) -> float:
    return length * (length + 1) / 2


def _tiles(members: Seq[Sequence], prompt: int, budget: int | None = None) -> tuple[tuple[Sequence, ...], ...]:
    """Sort by branch length, longest first, and cut where padding would waste too much or the budget is reached."""
    ordered = sorted(members, key=lambda member: -len(member.token_ids))
    tiles: list[list[Sequence]] = []
    tokens = 0
    for member in ordered:
        length = len(member.token_ids) - prompt
        longest = len(tiles[-1][0].token_ids) - prompt if tiles else 0
        if not tiles or length < TILE_FILL * longest or (budget is not None and tokens + length > budget):
            tiles.append([])
            tokens = 0
        tiles[-1].append(member)
        tokens += length
    return tuple(tuple(tile) for tile in tiles)


def _fill(plans: list[Plan], budget: int) -> list[list[Plan]]:
    """First fit, largest first."""
    packs: list[list[Plan]] = []
    room: list[int] = []
    for plan in sorted(plans, key=lambda plan: -plan.tokens):
        slot = next((number for number, left in enumerate(room) if left >= plan.tokens), None)
        if slot is None:
            packs.append([])
            room.append(budget)
            slot = len(packs) - 1
        packs[slot].append(plan)
        room[slot] -= plan.tokens
    return packs
