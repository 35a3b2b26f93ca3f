"""From the completions that the gateway recorded to training samples.

A later turn joins an earlier sequence only where its prompt ids begin with exactly that sequence; otherwise it starts a new one.
Sampled text is never tokenised again, and a sampled token is trained once: in a fork it is part of the prompt, masked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Completion:
    """One model call as the gateway recorded it (`docs/reference/seams.md`)."""

    turn: int
    model: str
    prompt_ids: list[int]
    sampled_ids: list[int]
    logprobs: list[float]
    status: str
    finish_reason: str | None = None


@dataclass
class TokenSequence:
    """`token_ids`, `sampled` (0/1) and `logprobs` (0 where given) of equal length [L]."""

    token_ids: list[int] = field(default_factory=list)
    sampled: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)

    def extend(self, given: Sequence[int], sampled: Sequence[int], logprobs: Sequence[float]) -> None:
        """Append given ids (masked), then sampled ids with their log-probabilities."""
        self.token_ids += [*given, *sampled]
        self.sampled += [0] * len(given) + [1] * len(sampled)
        self.logprobs += [0.0] * len(given) + list(logprobs)


def merge(completions: Sequence[Completion], policy: str) -> list[TokenSequence]:
    """Token sequences to train on: the complete calls of `policy`, in turn order, merged on exact prefixes.

    Of several calls with the same prompt only the last is trained: the others were retries whose answer the agent never used.
    """
    calls = [c for c in completions if c.model == policy and c.status == "complete" and c.sampled_ids]
    last_of_prompt = {tuple(call.prompt_ids): call for call in sorted(calls, key=lambda c: c.turn)}
    sequences: list[TokenSequence] = []
    for completion in sorted(last_of_prompt.values(), key=lambda c: c.turn):
        prompt = completion.prompt_ids
        continued = [s for s in sequences if prompt[: len(s.token_ids)] == s.token_ids]
        if continued:
            sequence = max(continued, key=lambda s: len(s.token_ids))
        else:
            sequence = TokenSequence()
            sequences.append(sequence)
        sequence.extend(prompt[len(sequence.token_ids) :], completion.sampled_ids, completion.logprobs)
    return sequences
