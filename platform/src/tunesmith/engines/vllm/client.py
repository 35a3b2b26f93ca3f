"""vLLM's HTTP as far as the Engine API needs it: token ids in and out, prompt log-probabilities, LoRA adapters."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import aiohttp

from tunesmith.engines.vllm.candidate import Piece, Token
from tunesmith.engines.vllm.plugin import NORMALISER_ID
from tunesmith.errors import InvalidArgument, NotFound, Unavailable

_LINE_BYTES = 2**22
"""Longest line of a stream."""
_BEST_LOGPROBS = 7
"""Most entries asked for a position: five alternatives, the normaliser, and one for what vLLM leaves out."""


class VllmClient:
    """Calls one vLLM server through its unix socket. Create it inside the event loop that uses it."""

    def __init__(self, socket: Path) -> None:
        self._session = aiohttp.ClientSession(
            "http://vllm",
            connector=aiohttp.UnixConnector(str(socket), limit=0),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=30),
            read_bufsize=_LINE_BYTES,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def healthy(self) -> bool:
        """Whether the server answers `/health` with 200."""
        try:
            async with self._session.get("/health", timeout=aiohttp.ClientTimeout(total=10)) as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    async def context_length(self) -> int:
        """Most tokens of a prompt and its answer together."""
        return int((await self._json("GET", "/v1/models"))["data"][0]["max_model_len"])

    async def sample(
        self, model: str, prompt_ids: list[int], params: dict[str, Any], top: int, interval: int
    ) -> AsyncGenerator[Piece]:
        """Sample one candidate; closing the iterator aborts it in vLLM.

        Args:
            model: vLLM's name of base or adapter.
            prompt_ids: Token ids of the prompt.
            params: vLLM's `SamplingParams`.
            top: Alternatives for each position.
            interval: Tokens of a piece; the first and the last come at once.

        Raises:
            InvalidArgument, NotFound, Unavailable: as vLLM refuses, lacks the model, or has ended.
        """
        # vLLM lists the sampled token, then the others up to the number asked for, the normaliser among them: two more than wanted.
        asked = {**params, "logprobs": min(top + 2, _BEST_LOGPROBS), "detokenize": False, "stream_interval": interval}
        body = {
            "model": model, "token_ids": prompt_ids, "sampling_params": asked,
            "stream": True, "stream_options": {"include_usage": True},
        }  # fmt: skip
        try:
            async with self._session.post("/inference/v1/generate", json=body) as answer:
                if answer.status != 200:
                    raise _refusal(answer.status, await answer.read())
                last: Piece | None = None
                async for line in answer.content:
                    if not line.startswith(b"data: {"):
                        continue
                    chunk = json.loads(line[6:])
                    if "error" in chunk:
                        raise _refusal(500, line[6:])
                    if last is not None:  # the usage comes after the last tokens
                        details = (chunk.get("usage") or {}).get("prompt_tokens_details") or {}
                        yield Piece(last.tokens, last.finish_reason, details.get("cached_tokens") or 0)
                        return
                    for choice in chunk["choices"]:
                        piece = Piece(_tokens(choice, top), choice["finish_reason"])
                        if piece.finish_reason is None:
                            yield piece
                        else:
                            last = piece
                raise Unavailable("vLLM ended its answer in the middle; see the engine's log.")
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(f"vLLM does not answer ({error}); see the engine's log.") from error

    async def score(self, model: str, token_ids: list[int]) -> list[float]:
        """Log-probability of each token but the first, at temperature 1."""
        params = {"max_tokens": 1, "temperature": 0, "prompt_logprobs": 0, "detokenize": False}
        body = {"model": model, "token_ids": token_ids, "sampling_params": params}
        answer = await self._json("POST", "/inference/v1/generate", body)
        entries = answer["prompt_logprobs"]
        return [entry[str(token_id)]["logprob"] for entry, token_id in zip(entries[1:], token_ids[1:], strict=True)]

    async def load(self, name: str, folder: Path) -> None:
        """Load a LoRA folder under a name."""
        await self._send("/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(folder)})

    async def unload(self, name: str) -> None:
        """Forget an adapter."""
        await self._send("/v1/unload_lora_adapter", {"lora_name": name})

    async def _json(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        return json.loads(await self._call(method, path, body))

    async def _send(self, path: str, body: dict[str, Any]) -> None:
        await self._call("POST", path, body)

    async def _call(self, method: str, path: str, body: dict[str, Any] | None) -> bytes:
        try:
            async with self._session.request(method, path, json=body) as answer:
                content = await answer.read()
                if answer.status != 200:
                    raise _refusal(answer.status, content)
                return content
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(f"vLLM does not answer ({error}); see the engine's log.") from error


def _tokens(choice: dict[str, Any], top: int) -> list[Token]:
    entries = (choice.get("logprobs") or {}).get("content") or []
    found = []
    for token_id, entry in zip(choice["token_ids"], entries, strict=True):
        alternatives = {other["token_id"]: other["logprob"] for other in entry["top_logprobs"]}
        normaliser = alternatives.pop(NORMALISER_ID, None)
        # The sampled token comes first, whatever its rank.
        best = sorted(alternatives.items(), key=lambda item: -item[1])[:top] if top else []
        found.append(Token(token_id, entry["logprob"], normaliser, best))
    return found


def _refusal(status: int, content: bytes) -> InvalidArgument | NotFound | Unavailable:
    try:
        error = json.loads(content)["error"]
        message, status = str(error["message"]), int(error.get("code") or status)
    except (ValueError, KeyError, TypeError):
        message = content.decode(errors="replace")[:500]
    if status == 404:
        return NotFound(f"vLLM: {message}")
    if 400 <= status < 500:
        return InvalidArgument(f"vLLM: {message}")
    return Unavailable(f"vLLM failed: {message}; see the engine's log.")
