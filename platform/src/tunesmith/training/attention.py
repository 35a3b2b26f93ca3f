"""Attention over a pack: no T x T mask, one call per prompt and one per tile of branches.

Registered with transformers as `tunesmith_packed`, so every decoder that goes through its attention interface runs it; the
`layout` keyword of the model's forward carries what belongs together. The keys of a shared prompt are seen by all branches
of its segment; a branch sees no other branch.

Suffixes: T tokens of a pack, N branches of a tile, R longest branch, P prompt tokens, D head size; H query heads, G key/value heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from tunesmith.errors import FailedPrecondition

NAME = "tunesmith_packed"
UNSUPPORTED = ("s_aux", "position_bias")
"""Keywords by which an architecture asks for attention that this one does not compute."""


@dataclass(frozen=True)
class Segment:
    """A prompt of `prompt` tokens (0 = none), then branches in tiles: `tiles[i][j]` is the length of a branch, longest first."""

    prompt: int
    tiles: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Tile:
    """Branches that go through one attention call."""

    tokens: int
    """Tokens of all branches of the tile, as they lie in the pack."""
    branches: int
    longest: int
    pad: Tensor | None
    """int64 [N * R] index of each padded slot into the tile's tokens; None when all branches are equally long."""
    unpad: Tensor | None
    """int64 [tokens] index of each token into the padded slots."""
    mask: Tensor | None
    """bool [R, P + R], true = visible; None without prompt, where plain causal attention does."""


@dataclass(frozen=True)
class Layout:
    """What belongs together in a pack. `segments[i]` is (prompt length, tiles)."""

    segments: tuple[tuple[int, tuple[Tile, ...]], ...]
    longest: int
    """Longest sequence of the pack, prompt included."""

    @classmethod
    def of(cls, segments: Sequence[Segment], device: torch.device | str = "cpu") -> Layout:
        """Precompute the index tensors of all tiles. Branches of length 0 hold no token and are skipped."""
        laid, longest = [], 0
        for segment in segments:
            tiles = [tuple(length for length in tile if length) for tile in segment.tiles]
            laid.append((segment.prompt, tuple(_tile(tile, segment.prompt, device) for tile in tiles if tile)))
            longest = max(longest, segment.prompt + max((tile[0] for tile in tiles if tile), default=0))
        return cls(tuple(laid), longest)


@dataclass(frozen=True)
class Kernel:
    """What a layer asks of its attention."""

    scaling: float | None
    window: int | None
    """None also where no sequence of the pack is longer than the layer's window."""
    softcap: float | None

    @property
    def plain(self) -> bool:
        """Whether causal attention is all there is to it."""
        return self.window is None and self.softcap is None

    def windowed(self, seen: Tensor, first: int) -> Tensor:
        """Of what a causal mask [R, S] shows, what lies within the window; row 0 stands at place `first` of the keys."""
        return seen if self.window is None else seen & torch.ones_like(seen).triu(first - self.window + 1)

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, seen: Tensor) -> Tensor:
        """Attention of [.., R, D] to [.., S, D] under the mask [R, S]; by hand where scores are capped before the softmax."""
        if self.softcap is None:
            return scaled_dot_product_attention(query, key, value, attn_mask=seen, scale=self.scaling)
        scaling = self.scaling if self.scaling is not None else query.shape[-1] ** -0.5
        scores = self.softcap * torch.tanh(query @ key.transpose(-1, -2) * (scaling / self.softcap))
        return scores.masked_fill(~seen, float("-inf")).softmax(-1) @ value


def packed_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    layout: Layout | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attention of one pack, with the signature that transformers calls.

    Args:
        query: [1, H, T, D]; key and value: [1, G, T, D], G dividing H.
        attention_mask: ignored; transformers builds none for this implementation.
        sliding_window: tokens that a token sees, itself included; None = all before it.
        softcap: scores are bent to stay within +-softcap (Gemma 2); None = not.
        layout: of the pack; must be given.

    Returns:
        [1, T, H, D] and None (no attention weights).

    Raises FailedPrecondition when the architecture asks for something else: sinks or a position bias.
    """
    asked = [name for name in UNSUPPORTED if options.get(name) is not None]
    if asked:
        raise FailedPrecondition(
            f"This base model's attention uses {', '.join(asked)}, which the learner cannot compute."
        )
    if layout is None:
        raise FailedPrecondition(
            "Packed attention was called without a layout: this architecture drops forward keywords."
        )
    window = sliding_window if sliding_window is not None and layout.longest > sliding_window else None
    kernel = Kernel(scaling, window, softcap)
    sizes = [size for prompt, tiles in layout.segments for size in (prompt, *(tile.tokens for tile in tiles)) if size]
    # One split for the whole pack: its backward is one concatenation, where slices would each write a zero-filled pack.
    parts = iter(zip(query.split(sizes, 2), key.split(sizes, 2), value.split(sizes, 2), strict=True))
    outputs = []
    for prompt, tiles in layout.segments:
        prompt_key = prompt_value = None
        if prompt:
            prompt_query, prompt_key, prompt_value = next(parts)
            outputs.append(_causal(prompt_query, prompt_key, prompt_value, kernel))
        for tile in tiles:
            outputs.append(_branches(tile, *next(parts), prompt_key, prompt_value, kernel))
    return torch.cat(outputs, 2).transpose(1, 2), None


def _causal(query: Tensor, key: Tensor, value: Tensor, kernel: Kernel) -> Tensor:
    grouped = query.shape[1] != key.shape[1]
    if kernel.plain:
        return scaled_dot_product_attention(query, key, value, is_causal=True, scale=kernel.scaling, enable_gqa=grouped)
    groups, length = query.shape[1] // key.shape[1], query.shape[2]
    causal = torch.ones(length, length, dtype=torch.bool, device=query.device).tril()
    return kernel(
        query, key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1), kernel.windowed(causal, 0)
    )


def _branches(
    tile: Tile,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    prompt_key: Tensor | None,
    prompt_value: Tensor | None,
    kernel: Kernel,
) -> Tensor:
    """Attention of the branches of one tile: [1, heads, tokens, D] in, [1, H, tokens, D] out."""
    query_NHRD, key_NGRD, value_NGRD = (_by_branch(tensor, tile) for tensor in (query, key, value))
    if prompt_key is None or prompt_value is None:
        output_NHRD = _causal(query_NHRD, key_NGRD, value_NGRD, kernel)
    else:
        N, H, R, D = query_NHRD.shape
        G = key_NGRD.shape[1]
        key_NGSD = torch.cat([prompt_key.expand(N, -1, -1, -1), key_NGRD], 2)
        value_NGSD = torch.cat([prompt_value.expand(N, -1, -1, -1), value_NGRD], 2)
        # The query heads of one key head are laid out as more queries, so that keys are not copied per query head.
        folded = query_NHRD.reshape(N, G, H // G * R, D)
        assert tile.mask is not None
        mask = kernel.windowed(tile.mask, prompt_key.shape[2]).repeat(H // G, 1)
        output = kernel(folded, key_NGSD, value_NGSD, mask)
        output_NHRD = output.reshape(N, H, R, value.shape[-1])
    flat = output_NHRD.transpose(0, 1).reshape(1, query.shape[1], tile.branches * tile.longest, value.shape[-1])
    return flat if tile.unpad is None else flat.index_select(2, tile.unpad)


def _by_branch(tensor: Tensor, tile: Tile) -> Tensor:
    """[1, heads, tokens, D] -> [N, heads, R, D]."""
    padded = tensor if tile.pad is None else tensor.index_select(2, tile.pad)
    return padded.view(tensor.shape[1], tile.branches, tile.longest, tensor.shape[-1]).transpose(0, 1)


def _tile(lengths: tuple[int, ...], prompt: int, device: torch.device | str) -> Tile:
    longest, tokens = lengths[0], sum(lengths)
    pad = unpad = None
    if min(lengths) < longest:
        start, pad_slots, unpad_slots = 0, [], []
        for branch, length in enumerate(lengths):
            # Padded slots lie behind their branch, where no real query looks; they repeat its first token.
            pad_slots += [start + slot if slot < length else start for slot in range(longest)]
            unpad_slots += [branch * longest + slot for slot in range(length)]
            start += length
        pad, unpad = torch.tensor(pad_slots, device=device), torch.tensor(unpad_slots, device=device)
    mask = torch.ones(longest, prompt + longest, dtype=torch.bool, device=device).tril(prompt) if prompt else None
    return Tile(tokens, len(lengths), longest, pad, unpad, mask)


def register() -> None:
    """Make `packed_attention` known to transformers under `NAME`; may be called more than once."""
    AttentionInterface.register(NAME, packed_attention)
