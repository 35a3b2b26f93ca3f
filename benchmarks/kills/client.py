"""A client that keeps every completion it received, while the platform is killed under it, and looks for them afterwards."""

from __future__ import annotations

import base64
import json
import random
import struct
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any

import numpy as np
import zstandard

from tests.loop.platform import Platform

PAUSE_SECONDS = 0.25
_HEADER_BYTES = struct.calcsize("<4sBBHIIQ")
_ENTRY = np.dtype([("id", "<i4"), ("logprob", "<f4")])


@dataclass(frozen=True)
class Received:
    """One completion that came with a 2xx, to its end."""

    rollout: str
    id: str
    text: str
    logprobs: list[float]


@dataclass
class Client:
    """Calls a model under rollout ids of its own, whole and streamed in turn, until it is stopped."""

    platform: Platform
    model: str
    seed: int
    received: list[Received] = field(default_factory=list)
    failed: int = 0
    """Calls that ended without a whole answer: nothing was promised for them."""

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Client:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def missing(self) -> list[str]:
        """Ids of completions that the traces do not have as they were received."""
        return [each.id for each in self.received if not self._is_stored(each)]

    def _work(self) -> None:
        number, rng = 0, random.Random(self.seed)
        while not self._stop.wait(rng.uniform(0, PAUSE_SECONDS)):
            number += 1
            try:
                self.received.append(self._call(f"client-{number}", stream=number % 2 == 0))
            except (OSError, HTTPException, ValueError, KeyError, IndexError):  # refused, cut, or half an answer
                self.failed += 1

    def _call(self, rollout: str, *, stream: bool) -> Received:
        path = f"/rollout_id/{rollout}/invocation_id/client/experiment_id/client/run_id/client/row_id/{rollout}"
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": f"Tom has {len(rollout)} apples. How many?"}],
            "max_tokens": 12,
            "logprobs": True,
            "stream": stream,
        }
        headers = {"Authorization": f"Bearer {self.platform.key}", "Content-Type": "application/json"}
        request = urllib.request.Request(
            f"{self.platform.url}/v1{path}/chat/completions", json.dumps(body).encode(), headers
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            if not stream:
                return _whole(rollout, json.loads(response.read()))
            return _streamed(rollout, response.read().decode())

    def _is_stored(self, wanted: Received) -> bool:
        found = self.platform.get(f"/v1/traces?tags=rollout_id:{wanted.rollout}&include_payloads=true")["traces"]
        for trace in found:
            if trace["id"] == f"{wanted.id}-0" and trace["metadata"]["status"] == "complete":
                frame = base64.b64decode(trace["payloads"]["logprobs"]["data"])
                entries = np.frombuffer(zstandard.ZstdDecompressor().decompress(frame)[_HEADER_BYTES:], _ENTRY)
                said = np.asarray(wanted.logprobs, np.float32)
                return trace["output"]["content"] == wanted.text and np.array_equal(
                    entries["logprob"][: len(said)], said
                )
        return False


def _whole(rollout: str, answer: dict[str, Any]) -> Received:
    choice = answer["choices"][0]
    return Received(rollout, answer["id"], choice["message"]["content"], _logprobs(choice))


def _streamed(rollout: str, said: str) -> Received:
    """Raises ValueError for a stream that was cut."""
    lines = [line.removeprefix("data: ") for line in said.splitlines() if line.startswith("data: ")]
    if not lines or lines[-1] != "[DONE]":
        raise ValueError("cut")
    chunks = [json.loads(line) for line in lines[:-1]]
    choices = [chunk["choices"][0] for chunk in chunks if chunk.get("choices")]
    if not any(choice.get("finish_reason") for choice in choices):
        raise ValueError("no end")
    text = "".join(choice["delta"].get("content") or "" for choice in choices)
    return Received(rollout, chunks[0]["id"], text, [value for choice in choices for value in _logprobs(choice)])


def _logprobs(choice: dict[str, Any]) -> list[float]:
    return [entry["logprob"] for entry in (choice.get("logprobs") or {}).get("content") or ()]
