"""A rollout token by token: what was given, what was sampled with which log-probability, and what training made of it."""

from __future__ import annotations

import codecs
import math
from collections.abc import Sequence
from typing import Any

from tunesmith.db.rollout_calls import RecordedCall
from tunesmith.rendering.vocabulary import Vocabulary


def token_turns(
    calls: Sequence[RecordedCall], vocabulary: Vocabulary | None, advantage: float | None
) -> list[dict[str, Any]]:
    """The `turns` of a rollout (`docs/reference/dashboard.md`).

    A turn that goes on where an earlier one ended (its prompt begins with exactly that one's ids) holds only what is new: `start` says
    at which position. Its whole ids are those of the turns before it, up to there.

    Args:
        calls: in turn order.
        vocabulary: of the base model; None where the model is not on this machine: tokens then have no text.
        advantage: of the rollout; given to what a live policy sampled in calls that ended.
    """
    turns: list[dict[str, Any]] = []
    ends: list[list[int]] = []
    for call in calls:
        ends.sort(key=len, reverse=True)
        start = next((len(end) for end in ends if call.prompt_ids[: len(end)] == end), 0)
        ends.append([*call.prompt_ids, *call.sampled_ids])
        trained = call.policy_version is not None and call.status == "complete"
        turns.append(
            {
                "turn": call.turn,
                "model": call.model,
                "finishReason": call.finish_reason,
                "temperature": call.temperature,
                "start": start,
                "tokens": _tokens(call, start, vocabulary, advantage if trained else None),
            }
        )
    return turns


def _tokens(
    call: RecordedCall, start: int, vocabulary: Vocabulary | None, advantage: float | None
) -> list[dict[str, Any]]:
    given = call.prompt_ids[start:]
    texts = token_texts([*given, *call.sampled_ids], vocabulary)
    tokens = [
        {"id": id, "text": text, "sampled": False, "logprob": None, "advantage": None}
        for id, text in zip(given, texts, strict=False)
    ]
    logprobs = [*call.logprobs, *[math.nan] * (len(call.sampled_ids) - len(call.logprobs))]
    for id, text, logprob in zip(call.sampled_ids, texts[len(given) :], logprobs, strict=False):
        said = round(logprob, 6) if math.isfinite(logprob) else None
        tokens.append({"id": id, "text": text, "sampled": True, "logprob": said, "advantage": advantage})
    return tokens


def token_texts(ids: Sequence[int], vocabulary: Vocabulary | None) -> list[str]:
    """Text of each token; together they are the text of all.

    A character that several tokens make up is the text of the one that completes it, and "" of the others; bytes that make up no
    character are U+FFFD.
    """
    if vocabulary is None:
        return [""] * len(ids)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    last = len(ids) - 1
    return [decoder.decode(vocabulary.token_bytes(id), final=number == last) for number, id in enumerate(ids)]
