"""Keys and values: a slot for what each running row sampled, the prompts that rows go on from, and the prompts kept for reuse.

A row's prompt lies in a stem, which up to STEM_ROWS rows of the same prompt share and ask in one product. Stems and slots of similar
length lie together and are computed together. Up to NEUTRAL keys it does not matter how far beyond a row's own a product looks: what is
masked adds an exact zero behind everything else. Longer ones have fixed capacities, chosen by the row's own lengths alone. Together with
row-independent matrix products this keeps log-probabilities bitwise equal whoever else is decoded (`layout.py` computes).

In comments: n rows, S stems, G key heads, D head size, P and C the capacities of stems and slots.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

from tunesmith.engines.layout import DecodePass, Layout

STEM_ROWS = 8
"""Rows that share a stem at most: the product over all stems is as wide as the stem with the most rows."""
NEUTRAL = 256
"""Keys over which the matrix library sums in one go (MKL takes 384 at a time): up to here zeros at the end change no bit."""
_STEP = 16
"""Keys are looked at so many at a time, and every vector of a softmax is full."""
_LEAST_STEM = 128
"""Prompts up to this length lie together: products over keys that are none cost less than products for each length."""


def capacity_for(length: int) -> int:
    """Positions that hold `length` keys: 64, 128, 192, 256, then 1.5 and 2 times a power of two."""
    if length <= NEUTRAL:
        return max(64, -(-length // 64) * 64)
    power = 1 << (length - 1).bit_length()
    return power * 3 // 4 if length <= power * 3 // 4 else power


def stem_capacity_for(length: int) -> int:
    """Positions that hold a prompt of `length` tokens."""
    return max(_LEAST_STEM, capacity_for(length))


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
    """Where its next key goes = keys it has so far, its prompt's included."""


RowT = TypeVar("RowT", bound=Row)


class _Bucket(Generic[RowT]):
    """Stems of one capacity and slots of one capacity, both filled from the front.

    Stems are written once and hold keys transposed, [layers, S, G, D, P]: few queries with many keys are faster so. Slots hold them as
    they come, [layers, n, G, C, D]. Values lie as [layers, S, G, P, Dv] and [layers, n, G, C, Dv].
    """

    def __init__(self, stem_capacity: int, capacity: int) -> None:
        self.stem_capacity = stem_capacity
        self.capacity = capacity
        self.rows: list[RowT] = []
        self.stems: list[Prefix] = []
        self.stem_of: list[int] = []
        """The stem of each row."""
        self.stem_keys = self.stem_values = self.keys = self.values = torch.empty(0)
        self._layout: Layout | None = None

    def append(self, entries: Sequence[tuple[RowT, Prefix]]) -> None:
        """Fill the next slots with rows that have nothing but their prompts."""
        first, stems = len(self.rows), len(self.stems)
        asked = Counter(self.stem_of)
        stem_with = {id(prefix): stem for stem, prefix in enumerate(self.stems) if asked[stem] < STEM_ROWS}
        for row, prefix in entries:
            stem = stem_with.get(id(prefix))
            if stem is None or asked[stem] == STEM_ROWS:
                stem = stem_with[id(prefix)] = len(self.stems)
                self.stems.append(prefix)
            asked[stem] += 1
            self.rows.append(row)
            self.stem_of.append(stem)
        layers, heads, _, width = entries[0][1].keys.shape
        value_width = entries[0][1].values.shape[-1]
        self.keys = _with_room(self.keys, first, len(self.rows), (layers, heads, self.capacity, width))
        self.values = _with_room(self.values, first, len(self.rows), (layers, heads, self.capacity, value_width))
        wide = _looked_at(max(prefix.length for prefix in self.stems), self.stem_capacity)
        wide = max(wide, self.stem_keys.shape[-1])
        self.stem_keys = _with_room(self.stem_keys, stems, len(self.stems), (layers, heads, width, wide))
        self.stem_values = _with_room(self.stem_values, stems, len(self.stems), (layers, heads, wide, value_width))
        for stem in range(stems, len(self.stems)):
            prefix = self.stems[stem]
            self.stem_keys[:, stem, :, :, : prefix.length] = prefix.keys.transpose(-1, -2)
            self.stem_keys[:, stem, :, :, prefix.length :] = 0
            self.stem_values[:, stem, :, : prefix.length] = prefix.values
            self.stem_values[:, stem, :, prefix.length :] = 0
        self._layout = None

    def take(self, other: _Bucket[RowT], slots: list[int]) -> None:
        """Fill the next slots with these rows of a bucket of smaller slots."""
        new = slice(len(self.rows), len(self.rows) + len(slots))
        self.append([(other.rows[slot], other.stems[other.stem_of[slot]]) for slot in slots])
        self.keys[:, new, :, : other.capacity] = other.keys[:, slots]
        self.values[:, new, :, : other.capacity] = other.values[:, slots]

    def remove(self, slot: int) -> None:
        """Free a slot: the last row moves into it. A stem goes with its last row."""
        last, stem = len(self.rows) - 1, self.stem_of[slot]
        if slot != last:
            self.keys[:, slot] = self.keys[:, last]
            self.values[:, slot] = self.values[:, last]
            self.rows[slot] = self.rows[last]
            self.stem_of[slot] = self.stem_of[last]
        self.rows.pop()
        self.stem_of.pop()
        if stem not in self.stem_of:
            self._remove_stem(stem)
        self._layout = None

    def scrub(self, slot: int) -> None:
        """Zero a slot that holds numbers which are none."""
        self.keys[:, slot] = 0
        self.values[:, slot] = 0

    def full(self) -> list[int]:
        """The slots without room for a key more."""
        if self._layout is not None and self._layout.left:
            return []
        return [slot for slot, held in enumerate(self._held()) if held >= self.capacity]

    def next_step(self) -> Layout:
        """Lay out the next step. Since the last one every row has one key more, unless rows came or went."""
        if self._layout is not None and self._layout.left:
            self._layout.advance()
            return self._layout
        lengths = [prefix.length for prefix in self.stems]
        self._layout = Layout(
            self.stem_of,
            lengths,
            [row.position for row in self.rows],
            (self.stem_keys, self.stem_values),
            (self.keys, self.values),
            _looked_at(max(self._held()) + 1, self.capacity),
        )
        return self._layout

    def _held(self) -> list[int]:
        """Keys in each slot."""
        lengths = [prefix.length for prefix in self.stems]
        return [row.position - lengths[stem] for row, stem in zip(self.rows, self.stem_of, strict=True)]

    def _remove_stem(self, stem: int) -> None:
        last = len(self.stems) - 1
        if stem != last:
            self.stem_keys[:, stem] = self.stem_keys[:, last]
            self.stem_values[:, stem] = self.stem_values[:, last]
            self.stems[stem] = self.stems[last]
            self.stem_of = [stem if each == last else each for each in self.stem_of]
        self.stems.pop()


def _with_room(old: Tensor, used: int, slots: int, shape: tuple[int, ...]) -> Tensor:
    """[layers, at least `slots`, *rest of the shape], the first `used` of them kept."""
    held = old.shape[1] if old.dim() > 1 else 0
    if slots <= held and old.shape[2:] == shape[1:]:
        return old
    # Zeros, not garbage: masked positions are multiplied by 0, which would not silence a NaN.
    new = torch.zeros(shape[0], max(slots, held if slots <= held else held * 3 // 2), *shape[1:])
    if used:
        kept = old[:, :used]
        new[tuple(map(slice, kept.shape))] = kept
    return new


def _looked_at(most: int, capacity: int) -> int:
    """How many of the positions a step looks at where none holds more than `most` keys."""
    return capacity if capacity > NEUTRAL else -(-most // _STEP) * _STEP


class RowCache(Generic[RowT]):
    """The running rows of one model, in decode order: bucket by bucket, slot by slot."""

    def __init__(self) -> None:
        self._buckets: dict[tuple[int, int], _Bucket[RowT]] = {}
        self._order: list[RowT] | None = None

    def __len__(self) -> int:
        return sum(len(bucket.rows) for bucket in self._buckets.values())

    def rows(self) -> list[RowT]:
        """Rows in decode order. The same list object as long as the order stands."""
        if self._order is None:
            self._order = [row for _, bucket in sorted(self._buckets.items()) for row in bucket.rows]
        return self._order

    def insert(self, rows: Sequence[tuple[RowT, Prefix]]) -> None:
        """Give each row a slot behind its prefix. Rows with the same prefix object share it."""
        by_bucket: dict[tuple[int, int], list[tuple[RowT, Prefix]]] = {}
        for row, prefix in rows:
            by_bucket.setdefault((stem_capacity_for(prefix.length), capacity_for(1)), []).append((row, prefix))
        for capacities, entries in by_bucket.items():
            self._bucket(capacities).append(entries)
        self._order = None

    def remove(self, gone: Iterable[RowT], scrub: bool = False) -> None:
        """Free the slots of these rows; rows without a slot are ignored."""
        ids = {id(row) for row in gone}
        for capacities, bucket in list(self._buckets.items()):
            for slot in reversed([slot for slot, row in enumerate(bucket.rows) if id(row) in ids]):
                bucket.remove(slot)
                if scrub:  # the slot that is free now; a row that is about to be removed, too, may have moved out of it
                    bucket.scrub(len(bucket.rows))
                self._order = None
            self._drop_if_empty(capacities)

    def decode_pass(self) -> DecodePass:
        """Move rows that outgrew their slot, then lay out the next step."""
        for capacities, bucket in list(self._buckets.items()):
            if full := bucket.full():
                self._move(full, capacities)
        return DecodePass([bucket.next_step() for _, bucket in sorted(self._buckets.items())])

    def _bucket(self, capacities: tuple[int, int]) -> _Bucket[RowT]:
        return self._buckets.setdefault(capacities, _Bucket[RowT](*capacities))

    def _move(self, slots: list[int], capacities: tuple[int, int]) -> None:
        """Move full rows into the next larger slots."""
        bucket = self._buckets[capacities]
        self._bucket((bucket.stem_capacity, capacity_for(bucket.capacity + 1))).take(bucket, slots)
        for slot in reversed(slots):
            bucket.remove(slot)
        self._drop_if_empty(capacities)
        self._order = None

    def _drop_if_empty(self, capacities: tuple[int, int]) -> None:
        if not self._buckets[capacities].rows:
            del self._buckets[capacities]


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
