"""The binary forms in which a trace carries token ids and log-probabilities: base64 of a zstd frame that states its content size.

prompt_token_ids   a JSON array of integers
logprobs           LP/v1: a header of 24 bytes, little-endian: magic "LP01", version u8 = 1, flags u8, reserved u16, token count u32,
                   body bytes u32, reserved u64; then for each sampled token its id (i32) and log-probability (f32)
"""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import numpy as np
import zstandard

from tunesmith.db.completions import Completion

_LP_HEADER = struct.Struct("<4sBBHIIQ")
_LP_ENTRY = np.dtype([("id", "<i4"), ("logprob", "<f4")])


def payloads_of(completion: Completion) -> dict[str, Any]:
    """The payloads of one completion; without those that it has not (a passed-through call has no ids)."""
    payloads: dict[str, Any] = {}
    if completion.prompt_ids:
        content = json.dumps(completion.prompt_ids, separators=(",", ":")).encode()
        payloads["prompt_token_ids"] = _packed(content, "pti/v1", "prompt_only", len(completion.prompt_ids))
    if completion.sampled_ids and len(completion.logprobs) == len(completion.sampled_ids):
        content = pack_logprobs(completion.sampled_ids, completion.logprobs)
        payloads["logprobs"] = _packed(content, "lp/v1", "completion_only", len(completion.sampled_ids))
    return payloads


def pack_logprobs(token_ids: list[int], logprobs: list[float]) -> bytes:
    """LP/v1 of the sampled tokens [S] and their log-probabilities [S]."""
    body = np.empty(len(token_ids), _LP_ENTRY)
    body["id"], body["logprob"] = token_ids, logprobs
    return _LP_HEADER.pack(b"LP01", 1, 0, 0, len(token_ids), body.nbytes, 0) + body.tobytes()


def _packed(content: bytes, form: str, scope: str, tokens: int) -> dict[str, Any]:
    frame = zstandard.ZstdCompressor(write_content_size=True).compress(content)
    return {
        "manifest": {"format": form, "scope": scope, "token_count": tokens, "encoding": "base64+zstd"},
        "data": base64.b64encode(frame).decode(),
    }
