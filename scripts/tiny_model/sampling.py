"""Samples from a model in one batch: each row has its own temperature, so that one pass measures all of them.

python -m scripts.tiny_model.sampling --task sums|drawings|tools MODEL_DIR
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, DynamicCache, PreTrainedModel

from scripts.tiny_model.tokenizer import END_OF_TEXT, TURN_END

TEMPERATURES = (0.0, 0.3, 0.7, 1.0)
_CHUNK = {"cpu": 128, "cuda": 1200}
"""Rows side by side."""


@torch.no_grad()
def sample(
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    prompts: Sequence[list[int]],
    temperatures: Sequence[float],
    seed: int,
    limit: int = 64,
) -> list[str]:
    """Completes each prompt at its own temperature (0 is greedy); at most ``limit`` new tokens."""
    device = model.device
    generator = torch.Generator(device).manual_seed(seed)
    vocabulary = tokenizer.get_vocab()
    pad, stop = vocabulary[END_OF_TEXT], vocabulary[TURN_END]
    width = max(map(len, prompts))
    ids_BT = torch.tensor([[pad] * (width - len(p)) + p for p in prompts], device=device)
    mask_BT = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
    position_B = mask_BT.sum(1)
    positions_BT = (mask_BT.cumsum(1) - 1).clamp(min=0)
    heat_B = torch.tensor(temperatures, device=device)
    cache = DynamicCache(config=model.config)
    done_B = torch.zeros(len(prompts), dtype=torch.bool, device=device)
    new: list[torch.Tensor] = []
    for _ in range(limit):
        out = model(ids_BT, attention_mask=mask_BT, position_ids=positions_BT, past_key_values=cache, logits_to_keep=1)
        logits_BV = out.logits[:, -1].float()
        noise_BV = -torch.log(torch.empty_like(logits_BV).exponential_(generator=generator))
        next_B = (logits_BV + heat_B[:, None] * noise_BV).argmax(-1)
        next_B = torch.where(done_B, pad, next_B)
        new.append(next_B)
        done_B |= next_B == stop
        if bool(done_B.all()):
            break
        ids_BT, positions_BT = next_B[:, None], position_B[:, None]
        position_B = position_B + 1
        mask_BT = torch.cat([mask_BT, torch.ones(len(prompts), 1, dtype=mask_BT.dtype, device=device)], 1)
    rows = torch.stack(new, 1).tolist()
    said = [row[: row.index(stop)] if stop in row else row for row in rows]
    return tokenizer.decode_batch(said, skip_special_tokens=False)


def complete(
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    temperatures: Sequence[float],
    seed: int = 0,
    limit: int = 64,
) -> list[str]:
    """Completes rendered prompts in chunks that suit the model's device."""
    size, texts = _CHUNK[model.device.type], list[str]()
    for start in range(0, len(prompts), size):
        chunk = prompts[start : start + size]
        ids = [encoded.ids for encoded in tokenizer.encode_batch(list(chunk), add_special_tokens=False)]
        texts += sample(model, tokenizer, ids, temperatures[start : start + size], seed + start, limit)
    return texts


def main() -> None:
    """Prints the figures of the model card."""
    from scripts.tiny_model import task  # noqa: PLC0415 - a task imports this module

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--task", choices=task.NAMES, default="sums")
    parser.add_argument("--problems", type=int, default=600, help="held-out items")
    parser.add_argument("--device", choices=tuple(_CHUNK), default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = AutoModelForCausalLM.from_pretrained(arguments.model).to(arguments.device).eval()
    tokenizer = Tokenizer.from_file(str(arguments.model / "tokenizer.json"))
    task.named(arguments.task).card(model, tokenizer, arguments.problems, arguments.seed)


if __name__ == "__main__":
    main()
