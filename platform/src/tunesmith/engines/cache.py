"""Keys and values: a slot for what each running row sampled, the prompts that rows go on from, and the prompts kept for reuse.

A row's prompt lies in a stem, which up to STEM_ROWS rows of the same prompt share and ask in one product. Stems and slots come in fixed
capacities, chosen by the row's own lengths alone, and the rest of each is masked, so the shapes that a row's attention is computed
with never depend on its neighbours, but for how many rows ask a stem at once. Together with row-independent matrix products this
keeps log-probabilities bitwise equal whoever else is decoded.

In comments: n rows, S stems, W rows a stem, G key heads, h query heads a key head, D head size, P and C the capacities of stems and slots.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from tunesmith.engines.attention import PADDING_ROWS, Options, additive

STEM_ROWS = 8
"""Rows that share a stem at most: the product over all stems is as wide as the stem with the most rows."""
_NOWHERE = 2**40
"""The position of what is no key: behind every row."""


def capacity_for(length: int) -> int:
    """Positions that hold `length` keys: 32, 64, 96, 128, 192, 256, then 1.5 and 2 times a power of two."""
    if length <= 128:
        return max(32, -(-length // 32) * 32)
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
        self._plan: _Plan | None = None

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
        shape = (layers, heads, width, self.stem_capacity)
        self.stem_keys = _with_room(self.stem_keys, stems, len(self.stems), shape)
        shape = (layers, heads, self.stem_capacity, value_width)
        self.stem_values = _with_room(self.stem_values, stems, len(self.stems), shape)
        for stem in range(stems, len(self.stems)):
            prefix = self.stems[stem]
            self.stem_keys[:, stem, :, :, : prefix.length] = prefix.keys.transpose(-1, -2)
            self.stem_keys[:, stem, :, :, prefix.length :] = 0
            self.stem_values[:, stem, :, : prefix.length] = prefix.values
            self.stem_values[:, stem, :, prefix.length :] = 0
        self._plan = None

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
        self._plan = None

    def scrub(self, slot: int) -> None:
        """Zero a slot that holds numbers which are none."""
        self.keys[:, slot] = 0
        self.values[:, slot] = 0

    def full(self) -> list[int]:
        """The slots without room for a key more."""
        lengths = [prefix.length for prefix in self.stems]
        rows = enumerate(zip(self.rows, self.stem_of, strict=True))
        return [slot for slot, (row, stem) in rows if row.position - lengths[stem] >= self.capacity]

    def plan(self) -> _Plan:
        """Which row asks which stem; the same until rows come or go."""
        if self._plan is None:
            lengths = [prefix.length for prefix in self.stems]
            self._plan = _Plan(self.stem_of, lengths, self.stem_capacity, self.capacity)
        return self._plan

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
    if slots <= held:
        return old
    # Zeros, not garbage: masked positions are multiplied by 0, which would not silence a NaN.
    new = torch.zeros(shape[0], max(slots, held * 3 // 2), *shape[1:])
    if used:
        new[:, :used] = old[:, :used]
    return new


class _Plan:
    """Rows in the order in which they ask their stems, and back."""

    def __init__(self, stem_of: list[int], lengths: list[int], stem_capacity: int, capacity: int) -> None:
        asking: list[list[int]] = [[] for _ in lengths]
        for row, stem in enumerate(stem_of):
            asking[stem].append(row)
        self.stems = len(lengths)
        self.width = max(map(len, asking))
        # A stem with fewer rows than the widest is asked by its first row again, for nothing.
        rows_at = [row for rows in asking for row in rows + rows[:1] * (self.width - len(rows))]
        self.in_order = rows_at == list(range(len(stem_of)))
        self._rows_at = torch.tensor(rows_at)
        self._stem_of = torch.tensor(stem_of)
        place = {row: at for rows in asking for at, row in enumerate(rows)}
        self._place_of = torch.tensor([place[row] for row in range(len(stem_of))])
        self.prompts = torch.tensor(lengths)[self._stem_of]
        """Tokens of each row's prompt, [n]."""
        prompt, sampled = torch.arange(stem_capacity), torch.arange(capacity)
        in_stem = prompt.expand(len(stem_of), -1).masked_fill(prompt >= self.prompts[:, None], _NOWHERE)
        self.key_positions = torch.cat([in_stem, self.prompts[:, None] + sampled], 1)
        """[n, P + C]."""

    def by_stem(self, x: Tensor) -> Tensor:
        """[n, G, h, X] as [S x G, W x h, X]."""
        if not self.in_order:
            x = x[self._rows_at]
        _, groups, heads, width = x.shape
        if self.width > 1:
            x = x.reshape(self.stems, self.width, groups, heads, width).transpose(1, 2)
        return x.reshape(self.stems * groups, self.width * heads, width)

    def by_row(self, x: Tensor, groups: int) -> Tensor:
        """[S x G, W x h, X] as [n, G, h, X]."""
        x = x.reshape(self.stems, groups, self.width, -1, x.shape[-1]).transpose(1, 2)
        return x.flatten(0, 1) if self.in_order else x[self._stem_of, self._place_of]


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
            by_bucket.setdefault((capacity_for(prefix.length), capacity_for(1)), []).append((row, prefix))
        for capacities, entries in by_bucket.items():
            self._bucket(capacities).append(entries)
        self._order = None

    def remove(self, gone: Iterable[RowT], scrub: bool = False) -> None:
        """Free the slots of these rows; rows without a slot are ignored."""
        ids = {id(row) for row in gone}
        for capacities, bucket in list(self._buckets.items()):
            for slot in reversed([slot for slot, row in enumerate(bucket.rows) if id(row) in ids]):
                if scrub:
                    bucket.scrub(slot)
                bucket.remove(slot)
                self._order = None
            self._drop_if_empty(capacities)

    def decode_pass(self) -> DecodePass:
        """Move rows that outgrew their slot, then lay out the next step."""
        for capacities, bucket in list(self._buckets.items()):
            if full := bucket.full():
                self._move(full, capacities)
        return DecodePass([_Slice(bucket) for _, bucket in sorted(self._buckets.items())])

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


class _Slice:
    """One bucket's part of a decode step."""

    def __init__(self, bucket: _Bucket[Any]) -> None:
        rows, stems = len(bucket.rows), len(bucket.stems)
        self.count = rows
        self.positions = torch.tensor([row.position for row in bucket.rows])
        self.longest = bucket.stem_capacity + bucket.capacity
        self._plan = plan = bucket.plan()
        self._stem_keys = bucket.stem_keys[:, :stems].flatten(1, 2)
        self._stem_values = bucket.stem_values[:, :stems].flatten(1, 2)
        self._keys = bucket.keys[:, :rows].flatten(1, 2)
        self._values = bucket.values[:, :rows].flatten(1, 2)
        layers, groups = self._keys.shape[:2]
        self._groups = groups // rows
        self._flat_keys = bucket.keys.view(layers, -1, bucket.keys.shape[-1])
        self._flat_values = bucket.values.view(layers, -1, bucket.values.shape[-1])
        at = (self.positions - plan.prompts).repeat_interleave(self._groups)
        self._at = torch.arange(groups) * bucket.capacity + at
        self._distance = self.positions[:, None] - plan.key_positions
        self._mask = additive(self._distance >= 0)[:, None, None]

    def write(self, layer: int, key: Tensor, value: Tensor) -> None:
        """Put each row's new key and value [n, G, D] behind those in its slot."""
        self._flat_keys[layer].index_copy_(0, self._at, key.reshape(-1, key.shape[-1]))
        self._flat_values[layer].index_copy_(0, self._at, value.reshape(-1, value.shape[-1]))

    def attend(self, layer: int, query: Tensor, options: Options, out: Tensor) -> None:
        """Attention of each row's query heads [n, G x h, D] to its stem and its slot, into `out` [n, G x h, Dv]."""
        rows, heads, width = query.shape
        plan, groups, each = self._plan, self._groups, heads // self._groups
        query = query * (options.scaling if options.scaling is not None else width**-0.5)
        query = query.contiguous().view(rows, groups, each, width)
        # Batched products: with so few queries a row twice as fast as scaled_dot_product_attention.
        to_stem = plan.by_row(_product(plan.by_stem(query), self._stem_keys[layer]), groups)
        to_slot = torch.bmm(query.view(-1, each, width), self._keys[layer].transpose(1, 2))
        scores = torch.cat([to_stem, to_slot.view(rows, groups, each, -1)], -1)
        if options.softcap is not None:
            scores.div_(options.softcap).tanh_().mul_(options.softcap)
        weights = scores.add_(self._mask_for(options.window)).softmax(-1)
        stem = to_stem.shape[-1]
        of_stem = plan.by_row(_product(plan.by_stem(weights[..., :stem]), self._stem_values[layer]), groups)
        of_slot = torch.bmm(weights.view(-1, each, weights.shape[-1])[..., stem:], self._values[layer])
        torch.add(of_slot.view(rows, groups, each, -1), of_stem, out=out.view(rows, groups, each, -1))

    def _mask_for(self, window: int | None) -> Tensor:
        """Additive mask [n, 1, 1, P + C] of a layer that sees `window` tokens back (None = all)."""
        if window is None or window >= self.longest:
            return self._mask
        return additive((self._distance >= 0) & (self._distance < window))[:, None, None]


def _product(rows: Tensor, by: Tensor) -> Tensor:
    """Batched product of at least two rows each: for a single one the matrix library has a routine that rounds differently."""
    if rows.shape[1] > 1:
        return torch.bmm(rows, by)
    return torch.bmm(rows.expand(-1, 2, -1), by)[:, :1]


class DecodePass:
    """One token for each row, and PADDING_ROWS rows of nothing behind them."""

    def __init__(self, slices: Sequence[_Slice]) -> None:
        self._slices = slices
        self.rows = sum(part.count for part in slices)
        self.positions = torch.cat([*(part.positions for part in slices), torch.zeros(PADDING_ROWS, dtype=torch.long)])
        self.longest = max(part.longest for part in slices)
        """No row's position is this or more."""
        self._output = torch.empty(0)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, options: Options) -> Tensor:
        """Write each row's new key and value into its slot, then attend to its prompt and its slot."""
        shape = (self.rows + PADDING_ROWS, query.shape[1], value.shape[-1])
        if self._output.shape != shape:  # layers of one shape write over each other: who reads it, reads it at once
            self._output = value.new_zeros(shape)
        start = 0
        for part in self._slices:
            end = start + part.count
            part.write(layer, key[start:end], value[start:end])
            part.attend(layer, query[start:end], options, self._output[start:end])
            start = end
        return self._output


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
