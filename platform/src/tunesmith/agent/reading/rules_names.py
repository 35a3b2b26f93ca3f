"""Rules for what is a name in the plan: data, base models, evaluators, the strong and the weak model, names for what is made.

A resource name says its kind itself; of an id the words around it must say it. A word of the language is a name only in quotes, where
something is being named (`call it support`), or where the account has it.
"""

from __future__ import annotations

import re

from tunesmith.agent.plan import EvaluationPath
from tunesmith.agent.reading.coverage import KNOWN_WORDS
from tunesmith.agent.reading.draft import Draft, Op
from tunesmith.agent.reading.items import Item, Match, Sentence
from tunesmith.agent.reading.names import Names
from tunesmith.agent.reading.rules_numbers import operation

_DATA = r"(?:data ?sets?|data|sets?|split|rows|examples)"
_EVAL = r"(?:eval(?:uation)?|validation|hold ?out|held out|test(?:ing)?|dev)"
_NAMED = r"(?: (?:called|named|id|:|=|is|the|my|our|be|should be|it|from))*"
_MODELS = r"(?P<n>@(?:model|other|size)(?:(?: , and| , or| ,| and| or| &| plus| as well as| vs| versus|)(?: (?:the|on|with))* @(?:model|other|size))*)"


def _rule(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\S){pattern}(?!\S)")


_PLAIN = r"(?P<n>(?!(?:data|data ?sets?|evaluators?|the|my|our|called|named)\b)[a-z]\w*)"


def mark_account_names(sentence: Sentence, names: Names) -> None:
    """A plain word that is the id of a dataset or evaluator of the account is a name, next to a word that says so."""
    for noun, placeholder, known in (
        ("data ?set", "@dataset", names.datasets),
        ("evaluator", "@evaluator", names.evaluators),
    ):
        ids = {name.rsplit("/", 1)[-1] for name in known}
        for pattern in (
            _rule(
                rf"(?:{noun}|on|using|use|with|data|from|over|for|to)(?: (?:called|named|:|the|my|our|data))* {_PLAIN}"
            ),
            _rule(rf"{_PLAIN} {noun}"),
        ):
            for match in sentence.matches(pattern, fresh=False):
                item = match.group("n")[0]
                says = re.search(rf"\b(?:{noun}|on|using)\b", match.found.group())
                if item.kind == "word" and sentence.quote([item]) in ids and (says or item.text not in KNOWN_WORDS):
                    item.text, item.value, item.kind = placeholder, sentence.quote([item]), "name"
                    sentence.rebuild()
                    break


def read_names(sentence: Sentence, draft: Draft) -> None:
    """Every name of a sentence whose part its words tell."""
    for rule in (_destruction, _evaluators, _evaluation_data, _data, _preferences, _swaps, _base_models):
        rule(sentence, draft)


def read_new_names(sentence: Sentence, draft: Draft) -> None:
    """Names for what is made: they go before `deployment` is read as a choice."""
    _outputs(sentence, draft)
    _deployments(sentence, draft)


_DESTRUCTION = _rule(
    r"(?:(?:then|and|afterwards|also|please) )*(?:delete|erase|wipe|overwrite|destroy|purge)(?: (?:the|my|our|dataset|model|old|everything|all|in))*"
    r"(?: (?:@dataset|@model|@other|@evaluator|@deployment|@id))?"
)


def _destruction(sentence: Sentence, draft: Draft) -> None:
    for match in sentence.matches(_DESTRUCTION):
        text = (
            f"I never delete or change what is yours ({match.words!r}). Shall I go on without that? Say `ignore that`."
        )
        draft.ask("unclear", text, match)


_EVALUATOR = (
    _rule(rf"(?:evaluator|evaluators|grader|scorer){_NAMED} (?P<n>@evaluator|@id|@deployment)"),
    _rule(r"(?P<n>@id|@evaluator) (?:evaluator|grader|scorer)"),
    _rule(r"(?P<n>@evaluator)"),
    _rule(r"(?:score|scored|grade|graded|judge|judged)(?: \w+){0,3}? (?:with|by|using) (?P<n>@id)"),
)


def _evaluators(sentence: Sentence, draft: Draft) -> None:
    for pattern in _EVALUATOR:
        for match in sentence.matches(pattern):
            op, _ = operation(sentence, match, draft)
            draft.wish("evaluation.path", EvaluationPath.EVALUATOR, match, op)
            draft.wish("evaluation.evaluator", match.values()[0].value, match, op)


_NAME = r"(?P<n>@id|@q|@evaluator|@dataset|[a-z]\w*)"
"""A new name may be that of a dataset or an evaluator, too."""
_RESULT = r"(?:output|final|resulting|result|tuned|fine tuned|trained|finished|winning|new|adapted)"
_OUTPUTS = (
    _rule(rf"(?:{_RESULT} )*model(?: (?:name|id))(?: (?:as|is|:|=|should be|will be|be|to|of|called|named))* {_NAME}"),
    _rule(
        rf"{_RESULT}(?: {_RESULT})* model(?: (?:as|is|:|=|should be|will be|be|to be|called|named|needs to be))+ {_NAME}"
    ),
    _rule(rf"output(?: (?:as|is|:|=|should be|be|to|called|named|it))+ {_NAME}"),
    _rule(rf"(?:name|call|title|label)(?: (?:the|my|our|{_RESULT}))* (?:it|model|result|winner) {_NAME}(?= ,| and|$)"),
    _rule(
        rf"(?:save|store|publish|release|register|keep|export|write)(?: (?:it|the|my|our|{_RESULT}|model|result|winner|out))* (?:as|under|to)(?: the)?(?: name)? {_NAME}"
    ),
    _rule(rf"model (?:called|named) {_NAME}"),
)


def _outputs(sentence: Sentence, draft: Draft) -> None:
    for pattern in _OUTPUTS:
        for match in sentence.matches(pattern):
            name = _free_name(match)
            if name is not None:
                draft.wish("output_model", name, match)


_DEPLOYMENTS = (
    _rule(
        rf"deploy(?: (?:it|the|this|winner|{_RESULT}|model|result))*(?: (?:as|under|to|on|called|named))(?: (?:the|a|deployment|name|called|named|id))* {_NAME}"
    ),
    _rule(rf"deployment(?: (?:name|id))?(?: (?:is|:|=|should be|called|named|be))+ {_NAME}"),
    _rule(r"(?:the )?deployment (?P<n>@id)"),
    _rule(r"(?:as|to|on|under) (?P<n>@deployment)"),
)


def _deployments(sentence: Sentence, draft: Draft) -> None:
    for pattern in _DEPLOYMENTS:
        for match in sentence.matches(pattern):
            name = match.values()[0].value if match.found.group("n").startswith("@deployment") else _free_name(match)
            if name is not None:
                draft.wish("deployment", name, match)
                if match.found.group().startswith("deploy "):
                    draft.wish("deploy", True, match)


def _free_name(match: Match) -> str | None:
    item = match.group("n")[0]
    if item.kind == "word" and item.text in KNOWN_WORDS:
        return None
    if item.kind in ("dataset", "evaluator") and "/" in str(item.value):
        return None  # a resource name says what it is
    return str(item.value) if item.value is not None else match.sentence.quote([item])


_EVALUATION_DATA = (
    _rule(
        rf"(?P<n>@dataset|@id|@q) (?:is|are|as|for|to be|should be|serves as|be)(?: (?:the|my|our|a|an|used|to|for|as|separate|only))* {_EVAL}(?: (?:the|it|them|purposes?|candidates?|{_DATA}))*"
    ),
    _rule(
        rf"{_EVAL}(?: {_DATA})*(?: (?:is|are|:|=|should be|be|called|named|on|from|with|against|the|my|our|use|using|to|in))* (?P<n>@dataset|@id|@q)(?: {_DATA})?"
    ),
    _rule(
        rf"(?:eval(?:uat\w+)?|validat\w+|test|tested|score|scored|compare|compared|measure|measured|hold out|held out)"
        rf"(?: (?:it|them|the|each|every|all|candidates?|everything|results?|models?|loss))*"
        rf" (?:on|against|with|using|over|from)(?: (?:the|my|our|separate|data ?set|data|{_EVAL}))* (?P<n>@dataset|@id|@q)(?: {_DATA})?"
    ),
    _rule(rf"(?P<n>@id|@dataset) {_EVAL} {_DATA}"),
)


def _evaluation_data(sentence: Sentence, draft: Draft) -> None:
    for pattern in _EVALUATION_DATA:
        for match in sentence.matches(pattern):
            op, _ = operation(sentence, match, draft)
            draft.wish("evaluation_dataset", match.values()[0].value, match, op)


_TRAINING_DATA = (
    _rule(rf"(?:training )?{_DATA}{_NAMED}(?: (?:use|to use))? (?P<n>@dataset|@id)"),
    _rule(
        rf"(?:on|using|with|over|from|against|for|use)(?: (?:the|my|our|data|dataset|training|id))* (?P<n>@dataset|@id)(?: {_DATA})?"
    ),
    _rule(rf"(?P<n>@dataset|@id) (?:training )?{_DATA}"),
    _rule(r"(?P<n>@dataset)(?: (?:as|is|for)(?: (?:the|my|our))* (?:training|train)(?: (?:dataset|data|set))*)?"),
)
_NOT_DATA = _rule(r"(?:base )?(?:model|models|checkpoint|llm|network)(?: \w+)? @id")


def _data(sentence: Sentence, draft: Draft) -> None:
    for index, pattern in enumerate(_TRAINING_DATA):
        for match in sentence.matches(pattern):
            if index == 1 and match.found.group("n") == "@id" and _looks_like_model(sentence, match):
                continue
            op, _ = operation(sentence, match, draft)
            draft.wish("dataset", match.values()[0].value, match, op)


def _looks_like_model(sentence: Sentence, match: Match) -> bool:
    """`with foo-2` beside a dataset that is named already may be a model: then it is asked about."""
    others = [item for item in sentence.items if item.text == "@dataset" and item not in match.items]
    return bool(others) or "model" in sentence.line[max(0, match.found.start() - 20) : match.found.end() + 8]


_STRONG = r"(?:strong|stronger|strongest|teacher|preferred|chosen)"
_WEAK = r"(?:weak|weaker|weakest|student|rejected|dispreferred)"
_PREFERENCES = (
    _rule(
        r"prefer(?: (?:the|answers?|outputs?|completions?|responses?|of|from|by))* (?P<s>@model|@other) (?:over|to)(?: (?:the|those|ones|answers?|outputs?|completions?|responses?|of|from|by))* (?P<w>@model|@other)"
    ),
    _rule(
        rf"(?P<s>@model|@other)(?: \w+){{0,2}}? (?:is|are|as|for|being|,|\()(?: (?:the|a|one))* {_STRONG}(?: (?:one|model|answers?))*(?: \))?"
    ),
    _rule(
        rf"(?P<w>@model|@other)(?: \w+){{0,2}}? (?:is|are|as|for|being|,|\()(?: (?:the|a|one))* {_WEAK}(?: (?:one|model|answers?))*(?: \))?"
    ),
    _rule(
        rf"{_STRONG}(?: (?:model|one|answers?|completions?))*(?: (?:is|are|:|=|,|of|from|by|as|should be|be|come from|the))* (?P<s>@model|@other)"
    ),
    _rule(
        rf"{_WEAK}(?: (?:model|one|answers?|completions?))*(?: (?:is|are|:|=|,|of|from|by|as|should be|be|come from|the))* (?P<w>@model|@other)"
    ),
)


def _preferences(sentence: Sentence, draft: Draft) -> None:
    for pattern in _PREFERENCES:
        for match in sentence.matches(pattern):
            for group, name in (("s", "strong_model"), ("w", "weak_model")):
                for item in match.values(group) if group in pattern.groupindex else ():
                    draft.wish(name, item.value, match)


_SWAPS = (
    _rule(rf"(?:replace|swap|exchange)(?: (?:out|the))* {_MODELS} (?:with|for|by)(?: the)? (?P<new>@model|@other)"),
    _rule(r"(?P<new>@model|@other) (?:instead of|rather than|in place of)(?: the)? (?P<n>@model|@other)"),
)
_NUMBER_SWAPS = (
    _rule(
        r"(?:replace|swap|exchange|change)(?: (?:out|the|lora|ranks?|learning|rates?|lr))* (?P<n>[#~]) (?:with|for|by|to)(?: (?:the|a|rank|lr))* (?P<new>[#~])"
    ),
    _rule(
        r"(?:(?:a|the|lora) )?(?:ranks? |learning rates? |lrs? )*(?P<new>[#~]) (?:instead of|rather than|in place of)(?: (?:the|rank|learning|rate|lr))* (?P<n>[#~])(?! epochs?)"
    ),
)


def _swaps(sentence: Sentence, draft: Draft) -> None:
    for pattern in _SWAPS:
        for match in sentence.matches(pattern):
            draft.wish("base_models", [item.value for item in match.values()], match, Op.REMOVE)
            draft.wish("base_models", [item.value for item in match.values("new")], match, Op.ADD)


def read_number_swaps(sentence: Sentence, draft: Draft) -> None:
    """`replace 5e-5 with 2e-5`, `rank 4 instead of 8`: one value of the grid for another."""
    for pattern in _NUMBER_SWAPS:
        for match in sentence.matches(pattern):
            old, new = match.values()[0], match.values("new")[0]
            if old.text != new.text or re.match(r" epochs?\b", sentence.line[match.found.end() :]):
                continue
            words = match.found.group()
            if old.text == "#" and "rank" not in words:
                continue
            name = "learning_rates" if old.text == "~" else "lora_ranks"
            draft.wish(name, [_number(old, name)], match, Op.REMOVE)
            draft.wish(name, [_number(new, name)], match, Op.ADD)


def _number(item: Item, name: str) -> float | int:
    value = float(item.value or 0)
    return int(value) if name == "lora_ranks" else value


_BASE = _rule(
    rf"(?:base models?(?: (?:is|are|:|=|should be|of))* )?{_MODELS}(?: (?:as|is|are|for|being)(?: (?:the|a|my|our))* base models?)?"
)
_ID_AS_MODEL = _rule(r"(?:base )?models?(?: (?:is|are|:|=|should be|called|named|to|use))* (?P<n>@id)")


def _base_models(sentence: Sentence, draft: Draft) -> None:
    for match in sentence.matches(_BASE):
        items = match.values()
        unsure = [item for item in items if item.text == "@size"]
        if unsure:
            for item in unsure:
                listed = [choice.rsplit("/", 1)[-1] for choice in item.choices]
                if listed:
                    text = f"Which base model is {item.value!r}: {' or '.join(listed)}?"
                else:
                    text = f"{item.value!r} is no base model of the catalogue. Which one shall I train?"
                draft.ask("base_models", text, match, listed)
            continue
        op, firm = operation(sentence, match, draft)
        draft.wish("base_models", [item.value for item in items], match, op, firm=firm)
    for match in sentence.matches(_ID_AS_MODEL):
        op, firm = operation(sentence, match, draft)
        draft.wish("base_models", [match.values()[0].value], match, op, firm=firm)
