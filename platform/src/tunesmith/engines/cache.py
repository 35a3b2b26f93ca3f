"""Keys and values: one slot per running row, and the prompts kept for reuse.

A row's keys start at slot position 0 and the rest of the slot is masked. Slots come in fixed capacities, chosen by the
row's own length alone, so the shapes that a row's attention is computed with never depend on its neighbours; together
with row-independent matrix products this keeps log-probabilities bitwise equal whoever else is decoded.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

from tunesmith.engines.attention import Options, additive, masked_attention

PADDING_ROWS = 4
"""Rows without a meaning at the end of every decode batch. PyTorch computes the last (elements mod 32) elements of an exp,
sin or SiLU with another, scalar routine, whose last bit may differ: these rows take that fate upon themselves, for any
layer with at least 8 elements a row. They also keep one row from being computed by matrix-vector kernels."""


def capacity_for(length: int) -> int:
    """Positions of the slot that holds `length` keys: 64, 128, 192, 256, then 1.5 and 2 times a power of two."""
    if length <= 256:
        return max(64, -(-length // 64) * 64)
    power = 1 << (length - 1).bit_length()
    return power * 3 // 4 if length <= power * 3 // 4 else power


@dataclass(frozen=True, eq=False)
class Prefix:
    """A prefilled prompt: keys and values [layers, P, heads, D], and the logits after its last token [V]."""

    keys: Tensor
    values: Tensor
    logits: Tensor

    @property
    def length(self) -> int:
        """Tokens of the prompt."""
        return self.keys.shape[1]


class Row(Protocol):
    """What the cache must know of a running sequence."""

    position: int
    """Where its next key goes = keys it has so far."""


RowT = TypeVar("RowT", bound=Row)


class _Bucket(Generic[RowT]):
    """Slots of one capacity, filled from the front: rows [0, len(rows)) are in use."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.rows: list[RowT] = []
        self.keys = self.values = torch.empty(0)

    def reserve(self, more: int, like: Prefix) -> None:
        """Make room for `more` rows."""
        slots = self.keys.shape[1] if self.keys.dim() > 1 else 0
        if len(self.rows) + more <= slots:
            return
        slots = max(len(self.rows) + more, slots * 3 // 2)
        self.keys = self._grown(self.keys, like.keys, slots)
        self.values = self._grown(self.values, like.values, slots)

    def append(self, rows: list[RowT], prefix: Prefix) -> None:
        """Fill the next slots; `reserve` made room for them."""
        new = slice(len(self.rows), len(self.rows) + len(rows))
        self.keys[:, new, : prefix.length] = prefix.keys[:, None]
        self.values[:, new, : prefix.length] = prefix.values[:, None]
        self.rows.extend(rows)

    def _grown(self, old: Tensor, like: Tensor, slots: int) -> Tensor:
        layers, _, heads, width = like.shape
        # Zeros, not garbage: masked positions are multiplied by 0, which would not silence a NaN.
        new = torch.zeros(layers, slots, self.capacity, heads, width, dtype=like.dtype)
        if self.rows:
            new[:, : len(self.rows)] = old[:, : len(self.rows)]
        return new

    def remove(self, slot: int) -> None:
        """Free a slot: the last row moves into it."""
        last = len(self.rows) - 1
        if slot != last:
            self.keys[:, slot] = self.keys[:, last]
            self.values[:, slot] = self.values[:, last]
            self.rows[slot] = self.rows[last]
        self.rows.pop()
        if not self.rows:
            self.keys = self.values = torch.empty(0)

    def scrub(self, slot: int) -> None:
        """Zero a slot that holds numbers which are none."""
        self.keys[:, slot] = 0
        self.values[:, slot] = 0


class RowCache(Generic[RowT]):
    """The running rows of one model, in decode order: bucket by bucket, slot by slot."""

    def __init__(self) -> None:
        self._buckets: dict[int, _Bucket[RowT]] = {}
        self._order: list[RowT] | None = None

    def __len__(self) -> int:
        return sum(len(bucket.rows) for bucket in self._buckets.values())

    def rows(self) -> list[RowT]:
        """Rows in decode order. The same list object as long as the order stands."""
        if self._order is None:
            self._order = [row for _, bucket in sorted(self._buckets.items()) for row in bucket.rows]
        return self._order

    def insert(self, rows: Sequence[tuple[RowT, Prefix]]) -> None:
        """Give each row a slot that begins with its prefix's keys and values. Neighbours in the list may share a prefix."""
        by_bucket: dict[int, list[tuple[RowT, Prefix]]] = {}
        for row, prefix in rows:
            by_bucket.setdefault(capacity_for(prefix.length + 1), []).append((row, prefix))
        for capacity, entries in by_bucket.items():
            bucket = self._buckets.setdefault(capacity, _Bucket[RowT](capacity))
            bucket.reserve(len(entries), entries[0][1])
            for prefix, group in itertools.groupby(entries, key=lambda entry: entry[1]):
                bucket.append([row for row, _ in group], prefix)
        self._order = None

    def remove(self, gone: Iterable[RowT], scrub: bool = False) -> None:
        """Free the slots of these rows; rows without a slot are ignored."""
        ids = {id(row) for row in gone}
        for bucket in list(self._buckets.values()):
            for slot in reversed([slot for slot, row in enumerate(bucket.rows) if id(row) in ids]):
                if scrub:
                    bucket.scrub(slot)
                bucket.remove(slot)
                self._order = None
            self._drop_if_empty(bucket)

    def decode_pass(self) -> DecodePass:
        """Move rows that outgrew their slot, then lay out the next step."""
        for bucket in list(self._buckets.values()):
            full = [row for row in bucket.rows if row.position >= bucket.capacity]
            for row in full:
                self._move(row, bucket)
        buckets = [bucket for _, bucket in sorted(self._buckets.items())]
        return DecodePass([_Slice(bucket.keys, bucket.values, bucket.rows) for bucket in buckets])

    def _move(self, row: RowT, bucket: _Bucket[RowT]) -> None:
        slot = bucket.rows.index(row)
        prefix = Prefix(bucket.keys[:, slot].clone(), bucket.values[:, slot].clone(), torch.empty(0))
        bucket.remove(slot)
        self._drop_if_empty(bucket)
        self.insert([(row, prefix)])

    def _drop_if_empty(self, bucket: _Bucket[RowT]) -> None:
        if not bucket.rows:
            self._buckets.pop(bucket.capacity, None)


class _Slice:
    """One bucket's part of a decode step."""

    def __init__(self, keys: Tensor, values: Tensor, rows: Sequence[Row]) -> None:
        self.count = len(rows)
        self.positions = torch.tensor([row.position for row in rows])
        slots, capacity = keys.shape[1], keys.shape[2]
        self.keys = keys[:, : self.count].transpose(2, 3)
        self.values = values[:, : self.count].transpose(2, 3)
        self.flat_keys = keys.view(keys.shape[0], slots * capacity, *keys.shape[3:])
        self.flat_values = values.view(values.shape[0], slots * capacity, *values.shape[3:])
        self.write_at = torch.arange(self.count) * capacity + self.positions
        self.distance = self.positions[:, None] - torch.arange(capacity)
        self.mask = additive(self.distance >= 0)[:, None, None]

    def mask_for(self, window: int | None) -> Tensor:
        """Additive mask [rows, 1, 1, capacity] of a layer that sees `window` tokens back (None = all)."""
        if window is None or window >= self.distance.shape[1]:
            return self.mask
        return additive((self.distance >= 0) & (self.distance < window))[:, None, None]


class DecodePass:
    """One token for each row, and PADDING_ROWS rows of nothing behind them."""

    def __init__(self, slices: Sequence[_Slice]) -> None:
        self._slices = slices
        self.rows = sum(part.count for part in slices)
        self.positions = torch.cat([*(part.positions for part in slices), torch.zeros(PADDING_ROWS, dtype=torch.long)])

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, options: Options) -> Tensor:
        """Write each row's new key and value into its slot, then attend to the slot."""
        batch, heads, _, width = query.shape
        groups = heads // key.shape[1]
        # One query position: heads that share keys become its rows, so that keys are not repeated.
        packed = query.reshape(batch, key.shape[1], groups, width)
        key, value = key[:, :, 0], value[:, :, 0]
        outputs, start = [], 0
        for part in self._slices:
            end = start + part.count
            part.flat_keys[layer].index_copy_(0, part.write_at, key[start:end])
            part.flat_values[layer].index_copy_(0, part.write_at, value[start:end])
            output = masked_attention(
                packed[start:end], part.keys[layer], part.values[layer], part.mask_for(options.window), options
            )
            outputs.append(output)
            start = end
        outputs.append(value.new_zeros(PADDING_ROWS, key.shape[1], groups, value.shape[-1]))
        return torch.cat(outputs).reshape(batch, heads, 1, -1)


class PrefixCache:
    """Prefilled prompts by (model, exact ids), least recently used first out."""

    def __init__(self, most_entries: int = 256) -> None:
        self._entries: OrderedDict[tuple[int, tuple[int, ...]], Prefix] = OrderedDict()
        self._most_entries = most_entries
        self.tokens = 0

    def get(self, model: int, prompt_ids: tuple[int, ...]) -> Prefix | None:
        """The prompt's prefix, if it is still here."""
        found = self._entries.get((model, prompt_ids))
        if found is not None:
            self._entries.move_to_end((model, prompt_ids))
        return found

    def put(self, model: int, prompt_ids: tuple[int, ...], prefix: Prefix, budget: int) -> None:
        """Keep a prefix if it fits into `budget` tokens, letting older ones go."""
        if prefix.length > budget:
            return
        self.shrink(budget - prefix.length)
        while len(self._entries) >= self._most_entries:
            self._evict()
        self._entries[model, prompt_ids] = prefix
        self.tokens += prefix.length

    def shrink(self, budget: int) -> None:
        """Let the oldest go until at most `budget` tokens are kept."""
        while self.tokens > max(0, budget):
            self._evict()

    def forget(self, model: int) -> None:
        """Drop every prompt of one model."""
        for key in [key for key in self._entries if key[0] == model]:
            self.tokens -= self._entries.pop(key).length

    def _evict(self) -> None:
        _, prefix = self._entries.popitem(last=False)
        self.tokens -= prefix.length
