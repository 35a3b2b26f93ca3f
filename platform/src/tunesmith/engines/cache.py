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

from tunesmith.engines.attention import PADDING_ROWS, Options, additive


def capacity_for(length: int) -> int:
    """Positions of the slot that holds `length` keys: 64, 128, 192, 256, then 1.5 and 2 times a power of two."""
    if length <= 256:
        return max(64, -(-length // 64) * 64)
    power = 1 << (length - 1).bit_length()
    return power * 3 // 4 if length <= power * 3 // 4 else power


@dataclass(frozen=True, eq=False)
class Prefix:
    """A prefilled prompt: keys and values [layers, heads, P, D], and the logits after its last token [V]."""

    keys: Tensor
    values: Tensor
    logits: Tensor

    @property
    def length(self) -> int:
        """Tokens of the prompt."""
        return self.keys.shape[2]


class Row(Protocol):
    """What the cache must know of a running sequence."""

    position: int
    """Where its next key goes = keys it has so far."""


RowT = TypeVar("RowT", bound=Row)


class _Bucket(Generic[RowT]):
    """Slots of one capacity, filled from the front: rows [0, len(rows)) are in use.

    Keys lie transposed, [layers, slots, heads, D, capacity], values [layers, slots, heads, capacity, Dv]: a product of few
    queries with many keys is half as long that way.
    """

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
        layers, heads, _, width = like.keys.shape
        self.keys = self._grown(self.keys, (layers, slots, heads, width, self.capacity))
        self.values = self._grown(self.values, (layers, slots, heads, self.capacity, like.values.shape[-1]))

    def append(self, rows: list[RowT], prefix: Prefix) -> None:
        """Fill the next slots; `reserve` made room for them."""
        new = slice(len(self.rows), len(self.rows) + len(rows))
        self.keys[:, new, :, :, : prefix.length] = prefix.keys.transpose(-1, -2)[:, None]
        self.values[:, new, :, : prefix.length] = prefix.values[:, None]
        self.rows.extend(rows)

    def take(self, other: _Bucket[RowT], slots: list[int]) -> None:
        """Fill the next slots with what these of a bucket of smaller capacity hold."""
        layers, _, heads, width, held = other.keys.shape
        empty = other.keys.new_empty(layers, heads, 0, width)
        self.reserve(len(slots), Prefix(empty, other.values.new_empty(layers, heads, 0, other.values.shape[-1]), empty))
        new = slice(len(self.rows), len(self.rows) + len(slots))
        self.keys[:, new, :, :, :held] = other.keys[:, slots]
        self.values[:, new, :, :held] = other.values[:, slots]
        self.rows.extend(other.rows[slot] for slot in slots)

    def _grown(self, old: Tensor, shape: tuple[int, ...]) -> Tensor:
        # Zeros, not garbage: masked positions are multiplied by 0, which would not silence a NaN.
        new = torch.zeros(shape)
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
            full = [slot for slot, row in enumerate(bucket.rows) if row.position >= bucket.capacity]
            if full:
                self._move(full, bucket)
        buckets = [bucket for _, bucket in sorted(self._buckets.items())]
        return DecodePass([_Slice(bucket.keys, bucket.values, bucket.rows) for bucket in buckets])

    def _move(self, slots: list[int], bucket: _Bucket[RowT]) -> None:
        """Move full rows into the next larger capacity."""
        larger = capacity_for(bucket.capacity + 1)
        self._buckets.setdefault(larger, _Bucket[RowT](larger)).take(bucket, slots)
        for slot in reversed(slots):
            bucket.remove(slot)
        self._drop_if_empty(bucket)
        self._order = None

    def _drop_if_empty(self, bucket: _Bucket[RowT]) -> None:
        if not bucket.rows:
            self._buckets.pop(bucket.capacity, None)


class _Slice:
    """One bucket's part of a decode step."""

    def __init__(self, keys: Tensor, values: Tensor, rows: Sequence[Row]) -> None:
        self.count = len(rows)
        self.positions = torch.tensor([row.position for row in rows])
        layers, _, heads, width, self.capacity = keys.shape
        groups = self.count * heads
        self._keys = keys[:, : self.count].view(layers, groups, width, self.capacity)
        self._values = values[:, : self.count].view(layers, groups, self.capacity, values.shape[-1])
        self._flat_keys, self._flat_values = keys.view(layers, -1), values.view(layers, -1, values.shape[-1])
        at = self.positions.repeat_interleave(heads)
        self._key_at = (torch.arange(groups * width).view(groups, width) * self.capacity + at[:, None]).flatten()
        self._value_at = torch.arange(groups) * self.capacity + at
        self._distance = self.positions[:, None] - torch.arange(self.capacity)
        self._mask = additive(self._distance >= 0)[:, None, None]

    def write(self, layer: int, key: Tensor, value: Tensor) -> None:
        """Put each row's new key and value [rows, heads, D] behind those it has."""
        self._flat_keys[layer].index_copy_(0, self._key_at, key.reshape(-1))
        self._flat_values[layer].index_copy_(0, self._value_at, value.reshape(-1, value.shape[-1]))

    def attend(self, layer: int, query: Tensor, options: Options) -> Tensor:
        """Attention of each row's query heads [rows, Hq, D] to its slot; returns [rows, Hq, Dv]."""
        rows, heads, width = query.shape
        groups = self._keys.shape[1]
        # Two batched products: with so few queries a row twice as fast as scaled_dot_product_attention. Heads that share
        # keys are rows of one product.
        scores = torch.bmm(query.reshape(groups, -1, width), self._keys[layer])
        scores.mul_(options.scaling if options.scaling is not None else width**-0.5)
        if options.softcap is not None:
            scores.div_(options.softcap).tanh_().mul_(options.softcap)
        scores.view(rows, -1, scores.shape[1], self.capacity).add_(self._mask_for(options.window))
        return torch.bmm(scores.softmax(-1), self._values[layer]).view(rows, heads, -1)

    def _mask_for(self, window: int | None) -> Tensor:
        """Additive mask [rows, 1, 1, capacity] of a layer that sees `window` tokens back (None = all)."""
        if window is None or window >= self.capacity:
            return self._mask
        return additive((self._distance >= 0) & (self._distance < window))[:, None, None]


class DecodePass:
    """One token for each row, and PADDING_ROWS rows of nothing behind them."""

    def __init__(self, slices: Sequence[_Slice]) -> None:
        self._slices = slices
        self.rows = sum(part.count for part in slices)
        self.positions = torch.cat([*(part.positions for part in slices), torch.zeros(PADDING_ROWS, dtype=torch.long)])
        self.longest = max(part.capacity for part in slices)
        """No row's position is this or more."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, options: Options) -> Tensor:
        """Write each row's new key and value into its slot, then attend to the slot."""
        outputs, start = [], 0
        for part in self._slices:
            end = start + part.count
            part.write(layer, key[start:end], value[start:end])
            outputs.append(part.attend(layer, query[start:end], options))
            start = end
        outputs.append(value.new_zeros(PADDING_ROWS, query.shape[1], value.shape[-1]))
        return torch.cat(outputs)


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
