"""What held-out rows say to a model, from the gateway's score route, with the masks of training.

Used for the rows of the report, which no training job ever saw. Renders with the same code as the learner, so a loss here and one there
mean the same.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass

from tunesmith.agent.plan import Method
from tunesmith.agent.rows import Row
from tunesmith.catalog import BaseModelEntry
from tunesmith.jobs.session.api import Api
from tunesmith.jobs.session.decide import DEFAULT_BETA
from tunesmith.jobs.session.desk import Desk
from tunesmith.rendering.examples import Example, ExampleRenderer
from tunesmith.rendering.pairs import PairRenderer
from tunesmith.rendering.renderer import Renderer
from tunesmith.schemas.names import short_id

AT_ONCE = 4
"""Score calls in flight."""
MEAN_LOGP_LIMIT = -1e-6
"""As in the learner: the odds of a certain answer are infinite."""


@dataclass(frozen=True)
class RowLoss:
    """One row under one model."""

    nats: float
    """Sum of weight x negative log-likelihood over its trained tokens; of a preference pair, its loss."""
    tokens: int = 1
    """Trained tokens."""
    bytes: int = 0
    """UTF-8 bytes of the trained text."""
    margin: float | None = None
    """Of a pair: by how much the preferred answer is rewarded above the other one."""


@dataclass(frozen=True)
class PairLogprobs:
    """Summed log-probabilities of both answers of a pair, and their lengths in tokens."""

    chosen: float
    chosen_tokens: int
    rejected: float
    rejected_tokens: int


async def losses(desk: Desk, model: str, base: BaseModelEntry, rows: Sequence[Row]) -> list[RowLoss]:
    """Loss of each SFT row under a model that the gateway serves."""
    renderer = await asyncio.to_thread(Renderer.load, base.path, base.name, base.family)
    rendered = ExampleRenderer(renderer, max_tokens=desk.plan.max_context_length)
    examples = await asyncio.to_thread(lambda: [rendered.examples(row) for row in rows])
    logprobs = iter(await _score(desk, model, [example.token_ids for each in examples for example in each]))
    found = []
    for each in examples:
        weighted = [list(zip(example.weights[1:], next(logprobs), strict=True)) for example in each]
        nats = -sum(weight * logprob for pairs in weighted for weight, logprob in pairs if weight)
        tokens = sum(1 for pairs in weighted for weight, _ in pairs if weight)
        found.append(RowLoss(nats, tokens, sum(example.text_bytes for example in each)))
    return found


async def preference_losses(
    desk: Desk, tuned: str, base: BaseModelEntry, rows: Sequence[Row], beta: float | None
) -> tuple[list[RowLoss], list[RowLoss]]:
    """(base, tuned) loss of each pair. DPO's compares a model with its base, so the base's own is ln 2; ORPO's needs no reference."""
    renderer = await asyncio.to_thread(Renderer.load, base.path, base.name, base.family)
    rendered = PairRenderer(renderer, max_tokens=desk.plan.max_context_length)
    pairs = await asyncio.to_thread(lambda: [pair for row in rows if (pair := rendered.examples(row))])
    strength = DEFAULT_BETA if beta is None else beta
    before, after = [await _pair_logprobs(desk, model, pairs) for model in (base.name, tuned)]
    if desk.plan.method is Method.ORPO:
        return [orpo(old, strength) for old in before], [orpo(new, strength) for new in after]
    return (
        [dpo(old, old, strength) for old in before],
        [dpo(new, old, strength) for old, new in zip(before, after, strict=True)],
    )


def dpo(policy: PairLogprobs, reference: PairLogprobs, beta: float) -> RowLoss:
    """DPO's loss of a pair, -log sigmoid(beta x ((policy - reference of the chosen) - (the same of the rejected)))."""
    margin = beta * ((policy.chosen - reference.chosen) - (policy.rejected - reference.rejected))
    return RowLoss(_softplus(-margin), margin=margin)


def orpo(policy: PairLogprobs, weight: float) -> RowLoss:
    """ORPO's loss of a pair: mean NLL of the chosen answer + weight x -log sigmoid(log odds ratio of mean likelihoods).

    As in the learner, an answer is rewarded by weight x its mean log-probability.
    """
    chosen, rejected = policy.chosen / policy.chosen_tokens, policy.rejected / policy.rejected_tokens
    log_odds_ratio = (chosen - _log1mexp(chosen)) - (rejected - _log1mexp(rejected))
    return RowLoss(-chosen + weight * _softplus(-log_odds_ratio), margin=weight * (chosen - rejected))


async def _pair_logprobs(desk: Desk, model: str, pairs: Sequence[list[Example]]) -> list[PairLogprobs]:
    examples = [example for pair in pairs for example in pair]
    scored = await _score(desk, model, [example.token_ids for example in examples])
    answers = [
        [logprob for weight, logprob in zip(example.weights[1:], logprobs, strict=True) if weight]
        for example, logprobs in zip(examples, scored, strict=True)
    ]
    return [
        PairLogprobs(sum(chosen), len(chosen), sum(rejected), len(rejected))
        for chosen, rejected in zip(answers[::2], answers[1::2], strict=True)
    ]


async def _score(desk: Desk, model: str, sequences: Sequence[list[int]]) -> list[list[float]]:
    """Log-probabilities of all ids but the first of each sequence, under one model."""
    account = desk.job.account.removeprefix("accounts/")
    api = Api(desk.settings.base_url, account, desk.keys.internal, desk.away, desk.rest)
    limit, done = asyncio.Semaphore(AT_ONCE), 0

    async def one(ids: list[int]) -> list[float]:
        nonlocal done
        async with limit:
            answer = await api.post("/internal/policies:score", {"model": model, "token_ids": ids})
            done += 1
            if done % 50 == 0:
                await desk.say(f"Held-out loss of {short_id(model)}: {done} of {len(sequences)} rows")
            return answer["logprobs"]

    try:
        return await asyncio.gather(*map(one, sequences))
    finally:
        await api.close()


def _softplus(value: float) -> float:
    return max(value, 0.0) + math.log1p(math.exp(-abs(value)))


def _log1mexp(value: float) -> float:
    """log(1 - exp(value)) for value below 0, which is held as far below it as in the learner."""
    value = min(value, MEAN_LOGP_LIMIT)
    return math.log(-math.expm1(value)) if value > -math.log(2) else math.log1p(-math.exp(value))
