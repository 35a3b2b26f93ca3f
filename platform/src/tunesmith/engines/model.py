"""Loading a base model, and the three things an engine computes with one: prefill, decode, score."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from tunesmith.catalog.architectures import unsupported
from tunesmith.engines.attention import ATTENTION, PADDING_ROWS, PromptPass
from tunesmith.engines.cache import Prefix
from tunesmith.engines.layout import DecodePass
from tunesmith.engines.plain import PlainDecoder, positions_stand_alone
from tunesmith.errors import InvalidArgument

_SCORE_LOGITS = 2**25
"""Most logits computed at once when scoring (128 MiB in fp32)."""
_numbers = itertools.count()


@dataclass(frozen=True, eq=False)
class Model:
    """Weights that can run: the base, or a private copy with an adapter merged in."""

    name: str | None
    """Adapter name; None = the base."""
    module: PreTrainedModel
    sha256: str = ""
    """Of the adapter's weights file; empty for the base."""
    plain: PlainDecoder | None = None
    """Computes the same with fewer operations, where the architecture has such a form."""
    number: int = field(default_factory=lambda: next(_numbers))
    """Unique in this process: tells two adapters of the same name apart."""

    def prefill(self, prompts: Sequence[Sequence[int]]) -> list[Prefix]:
        """Keys, values and last logits of each prompt. They lie behind each other in one pass and do not see each other."""
        rows = PromptPass([len(prompt) for prompt in prompts])
        # The padding is kept too: the head is a product, and SiLU's last elements are the padding's, whatever the prompts are.
        last = [*(part.stop - 1 for part in rows.parts), *range(rows.tokens - PADDING_ROWS, rows.tokens)]
        logits = self._forward(rows.padded([*itertools.chain(*prompts)]), rows, torch.tensor(last))
        return [Prefix(*rows.keys_and_values(part), row.clone()) for part, row in zip(rows.parts, logits, strict=False)]

    def decode(self, rows: DecodePass, last_ids: Sequence[int]) -> Tensor:
        """Logits [rows, V] after each row's last token."""
        return self._forward(torch.tensor([*last_ids, *[0] * PADDING_ROWS]), rows)[: rows.rows]

    def score(self, token_ids: Sequence[int]) -> list[float]:
        """Log-probability of each token but the first, given those before it, at temperature 1."""
        targets = torch.tensor(token_ids[1:])
        chunk = max(1, _SCORE_LOGITS // self.vocab_size)
        found: list[float] = []
        for start in range(0, len(targets), chunk):
            part = targets[start : start + chunk]
            rows = PromptPass([start + len(part)])
            keep = torch.arange(start, start + len(part))
            logits = self._forward(rows.padded(token_ids[: start + len(part)]), rows, keep)
            found += torch.log_softmax(logits, -1).gather(1, part[:, None])[:, 0].tolist()
        return found

    @property
    def packs_prompts(self) -> bool:
        """Whether a prompt comes out the same among others in one pass."""
        return positions_stand_alone(self.module)

    @property
    def vocab_size(self) -> int:
        """Logits per token."""
        head = self.module.get_output_embeddings()
        assert isinstance(head, nn.Linear)  # checked when the model was loaded
        return head.weight.shape[0]

    def _forward(self, ids: Tensor, rows: PromptPass | DecodePass, keep: Tensor | None = None) -> Tensor:
        """Logits [T, V] of one pass, or of the tokens `keep`."""
        if self.plain is not None:
            return self.plain.logits(self.plain.hidden(ids, rows.positions, rows.longest, rows, keep))
        output = self.module(
            input_ids=ids[None],
            position_ids=rows.positions[None],
            use_cache=False,
            rows=rows,
            logits_to_keep=0 if keep is None else keep,
        )
        return output.logits[0].float()


def load_model(folder: Path) -> Model:
    """Load a dense decoder-only model in fp32 from a local folder, safetensors only, no remote code.

    Raises InvalidArgument when the folder holds no such model.
    """
    if not (folder / "config.json").is_file():
        raise InvalidArgument(
            f"{folder} has no config.json: not a Hugging Face model folder. Give --model such a folder."
        )
    if not list(folder.glob("*.safetensors")):
        raise InvalidArgument(
            f"{folder} has no *.safetensors file; other weight formats are not loaded. Convert it first."
        )
    if reason := unsupported(folder):
        raise InvalidArgument(f"{folder} cannot be served: {reason}")
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        module = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            attn_implementation=ATTENTION,
        )
    except Exception as error:
        raise InvalidArgument(f"{folder} cannot be loaded as a causal language model: {error}") from error
    if not module._supports_attention_backend:
        raise _own_attention(folder, config.model_type)
    if not isinstance(module.get_output_embeddings(), nn.Linear):
        raise InvalidArgument(
            f"{folder}: {type(module).__name__} has no linear output layer. Serve it with another engine."
        )
    module.requires_grad_(False)
    return Model(None, module.eval(), plain=PlainDecoder.of(module))


def _own_attention(folder: Path, model_type: str) -> InvalidArgument:
    return InvalidArgument(
        f"{folder}: models of type {model_type} do not take their attention from outside, which this engine needs. "
        "Serve it with another engine."
    )


def private_copy(base: PreTrainedModel, weights: dict[str, Tensor]) -> PreTrainedModel:
    """A second model that shares every tensor with `base` except the named linear weights."""
    shared = itertools.chain(base.parameters(), base.buffers())
    memo: dict[int, Any] = {id(tensor): tensor for tensor in shared}
    memo |= {id(module.config): module.config for module in base.modules() if hasattr(module, "config")}
    clone = copy.deepcopy(base, memo)
    for name, weight in weights.items():
        clone.get_submodule(name).weight = nn.Parameter(weight, requires_grad=False)
    return clone


def context_length(module: PreTrainedModel) -> int:
    """Positions the model was made for. Raises InvalidArgument when its configuration does not say."""
    length = getattr(module.config.get_text_config(), "max_position_embeddings", None)
    if not isinstance(length, int) or length < 2:
        raise InvalidArgument("The model's config.json does not say its context length (max_position_embeddings).")
    return length


def stop_ids(module: PreTrainedModel, folder: Path) -> frozenset[int]:
    """Ids that end a candidate: eos_token_id of generation_config.json and of config.json."""
    found: set[int] = set()
    generation = folder / "generation_config.json"
    given = json.loads(generation.read_text()) if generation.is_file() else {}
    for value in (given.get("eos_token_id"), getattr(module.config.get_text_config(), "eos_token_id", None)):
        found.update(value if isinstance(value, list) else [] if value is None else [value])
    return frozenset(found)
