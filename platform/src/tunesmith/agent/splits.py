"""Rows that train, rows that choose the winner, rows that chose nothing: three splits that share no prompt.

    train    the final run's rows before those that choose are added; the sweep trains on `tune`, a subsample of it
    select   compares candidates
    report   compares the final model with its base, once

Rows that ask the same (white space and case aside) lie in one split, and the seed alone decides where, so that the same
data is always cut the same way. Of a classification each label is spread over the splits in proportion.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tunesmith.agent.plan import SEED, SUBSAMPLE, Method
from tunesmith.agent.rows import Row, prompt_key, seeded_order
from tunesmith.errors import InvalidArgument

SHARE = 0.1
"""Of the prompts, for select and for report each: together a fifth, the documented 80/20."""
ENOUGH = 30
"""Prompts that a small dataset gives each of the two, if a fifth of its prompts suffices for it."""
LEAST = 6
"""Fewer prompts than this cannot show a difference: a paired sign test of six gives p = 0.016 at best."""
SMALL_SHARE = 0.2
MOST = 300
"""Prompts of each where the workflow has no documented share: more make evaluations slower than they make them sharper."""
DOCUMENTED_SHARE = frozenset({Method.CLASSIFICATION, Method.DPO, Method.ORPO})
"""Workflows whose documentation says 80/20; theirs is not capped."""
LARGEST_GROUP = 0.1
"""A prompt with more than this share of the rows always trains."""
LEAST_PROMPTS = round(LEAST / SMALL_SHARE)
CUT_IN_TWO = 2 * ENOUGH
"""Prompts from which on a given evaluation dataset both selects and reports."""


@dataclass(frozen=True)
class Splits:
    """Which rows go where, by index (from 0), in the order of the dataset."""

    train: list[int]
    tune: list[int]
    """The sweep's rows: all of `train`, or a subsample of it."""
    select: list[int]
    report: list[int]
    select_given: list[int] = field(default_factory=list)
    """Rows of the given evaluation dataset; where there are any, `select` is empty."""
    report_given: list[int] = field(default_factory=list)
    """Rows of the given evaluation dataset; where there are any, `report` is empty."""
    dropped: list[int] = field(default_factory=list)
    """Rows that ask what a row of the given evaluation dataset asks: they train nothing."""
    notes: list[str] = field(default_factory=list)
    """What was done, in sentences."""

    @property
    def full(self) -> list[int]:
        """Rows of the final run: everything but what reports, and but a given evaluation dataset."""
        return sorted([*self.train, *self.select])


def split(
    rows: Iterable[Row],
    *,
    method: Method = Method.SFT,
    seed: int = SEED,
    subsample: int | None = None,
    labels: Sequence[str | None] | None = None,
    evaluation_rows: Iterable[Row] | None = None,
) -> Splits:
    """Cut a dataset.

    Args:
        rows: of the dataset, converted.
        method: SFT's held-out rows are capped at 300 prompts each; the others hold out the documented fifth.
        seed: decides everything.
        subsample: rows of the sweep; None: 1000 where there are more; 0: all.
        labels: of the rows, one each: the splits are stratified by them.
        evaluation_rows: the user's own; they take the place of select, and of report where there are 60 prompts or more.

    Raises:
        InvalidArgument: too few rows with different prompts, with the least number needed.
    """
    groups = _group(rows)
    given = _group(evaluation_rows) if evaluation_rows is not None else {}
    notes: list[str] = []
    dropped = sorted(index for key, group in groups.items() if key in given for index in group)
    groups = {key: group for key, group in groups.items() if key not in given}
    if dropped:
        notes.append(f"{_rows(len(dropped))} of the dataset ask what the evaluation dataset asks, and are left out.")
    if evaluation_rows is None:
        report_keys, select_keys = _carve(groups, ("report", "select"), method, seed, labels)
        select_given: list[int] = []
        report_given: list[int] = []
    else:
        if len(given) < LEAST:
            raise InvalidArgument(
                f"The evaluation dataset has {len(given)} different prompts, too few to compare candidates with. "
                f"Give one with at least {LEAST}, or none: then rows of the training dataset are held out."
            )
        select_keys: list[int] = []
        select_given, report_given = _cut_given(given, seed)
        report_keys = [] if report_given else _carve(groups, ("report",), method, seed, labels)[0]
        if report_given and len(groups) < 1:
            raise InvalidArgument(
                "Every row of the dataset asks what the evaluation dataset asks, so nothing is left to train on. "
                "Give an evaluation dataset with other prompts, or none."
            )
    held_out = set(report_keys) | set(select_keys)
    train = sorted(index for key, group in groups.items() if key not in held_out for index in group)
    select = sorted(index for key in select_keys for index in groups[key])
    report = sorted(index for key in report_keys for index in groups[key])
    tune = _subsample(train, SUBSAMPLE if subsample is None else subsample, seed)
    splits = Splits(train, tune, select, report, select_given, report_given, dropped, notes)
    notes.insert(0, _statement(splits, seed, labels is not None))
    return splits


def _group(rows: Iterable[Row]) -> dict[int, list[int]]:
    """Indexes of rows by what they ask."""
    groups: dict[int, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        groups[prompt_key(row)].append(index)
    return dict(groups)


def _carve(
    groups: dict[int, list[int]], names: Sequence[str], method: Method, seed: int, labels: Sequence[str | None] | None
) -> list[list[int]]:
    """Keys of the prompts that each of `names` gets."""
    rows = sum(map(len, groups.values()))
    free = [key for key, group in groups.items() if len(group) <= max(1, LARGEST_GROUP * rows)]
    least = LEAST_PROMPTS if len(names) > 1 else LEAST_PROMPTS - LEAST
    if len(free) < least:
        raise InvalidArgument(
            f"The dataset has {_rows(rows)} with {len(groups)} different prompts, too few to hold some out. "
            f"It takes at least {least} rows with different prompts; add rows"
            + ("." if len(names) == 1 else ", or name an evaluation dataset.")
        )
    count = _size(len(free), method)
    by_label: dict[str | None, list[int]] = defaultdict(list)
    for key in sorted(free, key=lambda key: seeded_order(seed, key, "split")):
        by_label[labels[groups[key][0]] if labels is not None else None].append(key)
    parts: list[list[int]] = []
    for _ in names:
        quotas = _apportion({label: len(keys) for label, keys in by_label.items()}, count)
        part = [key for label, keys in by_label.items() for key in keys[: quotas[label]]]
        by_label = {label: keys[quotas[label] :] for label, keys in by_label.items()}
        parts.append(part)
    return parts


def _size(prompts: int, method: Method) -> int:
    """Prompts of select, and of report."""
    share = round(SHARE * prompts)
    if method in DOCUMENTED_SHARE:
        return max(LEAST, share)
    small = min(ENOUGH, int(SMALL_SHARE * prompts))
    return max(LEAST, min(MOST, max(share, small)))


def _apportion(sizes: dict[str | None, int], count: int) -> dict[str | None, int]:
    """Share `count` out in proportion to sizes (largest remainders first); a label of one prompt is left to training."""
    total = sum(size for size in sizes.values() if size > 1) or 1
    exact = {label: count * size / total if size > 1 else 0.0 for label, size in sizes.items()}
    quotas = {label: min(int(share), sizes[label] - 1) if share else 0 for label, share in exact.items()}
    while sum(quotas.values()) < count:
        open_labels = [label for label, size in sizes.items() if quotas[label] < size - 1] or [
            label for label, size in sizes.items() if quotas[label] < size
        ]
        if not open_labels:
            break
        best = max(open_labels, key=lambda label: (exact[label] - quotas[label], sizes[label], str(label)))
        quotas[best] += 1
    return quotas


def _cut_given(given: dict[int, list[int]], seed: int) -> tuple[list[int], list[int]]:
    keys = sorted(given, key=lambda key: seeded_order(seed, key, "given"))
    half = (len(keys) + 1) // 2 if len(keys) >= CUT_IN_TWO else len(keys)
    select, report = (sorted(index for key in part for index in given[key]) for part in (keys[:half], keys[half:]))
    return select, report


def _subsample(train: list[int], most: int, seed: int) -> list[int]:
    if not 0 < most < len(train):
        return list(train)
    return sorted(sorted(train, key=lambda index: seeded_order(seed, index, "subsample"))[:most])


def _statement(splits: Splits, seed: int, by_label: bool) -> str:
    select = f"{len(splits.select_given)} of the evaluation dataset" if splits.select_given else str(len(splits.select))
    report = f"{len(splits.report_given)} of the evaluation dataset" if splits.report_given else str(len(splits.report))
    tune = f" (the sweep on {len(splits.tune)} of them)" if len(splits.tune) < len(splits.train) else ""
    return (
        f"{_rows(len(splits.train))} train{tune}, {select} choose the winner, {report} are kept for the report; "
        f"no prompt is in two of these; seed {seed}{', spread by label' if by_label else ''}."
    )


def _rows(count: int) -> str:
    return f"{count} row" if count == 1 else f"{count} rows"


def smallest_labels(labels: Iterable[str | None], least: int = LEAST) -> list[str]:
    """Labels with fewer rows than `least`: no split of them says anything."""
    return sorted(label for label, count in Counter(labels).items() if label is not None and count < least)
