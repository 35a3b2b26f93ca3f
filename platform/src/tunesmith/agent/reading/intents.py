"""What a message wants: an approval, a candidate, an end, a question. Approving takes the whole message; asking is never approving."""

from __future__ import annotations

import re

from tunesmith.agent.document import GateKind
from tunesmith.agent.reading.items import Sentence
from tunesmith.agent.reading.result import Topic


def _rule(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\S){pattern}(?!\S)")


_THING = r"(?:the|this|that|it|with|on|ahead|plan|cost|costs|estimate|costs|price|budget|and|as|is|now|everything|all|both|your|proposal|proposed|shown|its|sweep|training|session|then|please|of|to|for|so|from|my|side|me|us|here|in|whole|thing|job|jobs|run)"
_APPROVAL = _rule(
    rf"(?:approved?|approving|approves|y|👍|👌|accept|accepted|agreed|agree|confirm|confirmed|yes|yep|yeah|yup|sure|ok|okay|aye|absolutely|definitely|certainly|of course|"
    rf"go ahead|go for it|go on|go|proceed|continue|carry on|lgtm|ship it|do it|do that|run it|start it|start|launch it|launch|kick it off|fire away|make it so|let us (?:go|do it|do this|start|proceed|run it)|"
    rf"(?:that |this |it |the plan |plan |the cost |the estimate |everything |all |the price |cost )*(?:(?:looks?|sounds?|seems?|is|are|all) )+(?:good|great|fine|right|ok|okay|reasonable|perfect|correct|excellent|acceptable|approved)|"
    rf"fine|perfect|great|good|excellent|sounds good|looks good|all good|works|works for me|i (?:approve|agree|accept|confirm|am happy|am fine|am ok)|happy|green light|you have my (?:approval|ok|go ahead|blessing)|thumbs up)"
    rf"(?: {_THING})*"
)
_PROMOTE = _rule(
    r"(?:proceed|go|go ahead|continue|move forward|promote|use|take|pick|choose|deploy|ship|carry on|train|select|accept|confirm|yes|run|finali[sz]e)?"
    r"(?: (?:on|ahead|forward|with|the|proposed|your|by|all means|to))*"
    r" ?(?:winning|winner|best|recommended|proposed|suggested|top)(?: (?:one|config|configuration|candidate|setting|settings|model|run|result|recommendation|choice|scoring|the))*"
)
_CHOOSE = (
    _rule(
        r"(?:candidate|config|configuration|option|number|run|setting|model|no|variant)(?: (?:number|no|nr|:))* (?P<n>#)(?: (?:instead of|rather than|not|over)(?: (?:the|your|proposed))* (?:winner|winning|best|recommended)(?: (?:one|config|candidate))?)?"
    ),
    _rule(
        r"(?:the |our |my )?(?P<n>@nth)(?: (?:one|candidate|config|configuration|option|run|setting|model|in the list|on the list|from the list|place))*"
    ),
    _rule(
        r"(?:use|take|pick|choose|promote|go with|proceed with|select|with)(?: (?:the|number|no|nr))* (?P<n>#)(?= ,| please| instead|$)"
    ),
    _rule(r"^(?P<n>#)$"),
)
_CHOOSE_WORDS = _rule(
    r"(?:use|take|pick|choose|promote|proceed|go|continue|select|prefer|ahead|with|please|would|like|rather|i|let us|instead|deploy|train|move forward|yes|ok|for|the final run|final run|as winner|as the winner)"
)
_STOP = _rule(
    r"(?:stop|stops|end|quit|abort|cancel|cancelled|terminate|finish|halt|abandon|reject|rejected|kill|discard|leave it|that is enough|enough|call it off|give up|wrap (?:it )?up|call (?:it|this|that|the whole thing|everything|all of it) off|too (?:expensive|much|slow|long|costly)|do not promote|drop (?:it|everything|the plan))"
    r"(?: (?:here|it|this|that|now|the|session|everything|at this point|there|all|work|right|run|sweep|plan|whole|thing|off|anything|any|further|more|promotion|please|for today|candidates?|and|of|them))*"
)
_STOP_NONE = _rule(
    r"(?:promote|use|deploy|take|choose|pick|want)(?: (?:the|any))* (?:none|nothing|no candidate|neither)(?: (?:of|the|them|these|candidates))*|none of (?:them|these|the candidates|the above)|not promote(?: (?:any|anything|a|the|one|of|them|candidate|candidates|winner))*"
)
_NO = re.compile(
    r"\b(?:would (?!like|love|be)|not|no|nope|never|wait|hold|unless|until|if|except|without|nah|stop|cannot|before|hang|later|yet|but|only|maybe|perhaps|probably|think|unsure|disapprove|disapproved|unapproved|reject)\b"
)
_DISMISS = _rule(
    r"(?:ignore|forget|skip|never mind|nevermind|disregard|drop|leave out)(?: (?:it|that|this|them|those|the|part|words|question|about|all|of|rest))*|never mind"
)

_ASKING = re.compile(
    r"^(?:(?:and|but|so|also|ok|okay|well|hi|hello|please|first|wait|hm|hmm|yes|no|thanks) (?:, )?)*(?:which|what|how|when|why|who|where|whose|"
    r"(?:is|are|was|were|does|did|will|would|should|shall|may|might|am) (?:it|this|that|there|i|you|we|they|these|those)|(?:is|are|does|will) the|do (?:i|you|we|they)|"
    r"can i|can we|could i|could we|can it|tell me|show(?! candidates?)|help$|explain|remind me|list|give me an overview|i wonder|i would like to know|"
    r"do you know|any idea|can you (?:tell|explain|show|say|list|remind|give me)|could you (?:tell|explain|show|say|list|remind|give me))\b"
)
_REQUEST = re.compile(
    r"^(?:(?:and|but|so|also|ok|okay|hi|hello|yes|no|thanks|please) (?:, )?)*(?:can|could|would|will) you (?!tell|explain|show|say|list|remind|give me|support|do\b|handle|also support)"
)

_TOPICS: tuple[tuple[Topic, re.Pattern[str]], ...] = (
    (Topic.COST, re.compile(r"\b(?:costs?|price|prices|expensive|cheap\w*|budget|money|how long|how much time|take long|duration|eta|hours|minutes|spend|spent|spending|pay|dollars?|estimate|usd)\b")),
    (Topic.BASE_MODELS, re.compile(r"\b(?:(?:base )?models?|checkpoints?|llms?)\b.*\b(?:support\w*|available|offer\w*|can i|can you|do you have|there|choose|use|train|tune|list)\b|\b(?:support\w*|available|which|what|list|show)\b.*\b(?:base models?|models|llms)\b|\bcontext (?:length|window|size)s?\b|\bsupport\b.*@(?:model|other)|@(?:model|other).*\bsupport(?:ed)?\b")),
    (Topic.SCOREBOARD, re.compile(r"\b(?:scoreboard|score board|scores|results|ranking|winner|winning|won|best|leading|losses|better|candidates?)\b")),
    (Topic.DATASETS, re.compile(r"\b(?:which|what|list|my)\b.*\bdata ?sets?\b")),
    (Topic.DATA, re.compile(r"\b(?:(?:in|about|of|see|inspect\w*) (?:the |my |our |this )?(?:data|data ?sets?|@dataset)|duplicates?|leaks?|imbalanced?|how many (?:rows|examples|samples|tokens|labels))\b")),
    (Topic.EVALUATOR, re.compile(r"\b(?:the|your|this) (?:generated )?(?:evaluator|grader)\b")),
    (Topic.EVALUATORS, re.compile(r"\b(?:which|what|list|my)\b.*\bevaluators\b")),
    (Topic.EPOCHS, re.compile(r"\bepochs?\b")),
    (Topic.GRID, re.compile(r"\b(?:default|grid|configs?|hyper|settings|learning rates?|ranks?)\b")),
    (Topic.STATUS, re.compile(r"\b(?:status|progress|state|doing|done|finished|going on|running|how far|ready|happening|where are we|stuck|left)\b")),
    (Topic.PLAN, re.compile(r"\b(?:plan|dataset|data|using|settings|configured)\b")),
    (Topic.EVALUATION, re.compile(r"\b(?:evaluat\w*|validation|metric|measured?|compare\w*|scored?|judge\w*)\b")),
    (Topic.METHODS, re.compile(r"\b(?:sft|dpo|orpo|rft|methods?|classification|reinforcement|fine tuning|support)\b")),
    (Topic.LORA, re.compile(r"\b(?:lora|adapter|mean|means|beta)\b")),
    (Topic.GATES, re.compile(r"\b(?:approv\w*|gates?|promot\w*|confirm\w*|next|reply|answer)\b")),
)  # fmt: skip


def asks(sentence: Sentence) -> bool:
    """Whether a sentence is a question, and no polite request."""
    if _REQUEST.match(sentence.line):
        return False
    return sentence.question or bool(_ASKING.match(sentence.line))


def topics(sentence: Sentence) -> list[Topic]:
    """What a question is about: the first topic that its words fit."""
    found = [topic for topic, pattern in _TOPICS if pattern.search(sentence.line)]
    return found[:1] or [Topic.HELP]


def approves(sentences: list[Sentence], gate: GateKind | None) -> bool:
    """Whether the message is an approval, and nothing but one. Marks what it understood."""
    if not sentences or any(_NO.search(sentence.line) for sentence in sentences):
        return False
    found = False
    for sentence in sentences:
        patterns = [_APPROVAL, _PROMOTE] if gate is not GateKind.QUESTION else [_APPROVAL]
        for pattern in patterns:
            for match in sentence.matches(pattern, fresh=False):
                found = found or bool(match.found.group().strip())
                match.use()
    return found


def candidate(sentences: list[Sentence]) -> int | None:
    """The one candidate that a message chooses; None when it names none, or several. Marks what it understood."""
    numbers = set()
    lines = [re.sub(r"not (?:the )?(?:winner|winning|best|recommended)", "", sentence.line) for sentence in sentences]
    if any(re.search(r"\b(?:not|no|never|except|but)\b(?! #)", line) for line in lines):
        return None
    for sentence in sentences:
        for pattern in _CHOOSE:
            for match in sentence.matches(pattern):
                numbers.add(int(float(match.values()[0].value or 0)))
                match.use()
        for match in sentence.matches(_CHOOSE_WORDS, fresh=False):
            match.use()
    return numbers.pop() if len(numbers) == 1 else None


def stops(sentences: list[Sentence]) -> bool:
    """Whether the message ends the session, and does nothing else. Marks what it understood."""
    found = False
    for sentence in sentences:
        if re.search(r"\b(?:not|never|cannot) (?:stop|end|quit|abort|cancel|reject|finish|abandon)\b", sentence.line):
            return False
        for pattern in (_STOP_NONE, _STOP):
            for match in sentence.matches(pattern, fresh=False):
                found = True
                match.use()
        for match in sentence.matches(
            _rule(r"(?:let us|please|no|i want to|we|can|just|thanks|,|do not proceed|not proceed|ok)"), fresh=False
        ):
            match.use()
    return found


def dismisses(sentence: Sentence) -> bool:
    """Whether the person says to forget what was not understood."""
    found = list(sentence.matches(_DISMISS))
    for match in found:
        match.use()
    return bool(found)
