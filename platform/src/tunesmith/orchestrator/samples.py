"""From the completions that the gateway recorded to training samples.

A later turn joins an earlier sequence only where its prompt ids begin with exactly that sequence; otherwise it starts a new one.
Sampled text is never tokenised again, and a sampled token is trained once: in a fork it is part of the prompt, masked.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

from tunesmith.errors import InvalidArgument

Head = tuple[int, bytes]
"""Length and digest of the ids that something begins with."""


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
        if len(sampled) != len(logprobs):
            raise InvalidArgument(f"A completion has {len(sampled)} sampled ids and {len(logprobs)} log-probabilities.")
        self.token_ids += [*given, *sampled]
        self.sampled += [0] * len(given) + [1] * len(sampled)
        self.logprobs += [0.0] * len(given) + list(logprobs)


@dataclass(frozen=True)
class Calls:
    """What a rollout's recorded model calls come to. Calls that were cut do not count."""

    turns: int
    """Complete model calls."""
    completion_tokens: int
    """Sampled tokens of all of them."""
    truncated: bool
    """Whether one ended at its token limit."""

    @classmethod
    def of(cls, completions: Sequence[Completion]) -> Calls:
        """Count the complete ones."""
        whole = [completion for completion in completions if completion.status == "complete"]
        return cls(
            turns=len(whole),
            completion_tokens=sum(len(completion.sampled_ids) for completion in whole),
            truncated=any(completion.finish_reason == "length" for completion in whole),
        )


def merge(completions: Sequence[Completion], policy: str) -> list[TokenSequence]:
    """Token sequences to train on: the complete calls of `policy`, in turn order, merged on exact prefixes.

    Calls with the same prompt are retries of each other: those whose answer the agent used (a later call, to whatever model,
    goes on behind it) are trained, or the last one if it used none. Reads every recorded id once.

    Raises InvalidArgument when a completion's ids and log-probabilities do not pair up.
    """
    ordered = sorted(completions, key=lambda completion: completion.turn)
    lengths = sorted({len(completion.prompt_ids) + len(completion.sampled_ids) for completion in ordered})
    read = [(completion, *_heads(completion, lengths)) for completion in ordered]
    calls = [call for call in read if _is_trained(call[0], policy)]
    ends = {whole for _, _, whole in calls}
    used = {head for _, heads, _ in read for head in heads if head in ends}

    sequences: list[TokenSequence] = []
    open_ends: dict[Head, TokenSequence] = {}
    for completion, heads, whole in _without_retries(calls, used):
        continued = max((head for head in heads if head in open_ends), default=None)
        if continued is None:
            sequences.append(sequence := TokenSequence())
        else:
            sequence = open_ends.pop(continued)
        given = completion.prompt_ids[len(sequence.token_ids) :]
        sequence.extend(given, completion.sampled_ids, completion.logprobs)
        open_ends[whole] = sequence  # which now is prompt and sampled ids of this call, and nothing else
    return sequences


_Read = tuple[Completion, list[Head], Head]


def _is_trained(completion: Completion, policy: str) -> bool:
    return completion.model == policy and completion.status == "complete" and bool(completion.sampled_ids)


def _without_retries(calls: list[_Read], used: set[Head]) -> list[_Read]:
    by_prompt: dict[Head, dict[Head, _Read]] = {}
    for call in calls:
        _, heads, whole = call
        by_prompt.setdefault(heads[-1], {})[whole] = call  # the same answer twice is one answer
    kept = []
    for answers in by_prompt.values():
        kept += [call for whole, call in answers.items() if whole in used] or [[*answers.values()][-1]]
    return sorted(kept, key=lambda call: call[0].turn)


def _heads(completion: Completion, lengths: Sequence[int]) -> tuple[list[Head], Head]:
    """What the prompt begins with, at each of `lengths` that it has and as a whole (last), and prompt and sampled ids together."""
    prompt, sampled = completion.prompt_ids, completion.sampled_ids
    digest = hashlib.blake2b(digest_size=16)
    heads: list[Head] = []
    start = 0
    for end in [*(length for length in lengths if length < len(prompt)), len(prompt)]:
        digest.update(array("q", prompt[start:end]))
        heads.append((end, digest.copy().digest()))
        start = end
    digest.update(array("q", sampled))
    return heads, (len(prompt) + len(sampled), digest.digest())
