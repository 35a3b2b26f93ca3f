"""What all contenders work with: a model folder with a real tokenizer, one answer of so many tokens, and the request for it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import msgspec
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

REPO = Path(__file__).parents[2]
CONTEXT = 131_072
_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_model(folder: Path) -> Path:
    """A model folder without weights: a byte-level BPE of 4,096 tokens learned from the documentation, and a chat template."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=4096, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train([str(path) for path in sorted((REPO / "docs").rglob("*.md"))], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    end = tokenizer.token_to_id("<|im_end|>")
    config = {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "max_position_embeddings": CONTEXT,
        "vocab_size": 4096,
        "eos_token_id": end,
    }
    (folder / "config.json").write_text(json.dumps(config))
    settings = {"eos_token": "<|im_end|>", "tokenizer_class": "PreTrainedTokenizerFast", "chat_template": _TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")  # no tensors: nobody computes here
    return folder


@dataclass(frozen=True)
class Material:
    """The same answer in every form in which it crosses a wire."""

    ids: list[int]
    logprobs: list[float]
    pieces: list[str]

    @classmethod
    def make(cls, folder: Path, tokens: int) -> Material:
        """An answer of `tokens` tokens, the last of them the stop id."""
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        text = (REPO / "docs/reference/training.md").read_text() * (1 + tokens // 2000)
        ids = tokenizer.encode(text, add_special_tokens=False).ids[: tokens - 1]
        while "\ufffd" in tokenizer.decode(ids):
            ids = ids[:-1]
        end = tokenizer.token_to_id("<|im_end|>")
        ids = [*ids, *[ids[0]] * (tokens - 1 - len(ids)), end]
        shown = [tokenizer.decode(ids[: n + 1]).rstrip("\ufffd") for n in range(len(ids))]
        pieces = [now[len(before) :] for before, now in zip(["", *shown], shown, strict=False)]
        logprobs = [-((id * 2_654_435_761) % 4_000_000) / 1_000_003 for id in ids]
        return cls(ids, logprobs, pieces)

    def engine_events(self, stream: bool, prompt_tokens: int) -> list[bytes]:
        """The NDJSON lines of `/generate`: one a token, or the final event alone."""
        usage = {"prompt_tokens": prompt_tokens, "cached_tokens": 0, "completion_tokens": len(self.ids)}
        if not stream:
            return [self._line(self.ids, self.logprobs, "".join(self.pieces), "stop", usage)]
        lines = [
            self._line([id], [logprob], piece, None, None)
            for id, logprob, piece in zip(self.ids, self.logprobs, self.pieces, strict=True)
        ]
        return [*lines, self._line([], [], "", "stop", usage)]

    def _line(self, ids: list[int], logprobs: list[float], text: str, reason: str | None, usage: object) -> bytes:
        event = {"index": 0, "token_ids": ids, "logprobs": logprobs, "model_logprobs": logprobs, "text": text}
        event |= {"finish_reason": reason, **({"usage": usage} if usage else {})}
        return json.dumps(event).encode() + b"\n"

    def upstream_whole(self) -> bytes:
        """A chat completion as an OpenAI-compatible upstream writes it."""
        message = {"role": "assistant", "content": "".join(self.pieces)}
        content = [self._token(n) for n in range(len(self.ids))]
        choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": {"content": content}}
        usage = {"prompt_tokens": 20, "completion_tokens": len(self.ids), "total_tokens": 20 + len(self.ids)}
        return msgspec.json.encode({**self._head("chat.completion"), "choices": [choice], "usage": usage})

    def upstream_events(self) -> list[bytes]:
        """The server-sent events of the same, one a token."""
        head = self._head("chat.completion.chunk")
        choices = [
            {"index": 0, "delta": {"content": piece}, "finish_reason": None, "logprobs": {"content": [self._token(n)]}}
            for n, piece in enumerate(self.pieces)
        ]
        choices.append({"index": 0, "delta": {}, "finish_reason": "stop", "logprobs": None})
        return [b"data: " + msgspec.json.encode({**head, "choices": [c]}) + b"\n\n" for c in choices] + [
            b"data: [DONE]\n\n"
        ]

    def _token(self, n: int) -> dict[str, object]:
        spelled = self.pieces[n]
        return {"token": spelled, "logprob": self.logprobs[n], "bytes": list(spelled.encode()), "top_logprobs": []}

    def _head(self, kind: str) -> dict[str, object]:
        return {"id": "chatcmpl-upstream", "object": kind, "created": 1_700_000_000, "model": "remote"}


def request_body(model: str, stream: bool, logprobs: bool = True) -> bytes:
    """The call that every contender gets."""
    messages = [
        {"role": "system", "content": "You are a careful assistant. Answer in full sentences."},
        {"role": "user", "content": "Explain how a training loop keeps its batches apart, with all details you know."},
    ]
    body: dict[str, object] = {"model": model, "messages": messages, "max_tokens": 4000, "temperature": 1.0}
    body |= {"logprobs": True} if logprobs else {}
    return json.dumps(body | ({"stream": True} if stream else {})).encode()
