"""The binary forms in which a gateway returns token ids and log-probabilities: base64 of a zstd frame, little-endian inside.

prompt_token_ids   JSON array of integers
logprobs           LP/v1: 24 bytes of header (magic LP01, version, flags, reserved, token count, body bytes, reserved), then per token id
                   (i32, -1 = unknown) and log-probability (f32)
router_replay      R3/v1: 32 bytes of header (magic R3V1, version, selector mode, routing dtype, flags, total tokens, replayed tokens,
                   replay start, selector bytes, matrix bytes), then the selector, then one matrix after the other
"""

from __future__ import annotations

import base64
import json
import logging
import struct
from collections.abc import Callable
from importlib import import_module
from typing import Any

from eval_protocol.errors import UsageError

LARGEST_PAYLOAD = 256 * 2**20
"""Bytes of one payload, unpacked: what a frame says of its own size is checked before anything is unpacked."""
LP_HEADER = struct.Struct("<4sBBHIIQ")
LP_ENTRY = struct.Struct("<if")
R3_HEADER = struct.Struct("<4sBBBBIIIIQ")
SELECTORS = ("all", "suffix", "bitmap")
DTYPES = {1: "uint8", 2: "uint16"}

log = logging.getLogger("eval_protocol.tracing.payloads")
Decompress = Callable[[bytes], bytes]


def decompressor() -> Decompress:
    """What unpacks zstd frames.

    Raises:
        UsageError: nothing on this Python does.
    """
    try:
        zstandard = import_module("zstandard")
    except ImportError:
        raise UsageError(
            "include_payloads needs zstd: install the extra (pip install 'tunesmith-eval[payloads]'), or leave include_payloads out."
        ) from None

    def decompress(frame: bytes) -> bytes:
        size = zstandard.frame_content_size(frame)
        if size < 0:
            raise ValueError("the frame does not state its content size")
        if size > LARGEST_PAYLOAD:
            raise ValueError(f"{size:,} bytes unpacked are more than {LARGEST_PAYLOAD:,}")
        return zstandard.ZstdDecompressor().decompress(frame)

    return decompress


def decode(payloads: Any, decompress: Decompress) -> dict[str, Any]:
    """The payloads of one trace as fields of `execution_metadata.extra`. One that cannot be read is left out with a warning."""
    fields: dict[str, Any] = {}
    for name, read in READERS.items():
        payload = payloads.get(name) if isinstance(payloads, dict) else None
        if not isinstance(payload, dict):
            continue
        try:
            content = decompress(base64.b64decode(payload["data"], validate=True))
            fields.update(read(content, payload.get("manifest") or {}))
        except Exception as error:  # noqa: BLE001 - bytes from elsewhere, a library's own errors: the trajectory is worth more
            log.warning("The payload %s of a trace cannot be read: %s", name, error)
    return fields


def _prompt_token_ids(content: bytes, manifest: dict[str, Any]) -> dict[str, Any]:
    ids = json.loads(content)
    if not isinstance(ids, list) or not all(isinstance(one, int) and not isinstance(one, bool) for one in ids):
        raise ValueError("it is no list of integers")
    return {"prompt_token_ids": ids, "prompt_token_ids_metadata": dict(manifest)}


def _logprobs(content: bytes, manifest: dict[str, Any]) -> dict[str, Any]:
    magic, version, flags, _, count, size, _ = LP_HEADER.unpack_from(content)
    if (magic, version) != (b"LP01", 1):
        raise ValueError(f"it is {magic!r} version {version}, not LP01 version 1")
    body = content[LP_HEADER.size :]
    if len(body) != size or size != count * LP_ENTRY.size:
        raise ValueError(f"{count} tokens take {count * LP_ENTRY.size} bytes, not {len(body)}")
    entries = list(LP_ENTRY.iter_unpack(body))
    fields: dict[str, Any] = {
        "completion_logprobs": [logprob for _, logprob in entries],
        "logprobs_metadata": {**manifest, "version": version, "flags": flags, "token_count": count},
    }
    if all(token >= 0 for token, _ in entries):
        fields["completion_token_ids"] = [token for token, _ in entries]
    return fields


def _router_replay(content: bytes, manifest: dict[str, Any]) -> dict[str, Any]:
    magic, version, selector, dtype, flags, total, replayed, start, selector_size, matrix_size = R3_HEADER.unpack_from(
        content
    )
    if (magic, version) != (b"R3V1", 1):
        raise ValueError(f"it is {magic!r} version {version}, not R3V1 version 1")
    if selector >= len(SELECTORS) or dtype not in DTYPES:
        raise ValueError(f"selector mode {selector} or routing dtype {dtype} is unknown")
    chosen = content[R3_HEADER.size : R3_HEADER.size + selector_size]
    matrices = content[R3_HEADER.size + selector_size :]
    if (
        len(chosen) != selector_size
        or (matrix_size == 0) != (not matrices)
        or (matrices and len(matrices) % matrix_size)
    ):
        raise ValueError("its length does not fit its header")
    cut = range(0, len(matrices), matrix_size) if matrix_size else ()
    return {
        "routing_matrices": [base64.b64encode(matrices[at : at + matrix_size]).decode() for at in cut],
        "routing_metadata": {
            **manifest,
            "version": version,
            "flags": flags,
            "selector_mode": SELECTORS[selector],
            "selector": base64.b64encode(chosen).decode(),
            "routing_dtype": DTYPES[dtype],
            "total_tokens": total,
            "replayed_tokens": replayed,
            "replay_start": start,
        },
    }


READERS: dict[str, Callable[[bytes, dict[str, Any]], dict[str, Any]]] = {
    "prompt_token_ids": _prompt_token_ids,
    "logprobs": _logprobs,
    "router_replay": _router_replay,
}
