"""The names in reach of an instruction, and finding them in its tokens: base models in every spelling, resource names, ids.

`Qwen3 32B`, `qwen3-32b`, `Qwen/Qwen3-32B` and `accounts/fireworks/models/qwen3-32b` are one model; `qwen3-8b and 32b` are two.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from tunesmith.agent.reading.words import Token

LONGEST = 8
"""Tokens of the longest spelling of a base model's name that is looked for (`Llama 3.1 8B Instruct` has four)."""
_FAMILY = re.compile(
    r"(?:qwen|qwq|llama|mistral|mixtral|gemma|phi|gpt|deepseek|kimi|glm|yi|falcon|olmo|granite|claude|gemini|nemotron|smollm|\w+llama)",
    re.IGNORECASE,
)
_SIZE = re.compile(r"\d+(?:[.p]\d+)?[bB]")


@dataclass(frozen=True)
class BaseModelName:
    """A base model that a session may train."""

    name: str
    """Resource name."""
    source: str = ""
    """Hugging Face id, where it has one."""
    title: str = ""
    context_length: int | None = None
    """Tokens; None when its files are yet to be fetched."""
    here: bool = True
    """Whether its files are on this machine."""

    @property
    def id(self) -> str:
        """Last segment of the name."""
        return self.name.rsplit("/", 1)[-1]

    @property
    def short_title(self) -> str:
        """The title without what stands in brackets."""
        return self.title.partition(" (")[0]


@dataclass(frozen=True)
class Names:
    """What the account has, and what the catalogue offers. Resource names."""

    account: str = "local"
    base_models: Sequence[BaseModelName] = ()
    datasets: Sequence[str] = ()
    evaluators: Sequence[str] = ()
    models: Sequence[str] = ()

    def base_model(self, name: str) -> BaseModelName | None:
        """The base model of that resource name, id, title or Hugging Face id."""
        found = self.spellings.get(squash(name))
        return found if found is not None else None

    def has(self, noun: str, name: str) -> bool:
        """Whether the account has a dataset or evaluator of that id or resource name."""
        return any(known == name or known.rsplit("/", 1)[-1] == name for known in getattr(self, noun))

    @cached_property
    def spellings(self) -> dict[str, BaseModelName]:
        """Squashed spelling -> base model. One that fits several models is left out; whole ids win over shortened titles."""
        exact: dict[str, BaseModelName] = {}
        loose: dict[str, BaseModelName | None] = {}
        for model in self.base_models:
            for spelling in (model.name, model.id, model.source, model.source.rpartition("/")[2], model.short_title):
                if spelling:
                    exact.setdefault(squash(spelling), model)
            shortened = re.sub(r"(?i)[-\s](?:instruct|chat|it|v\d+)(?:[-\s]\d+)?$", "", model.id)
            for spelling in {shortened, re.sub(r"(?i)^meta[-\s]", "", model.source.rpartition("/")[2])}:
                key = squash(spelling)
                loose[key] = model if loose.get(key, model) is model else None
        return {**{key: model for key, model in loose.items() if model is not None and key}, **exact}


@dataclass(frozen=True)
class Found:
    """A name in the text: `tokens[first:last]`."""

    kind: str
    """`model` (base model), `unknown_model` (looks like one), `dataset`, `evaluator`, `deployment`, `name` (kind not said)."""
    value: str
    first: int
    last: int
    choices: tuple[str, ...] = field(default=())


def squash(text: str) -> str:
    """A name without what people write differently: case, separators, `p` for the point, `v` before a number."""
    text = re.sub(r"(?<=\d)p(?=\d)", ".", text.lower())
    text = re.sub(r"(?<![a-z])v(?=\d)", "", text)
    return re.sub(r"[^a-z0-9]", "", text)


def find_names(tokens: Sequence[Token], names: Names) -> list[Found]:
    """Every name that can be told by itself, from left to right."""
    found: list[Found] = []
    index = 0
    while index < len(tokens):
        name = (
            _resource(tokens, index) or _base_model(tokens, index, names, found) or _unknown_model(tokens, index, names)
        )
        name = name or _of_account(tokens, index, names)
        if name is None:
            index += 1
        else:
            found.append(name)
            index = name.last
    return found


_NOUNS = {"datasets": "dataset", "evaluators": "evaluator", "deployments": "deployment"}


def _resource(tokens: Sequence[Token], index: int) -> Found | None:
    token = tokens[index]
    parts = token.text.split("/")
    if token.kind == "path" and len(parts) == 4 and parts[0] == "accounts" and parts[2] in _NOUNS:
        return Found(_NOUNS[parts[2]], token.text, index, index + 1)
    return None


def _base_model(tokens: Sequence[Token], index: int, names: Names, before: Sequence[Found]) -> Found | None:
    if tokens[index].kind == "mark":
        return None
    for last in range(min(len(tokens), index + LONGEST), index, -1):
        run = tokens[index:last]
        if any(token.kind == "mark" and token.text not in ("-", ".") for token in run) or run[-1].kind == "mark":
            continue
        model = names.spellings.get(squash("".join(token.text for token in run)))
        if model is not None and any(character.isdigit() for token in run for character in token.text):
            return Found("model", model.name, index, last)
        if len(run) == 1 and run[0].kind == "path":
            return _path_model(run[0], index)
    return _sibling(tokens, index, names, before)


def _path_model(token: Token, index: int) -> Found | None:
    parts = token.text.split("/")
    if len(parts) == 4 and parts[0] == "accounts" and parts[2] == "models":
        return Found("unknown_model", token.text, index, index + 1)
    if token.text.startswith("/"):
        return Found("folder", token.text, index, index + 1)
    if len(parts) == 2 and (_FAMILY.search(token.text) or _SIZE.search(parts[1])):
        return Found("unknown_model", token.text, index, index + 1)
    return None


def _sibling(tokens: Sequence[Token], index: int, names: Names, before: Sequence[Found]) -> Found | None:
    """`32b` behind `qwen3-8b and`: the same family in another size; by itself: the only base model of that size."""
    if not _SIZE.fullmatch(tokens[index].text):
        return None
    size = squash(tokens[index].text)
    last = before[-1] if before and before[-1].kind == "model" and index - before[-1].last <= 3 else None
    if last is not None:
        key = squash(last.value.rsplit("/", 1)[-1])
        sibling = names.spellings.get(re.sub(r"\d+b(?=$|[a-z])", size, key)) if not re.search(r"\d\db", key) else None
        sibling = sibling or names.spellings.get(_resized(last.value, tokens[index].text))
        if sibling is not None:
            return Found("model", sibling.name, index, index + 1)
    of_size = [
        model.name
        for model in names.base_models
        if f"-{_wire_size(tokens[index].text)}" in f"-{model.id}-".replace("--", "-")
        and _has_size(model.id, tokens[index].text)
    ]
    return Found("model_size", tokens[index].text, index, index + 1, tuple(of_size))


def _wire_size(size: str) -> str:
    return size.lower().replace(".", "p")


def _has_size(identity: str, size: str) -> bool:
    return _wire_size(size) in identity.split("-")


def _resized(name: str, size: str) -> str:
    parts = [_wire_size(size) if _SIZE.fullmatch(part) else part for part in name.rsplit("/", 1)[-1].split("-")]
    return squash("-".join(parts))


def _unknown_model(tokens: Sequence[Token], index: int, names: Names) -> Found | None:
    """`mistral-7b`, `Gemma 2 9B`, `Qwen3`: it is named like a base model, and is none, or several, of the catalogue's."""
    if not _FAMILY.match(tokens[index].text) or tokens[index].kind not in ("word", "id"):
        return None
    last = index + 1
    while (
        last < len(tokens)
        and last - index < 4
        and (tokens[last].kind == "number" or _SIZE.fullmatch(tokens[last].text))
    ):
        last += 1
    text = " ".join(token.text for token in tokens[index:last])
    alike = tuple(model.name for model in names.base_models if squash(model.id).startswith(squash(text)))
    named = any(character.isdigit() for character in text) or alike
    return Found("unclear_model", text, index, last, alike) if named else None


def _of_account(tokens: Sequence[Token], index: int, names: Names) -> Found | None:
    """An id with a digit, hyphen or underscore that the account has: no ordinary word."""
    token = tokens[index]
    if token.kind not in ("word", "id") or not re.search(r"[\d_.-]", token.text):
        return None
    for kind, noun in (("dataset", names.datasets), ("evaluator", names.evaluators)):
        if _among(token.text, noun):
            return Found(kind, token.text, index, index + 1)
    return None


def _among(identity: str, names: Iterable[str]) -> bool:
    return any(name.rsplit("/", 1)[-1] == identity for name in names)
