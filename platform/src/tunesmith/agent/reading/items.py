"""Tokens into items that rules can match: each sentence becomes one line in which names and numbers are placeholders.

`Use qwen3-8b with learning rates 1e-4 and 5e-5, 3 epochs.` reads `use @model with learning rates ~ and ~ , # epochs`: `#` is a number
from 1 on (or 0), `~` one between 0 and 1, `@negative` one below 0, `@model` a base model, `@dataset`, `@evaluator`, `@deployment` a resource name, `@other`
a model that the catalogue does not have, `@id` a name of a kind that the words around it must tell, `@nth` an ordinal.
A rule is a small pattern over that line; what it matched is marked as consumed, so that the rest can be asked about.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tunesmith.agent.reading.coverage import KNOWN_WORDS, words
from tunesmith.agent.reading.names import Found, Names, find_names
from tunesmith.agent.reading.spelling import mended
from tunesmith.agent.reading.words import Token, plain, tokens

_ORDINALS = {
    "first": 1, "second": 2, "third": 3, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8, "ninth": 9,
}  # fmt: skip
_SAME = {
    "don't": "not", "dont": "not", "doesn't": "not", "won't": "not", "shouldn't": "not", "can't": "cannot", "isn't": "not",
    "aren't": "not", "didn't": "not", "wouldn't": "not", "let's": "let us", "lets": "let us", "lr's": "lrs", "i'd": "i would",
    "it's": "it is", "that's": "that is", "there's": "there is", "i'm": "i am", "i'll": "i will", "we'll": "we will", "we'd": "we would",
    "finetune": "fine tune", "finetuning": "fine tuning", "finetuned": "fine tuned", "hyperparameter": "hyper parameter",
    "hyperparameters": "hyper parameters", "hyperparam": "hyper parameter", "hyperparams": "hyper parameters",
    "holdout": "hold out", "heldout": "held out", "retrain": "retrain", "evals": "eval",
}  # fmt: skip
"""Spellings that read alike."""


_FRIENDLY = "🏻🏼🏽🏾🏿🙏🙂😀😊😄😃🎉🚀✨👋🙌💪🔥\ufe0f"
"""Pictures that wish for nothing."""

_STANDS_FOR = words(
    "the this that best write generate create make another good winning second first third last any which no new right other"
)
"""Behind these, `one` stands for a thing and is no number."""


@dataclass(eq=False)
class Item:
    """One unit of a sentence."""

    text: str
    """As rules see it."""
    start: int
    end: int
    value: float | str | None = None
    """A number, or a name."""
    kind: str = "word"
    rough: bool = False
    choices: tuple[str, ...] = ()
    used: bool = False


@dataclass(eq=False)
class Sentence:
    """One sentence as a line of items."""

    items: list[Item]
    source: str
    """The whole text that the positions refer to."""
    question: bool = False
    line: str = field(init=False)
    _offsets: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.rebuild()

    def rebuild(self) -> None:
        """Make the line anew, after items changed."""
        self._offsets, position = [], 0
        for item in self.items:
            self._offsets.append(position)
            position += len(item.text) + 1
        self.line = " ".join(item.text for item in self.items)

    def matches(self, pattern: re.Pattern[str], *, fresh: bool = True) -> Iterator[Match]:
        """Where a rule matches whole items; with `fresh`, none of which another rule consumed."""
        position = 0
        while found := pattern.search(self.line, position):
            match = Match(self, found)
            fits = bool(found.group()) and match.whole and not (fresh and match.taken)
            position = found.end() if fits else found.start() + 1
            if fits:
                yield match

    def quote(self, items: Sequence[Item]) -> str:
        """The person's own words."""
        return self.source[items[0].start : items[-1].end]

    def between(self, start: int, end: int) -> list[Item]:
        """Items of a span of the line."""
        if end <= start:
            return []
        return self.items[bisect_right(self._offsets, start) - 1 : bisect_right(self._offsets, end - 1)]

    def aligned(self, start: int, end: int) -> bool:
        """Whether a span of the line begins and ends with whole items."""
        return (start in self._offsets) and (end == len(self.line) or end + 1 in self._offsets)

    def before(self, start: int) -> list[Item]:
        """Items in front of a position of the line."""
        return self.items[: bisect_right(self._offsets, start) - 1]


@dataclass(frozen=True)
class Match:
    """One place where a rule matched."""

    sentence: Sentence
    found: re.Match[str]

    @property
    def whole(self) -> bool:
        """Whether it covers whole items."""
        return self.sentence.aligned(*self.found.span())

    @property
    def items(self) -> list[Item]:
        """Everything that it covers."""
        return self.sentence.between(*self.found.span())

    @property
    def taken(self) -> bool:
        """Whether something in it, that means something, was consumed before."""
        return any(item.used and (item.kind != "word" or len(item.text) > 3) for item in self.items)

    def group(self, name: str) -> list[Item]:
        """The items of a named group; empty when it did not take part."""
        start, end = self.found.span(name)
        return self.sentence.between(start, end) if start >= 0 else []

    def values(self, name: str = "n") -> list[Item]:
        """The numbers or names of a group."""
        return [item for item in self.group(name) if item.value is not None]

    def use(self) -> None:
        """Mark everything in it as consumed."""
        for item in self.items:
            item.used = True

    @property
    def words(self) -> str:
        """The person's own words."""
        return self.sentence.quote(self.items)


def sentences(text: str, names: Names) -> list[Sentence]:
    """The sentences of a text, names and numbers told apart."""
    found = tokens(text)
    named = {name.first: name for name in find_names(found, names)}
    result: list[Sentence] = []
    items: list[Item] = []
    index = 0
    while index < len(found):
        token = found[index]
        if _ordinal(found, index):
            items.append(Item("@nth", token.start, token.end, float(_ORDINALS[token.lower]), "ordinal"))
            index += 1
            continue
        if index and "\n" in text[found[index - 1].end : token.start] and items:
            _close(result, items, text, False)
            items = []
        if index in named:
            name = named[index]
            items.append(_named(name, found))
            index = name.last
            continue
        if _below_zero(found, index, text):
            items.append(Item("@negative", token.start, found[index + 1].end, None, "negative"))
            index += 2
            continue
        if token.lower == "one" and index and found[index - 1].lower in _STANDS_FOR:
            items.append(Item("one", token.start, token.end))
        elif token.kind == "mark" and token.text in ".!?;":
            _close(result, items, text, token.text == "?")
            items = []
        else:
            fresh = _plain_items(token)
            if fresh and _bullet(items, fresh[0]):
                items.pop()
                fresh = []
            items += fresh
        index += 1
    _close(result, items, text, False)
    return result


def _ordinal(found: Sequence[Token], index: int) -> bool:
    """`the second one`, `candidate the third`, not `first lower the epochs` or `as a second model`."""
    token = found[index]
    if token.lower not in _ORDINALS:
        return False
    after = found[index + 1].lower if index + 1 < len(found) else ""
    before = found[index - 1].lower if index else ""
    return after in (
        "one",
        "candidate",
        "option",
        "config",
        "configuration",
        "choice",
        "setting",
        "run",
        "variant",
    ) or ((before == "the" or not before) and after in ("", ".", ",", "!", "please"))


def _below_zero(found: Sequence[Token], index: int, text: str) -> bool:
    """`-2 epochs`: a minus that touches its number, and nothing in front. No rule takes such a number, so it is asked about."""
    token = found[index]
    touches = index + 1 < len(found) and found[index + 1].kind == "number" and found[index + 1].start == token.end
    return token.text == "-" and touches and (not token.start or not (text[token.start - 1].isalnum()))


def _bullet(items: Sequence[Item], item: Item) -> bool:
    """The number of a list's point: `2) base models`, `1.` at the beginning of a line."""
    return (
        item.text == ")" and bool(items) and items[-1].kind == "number" and not any(each.text == "(" for each in items)
    )


def _close(result: list[Sentence], items: list[Item], text: str, question: bool) -> None:
    if len(items) == 1 and items[0].kind == "number" and not question and text[items[0].end : items[0].end + 2] == ". ":
        return  # the number of a point
    if items:
        result.append(Sentence(_quoted(items, plain(text)), text, question))
    elif question and result:
        result[-1].question = True


_PLACEHOLDER = {
    "model": "@model", "dataset": "@dataset", "evaluator": "@evaluator", "deployment": "@deployment",
    "unknown_model": "@other", "folder": "@other", "model_size": "@size", "unclear_model": "@size", "name": "@id",
}  # fmt: skip


def _named(name: Found, found: Sequence[Token]) -> Item:
    kind, value = name.kind, name.value
    if kind == "model_size" and len(name.choices) == 1:
        kind, value = "model", name.choices[0]
    start, end = found[name.first].start, found[name.last - 1].end
    return Item(_PLACEHOLDER[kind], start, end, value, kind, choices=name.choices)


def _plain_items(token: Token) -> list[Item]:
    if token.kind in ("number", "power"):
        value = token.value or 0.0
        return [Item("~" if 0 < value < 1 else "#", token.start, token.end, value, "number", token.rough)]
    if token.kind == "ordinal":
        return [Item("@nth", token.start, token.end, token.value, "ordinal")]
    if token.kind in ("money", "percent"):
        return [Item(f"@{token.kind}", token.start, token.end, None, token.kind)]
    if token.kind == "mark":
        return (
            []
            if token.text in "`*_{}[]" or token.text in _FRIENDLY
            else [Item(token.text, token.start, token.end, None, "mark")]
        )
    if token.kind == "word" and (rank := re.fullmatch(r"(?i)r(\d+)", token.text)):
        cut = token.start + 1
        return [
            Item("rank", token.start, cut),
            Item("#", cut, token.end, float(rank.group(1)), "number"),
        ]
    if token.kind in ("id", "path") or "_" in token.text or re.search(r"[A-Za-z]\d|\d[A-Za-z]", token.text):
        return _id_items(token)
    return [Item(word, token.start, token.end) for word in _english(token.lower)]


_SHORT = {"'ve": "have", "'re": "are", "'ll": "will", "'d": "would", "n't": "not", "'s": "is"}


def _english(word: str) -> list[str]:
    """A word as the rules know it: contractions written out, a slip of one letter mended."""
    if word in _SAME:
        return _SAME[word].split()
    for ending, whole in _SHORT.items():
        if word.endswith(ending) and (ending != "'s" or word[:-2] in ("it", "that", "there", "here", "what", "who")):
            return [
                part
                for part in (word.removesuffix(ending), whole)
                if part not in ("do", "does", "did", "is", "are", "wo")
            ]
    return _SAME.get(mended(word), mended(word)).split()


def _id_items(token: Token) -> list[Item]:
    """A hyphenated English word is its parts; anything else with digits or separators is a name."""
    parts = re.split(r"[-/_.]", token.lower)
    if token.lower in ("e.g", "i.e"):
        return []
    expanded = [word for part in parts for word in _SAME.get(part, part).split()]
    if all(word in KNOWN_WORDS for word in expanded):
        return [Item(word, token.start, token.end) for word in expanded]
    return [Item("@id", token.start, token.end, token.text, "name")]


def _quoted(items: list[Item], text: str) -> list[Item]:
    """A single name in quotation marks is a name, whatever word it is."""
    result: list[Item] = []
    index = 0
    while index < len(items):
        item = items[index]
        if item.text in ('"', "'"):
            close = next((i for i in range(index + 1, len(items)) if items[i].text == item.text), None)
            if close == index + 2 and items[index + 1].kind == "word":
                inner = items[index + 1]
                result.append(Item("@id", inner.start, inner.end, text[inner.start : inner.end], "name"))
                index += 3
                continue
            index += 1
            continue
        result.append(item)
        index += 1
    return result
