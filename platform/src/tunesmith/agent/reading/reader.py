"""The reader: an instruction or a message, to what it states and what has to be asked.

The rules run over each sentence in turn and mark the words that they understood. What is left, idle words aside, becomes a question.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from tunesmith.agent.document import Gate, GateKind, Question
from tunesmith.agent.plan import Plan
from tunesmith.agent.reading import intents
from tunesmith.agent.reading.coverage import COURTEOUS, IDLE, words
from tunesmith.agent.reading.draft import Draft
from tunesmith.agent.reading.expected import read_expected
from tunesmith.agent.reading.items import Item, Sentence, sentences
from tunesmith.agent.reading.names import Names
from tunesmith.agent.reading.restate import restate_changes
from tunesmith.agent.reading.result import Intent, Reading, Topic
from tunesmith.agent.reading.rules_choices import read_choices
from tunesmith.agent.reading.rules_names import mark_account_names, read_names, read_new_names, read_number_swaps
from tunesmith.agent.reading.rules_numbers import read_counts, read_numbers
from tunesmith.agent.reading.settle import settle


def read_instruction(text: str, names: Names) -> Reading:
    """Read what starts a session.

    Args:
        text: plain English.
        names: what the account and the catalogue have.

    Returns:
        Intent `start` with what was stated, relative to an empty plan.
    """
    found = sentences(text, names)
    asked = [sentence for sentence in found if intents.asks(sentence)]
    stated = [sentence for sentence in found if sentence not in asked]
    draft = Draft()
    _read(stated, names, draft)
    intent = Intent.QUESTION if asked and not stated else Intent.START
    return _reading(intent, draft, Plan(), stated, asked)


def read_message(text: str, names: Names, gate: Gate | None = None, plan: Plan | None = None) -> Reading:
    """Read a message to a session.

    Args:
        text: plain English.
        names: what the account and the catalogue have.
        gate: the gate that waits, if one does.
        plan: the plan as it is, which a revision refers to.

    Returns:
        The intent, and the changed fields with their new values. `unclear` as intent when nothing was understood; the person's
        questions are answered whatever else was said, and a message that asks approves nothing.
    """
    plan = plan or Plan()
    kind = gate.kind if gate else None
    found = sentences(text, names)
    asked = [sentence for sentence in found if intents.asks(sentence)]
    stated = [sentence for sentence in found if sentence not in asked]
    if asked and not stated:
        return Reading(Intent.QUESTION, topics=_topics(asked))
    decided = None if asked else _decision(text, names, kind)
    if decided is not None:
        return decided
    draft = Draft(message=True, epochs=plan.epochs)
    dismissed = kind is GateKind.QUESTION and bool([sentence for sentence in stated if intents.dismisses(sentence)])
    _read(stated, names, draft, gate)
    reading = _reading(Intent.ANSWER if kind is GateKind.QUESTION else Intent.REVISE, draft, plan, stated, asked)
    if reading.changes or dismissed:
        return Reading(**{**reading.__dict__, "dismissed": dismissed})
    if asked and not reading.contradictions:
        return Reading(Intent.QUESTION, topics=reading.topics)
    return Reading(**{**reading.__dict__, "intent": Intent.UNCLEAR})


def _decision(text: str, names: Names, kind: GateKind | None) -> Reading | None:
    """An end, a candidate or an approval, when the whole message is one."""
    if kind is not GateKind.QUESTION:
        fresh = sentences(text, names)
        if intents.stops(fresh) and (not _left(fresh) or (kind is GateKind.PROMOTION and _only_refuses(fresh))):
            return Reading(Intent.STOP)
        fresh = sentences(text, names)
        about_candidates = kind is GateKind.PROMOTION or "candidate" in text.lower()
        number = intents.candidate(fresh) if about_candidates else None
        if number is not None and not _left(fresh):
            return Reading(Intent.CHOOSE, candidate=number)
    fresh = sentences(text, names)
    if "?" not in text and intents.approves(fresh, kind) and not _left(fresh, COURTEOUS):
        return Reading(Intent.APPROVE)
    return None


def _only_refuses(found: Sequence[Sentence]) -> bool:
    """`Stop here, I don't need the final run or a deployment`: what an end means anyway."""
    draft = Draft(message=True)
    for sentence in found:
        read_choices(sentence, draft)
    refused = all(wish.field in ("final_run", "deploy") and wish.value is False for wish in draft.wishes)
    return bool(draft.wishes) and refused and not draft.questions and not _left(found)


def _read(stated: Sequence[Sentence], names: Names, draft: Draft, gate: Gate | None = None) -> None:
    for sentence in stated:
        mark_account_names(sentence, names)
        if draft.message:
            read_number_swaps(sentence, draft)
        read_new_names(sentence, draft)
        read_choices(sentence, draft)
        read_numbers(sentence, draft)
        read_names(sentence, draft)
        read_counts(sentence, draft)
        if gate is not None and gate.kind is GateKind.QUESTION:
            read_expected(sentence, gate.questions, draft)
        if draft.message:
            _mark_directions(sentence)
        for pattern in _COURTESIES if draft.message else _OPENINGS:
            for match in sentence.matches(pattern, fresh=False):
                match.use()


_DIRECTIONS = words(
    "change switch revise update adjust modify reduce increase lower raise bump cut down up extend shorten"
)


def _mark_directions(sentence: Sentence) -> None:
    """`lower the epochs to 2` says what is said already; `lower the learning rate` does not say to what, and is asked about."""
    for index, item in enumerate(sentence.items):
        if item.text in _DIRECTIONS:
            rest = sentence.items[index + 1 :]
            close = next((i for i, each in enumerate(rest) if each.text in (",", "and", "but")), len(rest))
            item.used = item.used or any(each.used and each.value is not None for each in rest[:close])


_OPENINGS = (
    re.compile(
        r"(?<!\S)(?:good (?:morning|afternoon|evening|day)|thanks a lot|many thanks|nothing fancy|nothing special|nothing else(?: in the sweep)?)(?!\S)"
    ),
    re.compile(
        r"(?<!\S)(?:your|the|its) (?:default|usual|standard)(?: (?:grid|settings?|sweep|values?|hyper parameters?|configs?|ranks?|learning rates?))+(?!\S)"
    ),
    re.compile(
        r"(?<!\S)(?:is|are) up to you(?!\S)|(?<!\S)(?:so )?(?:that )?(?:i|we) can (?:repeat|reproduce) (?:it|this|that)(?!\S)"
    ),
    re.compile(
        r"(?<!\S)(?:pick|picks|choose|chooses|decide|decides)(?: (?:on|the|a|about))* (?:winner|best)(?: (?:one|candidate|model))?(?!\S)"
    ),
    re.compile(
        r"(?<!\S)(?:as (?:the|a|our) base models?|for (?:evaluation|hp tuning|hyper parameter tuning)|low rank adaptation)(?!\S)"
    ),
)
_COURTESIES = (
    *_OPENINGS,
    re.compile(
        r"^(?:(?:no|nope|yes|approved?|ok|okay|sure|fine|good|great|almost|nearly|hm+|hold on|wait|not quite|looks good|sounds good|go ahead|proceed)"
        r"(?: (?:,|but|and|-|:|then|so|with))* ?)+(?!\S)"
    ),
    re.compile(
        r"(?<!\S)(?:instead|rather|actually|otherwise|(?:the )?(?:rest|others?|everything else|all else|remaining \w+)(?: (?:can|may|should|of it|of the plan))*(?: (?:stays?|remains?|is|are|as|unchanged|the same|same|fine|good|ok|okay|it is|planned|before|be))*|as (?:planned|before)|everything as planned(?: except| but)?|unchanged|looks good|is (?:good|fine)|that is it|(?:replace|change) the grid(?: (?:by|with|to))?|full data|(?:not|never) (?:approve|proceed|start|go)(?: (?:it|that|the plan|ahead|with it))?(?: yet)?|not yet|and proceed|then proceed|go ahead|approved|proceed)(?!\S)"
    ),
)
"""What goes with a change, and says nothing by itself."""


def _reading(
    intent: Intent, draft: Draft, plan: Plan, stated: Sequence[Sentence], asked: Sequence[Sentence]
) -> Reading:
    changes = settle(draft, plan)
    return Reading(
        intent=intent,
        changes=changes,
        understood=tuple(restate_changes(changes)),
        unclear=tuple(_question(sentence, items) for sentence, items in _left(stated)),
        left=tuple(sentence.quote(items) for sentence, items in _left(stated)),
        contradictions=tuple(draft.questions),
        topics=_topics(asked),
    )


def _topics(asked: Sequence[Sentence]) -> tuple[Topic, ...]:
    return tuple(dict.fromkeys(topic for sentence in asked for topic in intents.topics(sentence)))


def _left(stated: Sequence[Sentence], idle: frozenset[str] = IDLE) -> list[tuple[Sentence, list[Item]]]:
    """Runs of items that no rule understood, each from its first such item to its last."""
    runs = []
    for sentence in stated:
        run: list[Item] = []
        gap = 0
        for item in sentence.items:
            if not item.used and (item.kind not in ("word", "mark") or item.text not in idle):
                if run and gap > 3:
                    runs.append((sentence, run))
                    run = []
                run.append(item)
                gap = 0
            else:
                gap += 1
        if run:
            runs.append((sentence, run))
    return runs


def _question(sentence: Sentence, items: Sequence[Item]) -> Question:
    words = sentence.quote(items)
    if len(items) == 1 and items[0].kind == "number":
        text = f"What is {words} in {sentence.quote(sentence.items)!r}?"
    else:
        text = f"I did not understand {words!r}."
    return Question(field="unclear", text=f"{text} Say it in other words, or `ignore that`.")
