"""Classification: labels of rows, their balance, and how right a model's labels are, one by one and confused with which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from pydantic import Field

from tunesmith.agent.conversions import answer_text, one_label
from tunesmith.agent.markdown import table
from tunesmith.agent.rows import Row, answer_of, text_of
from tunesmith.agent.templates import box, hashes, label, tags, whole
from tunesmith.schemas.wire import JobInput

IMBALANCED = 50.0
"""The commonest label over the rarest from which on a dataset is flagged, as documented."""
NO_LABEL = "(none of the labels)"
"""In the confusion table: what a model said that is no label."""


class Balance(JobInput):
    """How often each label occurs."""

    counts: dict[str, int]
    """Rows by label, the commonest first."""
    ratio: float
    """Commonest over rarest."""
    is_imbalanced: bool
    mitigations: list[str] = []
    """What can be done about it."""


class LabelAccuracy(JobInput):
    """How right a model is about the rows of one label."""

    rows: int
    right: int
    accuracy: float


class Classification(JobInput):
    """How right a model's labels are."""

    rows: int
    right: int
    accuracy: float
    labels: dict[str, LabelAccuracy]
    """By gold label."""
    confusion: dict[str, dict[str, int]] = Field(default_factory=dict)
    """Rows by gold label, then by the label that the model gave; only what occurred."""

    def table(self) -> str:
        """The confusion table in Markdown: a row for each gold label, a column for each answer."""
        columns = [*self.labels, *sorted({said for row in self.confusion.values() for said in row} - set(self.labels))]
        rows = [
            [gold, *(str(self.confusion[gold].get(said, 0)) for said in columns), f"{figures.accuracy:.1%}"]
            for gold, figures in self.labels.items()
        ]
        return table(["gold \\ answer", *columns, "accuracy"], rows)

    def summary(self) -> str:
        """The commonest mistakes, in a sentence."""
        mistakes = Counter(
            {(gold, said): n for gold, row in self.confusion.items() for said, n in row.items() if said != gold}
        )
        shown = ", ".join(f"{gold} taken for {said} ({n})" for (gold, said), n in mistakes.most_common(3))
        return f"{self.right} of {self.rows} right ({self.accuracy:.1%})" + (f"; commonest: {shown}." if shown else ".")


def label_of(row: Row) -> str | None:
    """A row's label: `ground_truth` (text, or a list), else what the last assistant turn says. None where there is neither.

    Several labels of one row are one label, in alphabetical order with commas between them.
    """
    gold = row.get("ground_truth")
    if isinstance(gold, list) and gold and all(isinstance(item, str) for item in gold):
        return one_label(gold) or ", ".join(sorted(set(gold)))
    if gold is not None:
        text = answer_text(gold)
    else:
        turn = answer_of(row)
        text = text_of(turn) if turn is not None else ""
    return " ".join((_marked(text) or "").split()) or None


def balance(labels: Iterable[str | None]) -> Balance:
    """How often each label occurs; None is no label."""
    counted = Counter(item for item in labels if item is not None)
    counts = dict(sorted(counted.items(), key=lambda item: (-item[1], item[0])))
    ratio = max(counts.values()) / min(counts.values()) if counts else 1.0
    found = Balance(counts=counts, ratio=ratio, is_imbalanced=ratio >= IMBALANCED)
    if found.is_imbalanced:
        rarest = min(counts, key=lambda name: (counts[name], name))
        found.mitigations = [
            f"add rows of the rare labels (the rarest, {rarest!r}, has {counts[rarest]})",
            "repeat rows of rare labels, or give rows of the common ones a smaller `weight`",
            "merge labels that are treated alike",
            "judge candidates by their accuracy label by label, not only overall",
        ]
    return found


def classify(pairs: Iterable[tuple[str, str | None]], labels: Iterable[str] = ()) -> Classification:
    """Accuracy and confusion from (gold label, what the model said); None: it said nothing.

    `labels`: all that there are, so that answers are read as a generated evaluator reads them; default: those that occur as gold.
    """
    pairs = list(pairs)
    order = [name for name, _ in Counter(gold for gold, _ in pairs).most_common()]
    known = list(dict.fromkeys([*labels, *order]))
    confusion: dict[str, Counter[str]] = {gold: Counter() for gold in order}
    for gold, said in pairs:
        marked = _marked(said or "")
        read = label.value_of(marked, known) if marked else None
        same = read is not None and label.normal(read) == label.normal(gold)
        confusion[gold][gold if same else read or NO_LABEL] += 1
    figures = {gold: _accuracy(sum(row.values()), row[gold]) for gold, row in confusion.items()}
    right = sum(figure.right for figure in figures.values())
    return Classification(
        rows=len(pairs),
        right=right,
        accuracy=right / len(pairs) if pairs else 0.0,
        labels=figures,
        confusion={gold: dict(row) for gold, row in confusion.items()},
    )


def _marked(text: str) -> str | None:
    """The piece of a text that is its label: what is marked as the answer, else all behind the thinking."""
    return tags.marked(text) or box.marked(text) or hashes.marked(text) or whole.marked(text)


def _accuracy(rows: int, right: int) -> LabelAccuracy:
    return LabelAccuracy(rows=rows, right=right, accuracy=right / rows)
