"""Rules for what is a choice in the plan: method, evaluation path, final run, deployment, approvals. Each may be negated."""

from __future__ import annotations

import re

from tunesmith.agent.plan import EvaluationPath, Method
from tunesmith.agent.reading.draft import Draft
from tunesmith.agent.reading.items import Match, Sentence
from tunesmith.agent.reading.rules_numbers import reaches as _reaches

_NEGATION = re.compile(
    r"\b(?:not|no|without|never|skip|skips|skipping|avoid|omit|omitting|neither|nor|drop|forget|leave out|hold off on|cannot|instead of|rather than)\b"
)
_TURN = re.compile(
    r"\bbut\b|\bthen\b|\band (?:then |just |also )?(?:deploy|run|do|use|train|retrain|make|set|go|put|ship|generate|write|proceed)\b"
    r"|, (?:then |just |and )?(?:deploy|run|do|use|train|retrain|make|set|go|put|ship|generate|write|proceed)\b|\binstead(?! of)\b|:"
)


def _rule(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\S){pattern}(?!\S)")


def read_choices(sentence: Sentence, draft: Draft) -> None:
    """Every choice that a sentence states."""
    for rule in (_approvals, _evaluation, _final_run, _deployment, _method):
        rule(sentence, draft)


_OR = re.compile(r"\b(?:or|nor)(?: (?:the|a|an|any|do|does))* $")
_AND = re.compile(r"\b(?:or|nor|and)(?: (?:the|a|an|any|do|does))* $")


def negated(sentence: Sentence, match: Match, joined: re.Pattern[str] = _OR) -> bool:
    """Whether a negation in front of these words reaches them. Its words count as understood.

    It reaches past other words that were understood only where `joined` says so (`no deployment or final run`).
    """
    before = sentence.line[: match.found.start()]
    found = list(_NEGATION.finditer(before))
    if not found or any(turn.start() >= found[-1].end() - 1 for turn in _TURN.finditer(before)):
        return False
    between = before[found[-1].end() :]
    if len(between.split()) > 7 or not (joined.search(between) or _reaches(sentence, found[-1].end(), len(before))):
        return False
    for item in sentence.before(match.found.start()):
        if item.text in found[-1].group().split():
            item.used = True
    return True


# Method ----------------------------------------------------------------------------------------------------------------------------

_METHODS = {
    Method.DPO: _rule(
        r"(?:dpo(?: loss)?|(?:direct )?preference (?:optimi[sz]ation|tuning|fine tuning|training|learning))"
    ),
    Method.ORPO: _rule(r"orpo(?: loss)?"),
    Method.CLASSIFICATION: _rule(
        r"(?:(?:text |label |intent |binary |multi class )?(?:classification|classifier|classify)(?: (?:task|model|job|workflow))?)"
    ),
    Method.SFT: _rule(r"(?:sft|supervised(?: fine)?(?: (?:tuning|tune|training|learning))?)"),
}
_UNSUPPORTED = _rule(
    r"(?:rft|rlhf|rl|reinforcement(?: fine)?(?: (?:tuning|learning))?|ppo|grpo|gspo|dapo|kto|distill(?:ation|ing)?|pre ?train(?:ing)?|"
    r"continued pre ?training|quantiz\w+|merge|merging)"
)


def _method(sentence: Sentence, draft: Draft) -> None:
    for method, pattern in _METHODS.items():
        for match in sentence.matches(pattern):
            if negated(sentence, match):
                match.use()
            else:
                draft.wish("method", method, match)
    for match in sentence.matches(_UNSUPPORTED):
        if negated(sentence, match):
            match.use()
            continue
        text = (
            f"I do not do {match.words!r}: a session runs SFT, classification, DPO or ORPO. Shall I run one of these? "
            "(Reinforcement fine-tuning is a job of its own: `eval-protocol create rft`.)"
        )
        draft.ask("method", text, match, [str(each) for each in Method])


# Evaluation ------------------------------------------------------------------------------------------------------------------------

_LOSS = _rule(
    r"(?:(?:the )?(?:validation|eval(?:uation)?|val|held out|hold out|test)(?: set)? loss(?:es)?(?: (?:alone|only))?|loss (?:only|alone|is (?:fine|enough)))"
    r"(?: (?:is|would be|will be|works|seems))?(?: (?:fine|ok|okay|enough|good|sufficient|great|perfect|all i need))?(?: (?:for me|with me|by itself))?"
)
_OWN = _rule(
    r"(?:my|our|a custom|the custom|an existing|my existing)(?: (?:own|custom|existing|uploaded))* (?:evaluator|grader|scorer|eval script|evaluation function)"
)
_GENERATED = (
    _rule(
        r"(?:generate|generates|generating|write|writes|writing|create|creates|author|make|build|builds|produce|design|develop|draft|come up with)"
        r"(?: (?:me|us|for|an?|the|your|own|python|custom|suitable|new|fitting|automatic|it|evaluation|\w+)){0,4}? (?:evaluators?|graders?|scorers?|scoring function|evaluation function)"
        r"(?: (?:for (?:me|us|it|this|the task|the data|that)|yourself|from (?:my|the|our) data))*"
    ),
    _rule(
        r"(?:an? |the )?(?:agent|auto|automatically|self) ?(?:generated|written|made|authored)(?: (?:evaluator|grader|one))?"
    ),
    _rule(r"(?:an? |the )?(?:generated|agent) (?:evaluator|grader)"),
    _rule(r"(?:your|its) own (?:evaluator|grader)"),
    _rule(
        r"(?:not|no|cannot)(?: (?:have|own|got))?(?: (?:an?|any|my|own|a suitable))* (?:evaluator|grader)s?(?: (?:yet|myself|,|so|and|but|please|you|could|can|should))*"
        r" (?:write|generate|make|create|build|author)(?: (?:me|us))? one(?: (?:for me|for us|yourself))?(?: by looking at (?:the|my|our) data)?"
    ),
    _rule(r"an? evaluator (?:that )?(?:you|the agent) (?:write|writes|generate|generates|make|makes|create|creates)"),
)


def _evaluation(sentence: Sentence, draft: Draft) -> None:
    for path, patterns in (
        (EvaluationPath.VALIDATION_LOSS, (_LOSS,)),
        (EvaluationPath.EVALUATOR, (_OWN,)),
        (EvaluationPath.GENERATED, _GENERATED),
    ):
        for pattern in patterns:
            for match in sentence.matches(pattern):
                if negated(sentence, match):
                    match.use()
                else:
                    draft.wish("evaluation.path", path, match)


# What happens to the winner --------------------------------------------------------------------------------------------------------

_ALL_DATA = r"(?:(?:(?:the |all |all of |my |our |of |full|entire|whole|complete|every) ?)*(?:data ?set|data|rows|examples|training data)|everything)"
_FINAL = (
    _rule(
        r"(?:(?:the|a|any|full data|full|final|last|complete|additional) )*(?:final|full data) (?:(?:full data|full|final) )*(?:runs?|training(?: runs?)?|retrain(?:ing)?|train|re training|job|phase|fit)"
    ),
    _rule(
        rf"(?:re ?train(?:ing)?|training again|train again|re train)(?: (?:it|the|winner|winning|best|model|config|candidate|one|step|at the end|run))*(?: (?:on|with|over|using) {_ALL_DATA})?"
    ),
    _rule(
        r"(?:train|training|run)(?: (?:it|the|winner|winning|best|model|config|candidate|one))+ (?:on|with|over|using) (?:(?:the|my|our) )*(?:full|all|entire|whole|complete)(?: (?:of|the|my|our))* (?:data ?set|data|rows)"
    ),
)
_UNNEEDED = re.compile(
    r"^ (?:is|are) (?:not )?(?:needed|necessary|required|unnecessary|wanted|not needed|not necessary|not required)\b"
)
_DIRECTLY = _rule(r"(?:directly|straight away|right away|immediately|as it is|as is|straight)")


def _final_run(sentence: Sentence, draft: Draft) -> None:
    for pattern in _FINAL:
        for match in sentence.matches(pattern):
            draft.wish("final_run", not _refused(sentence, match), match)
    if any(wish.value is False for wish in draft.stated("final_run")):
        for match in sentence.matches(_DIRECTLY):
            match.use()
    for match in sentence.matches(_NOT_THE_LOSS):
        match.use()


_NOT_THE_LOSS = _rule(r"(?:instead of|rather than|not)(?: (?:by|using|with|on))*(?: the)?(?: validation)? loss")


_DEPLOY = _rule(
    r"(?:(?:the|a|any) )?(?:deploy|deploys|deployed|deploying|deployment|deployments)"
    r"(?: (?:(?:the|a|my|our|it|this|that|winner|winning|final|result|resulting|best|trained|tuned|fine tuned|finished|model|candidate|config|one|anything|step|phase|when (?:done|finished)|at the end|afterwards|after training|in the end))+)?"
)


def _deployment(sentence: Sentence, draft: Draft) -> None:
    for match in sentence.matches(_DEPLOY):
        draft.wish("deploy", not _refused(sentence, match), match)
        for pattern in (
            _rule(
                r"(?:at the end|afterwards|when (?:it is )?(?:done|finished|ready)|once (?:it is )?(?:done|finished|trained)|after (?:that|training))"
            ),
        ):
            for other in sentence.matches(pattern, fresh=False):
                other.use()


def _refused(sentence: Sentence, match: Match) -> bool:
    after = _UNNEEDED.match(sentence.line[match.found.end() :])
    if after:
        for item in sentence.between(match.found.end() + 1, match.found.end() + after.end()):
            item.used = True
        return "not" in after.group() or "unnecessary" in after.group()
    return negated(sentence, match, _AND)


# Approvals -------------------------------------------------------------------------------------------------------------------------

_ASKING = (
    r"(?:ask(?:ing)?(?: (?:me|us|anyone|for|my|our|any|the|an?|permission|approval|approvals|confirmation|first|again|anything|about|plan|cost|promotion|winner))*"
    r"|wait(?:ing)?(?: (?:for|on|me|us|my|our|approval|the|any|an?|confirmation|answer|to approve|ok|go ahead))+"
    r"|(?:my |any |the |plan |an |explicit |manual |human )*(?:approvals?|confirmations?|sign off)(?: (?:from me|of the plan|for the plan|step|gates?|is|are|needed|necessary|required))*"
    r"|(?:check|confirm)(?:ing)?(?: in)?(?: (?:with )?(?:me|us))+(?: first)?|pausing|stopping|(?:pause|stop)(?: (?:for|to|me|us|my|approval|ask|at|any|the|gates?|in between))+)"
)
_FREELY = (
    _rule(
        rf"(?:without|not|no|never|skip|do not)(?: (?:do|need to|have to|need for|you|you have to|you need to|any|the|ever|bother|to))* {_ASKING}"
    ),
    _rule(
        r"(?:auto|automatically) ?(?:approve|approved|approves|approval|accept|promote|promotes|promoted)(?: (?:the|it|plan|cost|estimate|winner|promotion|winning|candidate|config|gates?|and|both))*"
    ),
    _rule(
        r"(?:approve|accept|promote)(?: (?:the|it|plan|cost|estimate|winner|promotion|winning|best|candidate|config|gates?|and|both))* (?:automatically|by itself|yourself|on your own)"
    ),
    _rule(r"(?:no need|there is no need|you (?:do )?not (?:need|have)) (?:for|to)(?: (?:any|my|the))* " + _ASKING),
    _rule(r"(?:pre approved|pre approve)(?: (?:the|it|plan|cost))*"),
)
_BOTH = re.compile(
    r"\b(?:at all|any (?:point|gates?|stage|step)|both|either|everything|anything|all the way|end to end|fully|unattended|at any|in between|approvals|gates)\b"
)
_ABOUT_PROMOTION = re.compile(r"\b(?:promot\w*|winner|winning|candidate)\b")
_ABOUT_PLAN = re.compile(r"\b(?:plan|cost|estimate|budget|price)\b")
_UNATTENDED = _rule(
    r"(?:fully (?:automatic(?:ally)?|autonomous(?:ly)?|unattended)|unattended|hands off|completely automatic(?:ally)?)"
)


def _approvals(sentence: Sentence, draft: Draft) -> None:
    for pattern in _FREELY:
        for match in sentence.matches(pattern):
            near = match.found.group() + sentence.line[match.found.end() : match.found.end() + 40]
            promotion, plan = _ABOUT_PROMOTION.search(near), _ABOUT_PLAN.search(near)
            both = _BOTH.search(near) or (promotion and plan)
            if both or promotion:
                draft.wish("approvals.promotion", False, match)
            if both or not promotion:
                draft.wish("approvals.plan", False, match)
            tail = _rule(
                r"(?:(?:at|for|of) )?(?:(?:all|any|both|either|the|each) )*(?:points?|gates?|stages?|steps?|plan|cost|promotion|winner|winning|candidate|way|end|everything|anything|at all|in between|approvals?)"
            )
            for other in sentence.matches(tail, fresh=False):
                other.use()
    for match in sentence.matches(_UNATTENDED):
        draft.wish("approvals.plan", False, match)
        draft.wish("approvals.promotion", False, match)
    _asked_for(sentence, draft)


_WANTED = _rule(
    r"(?:please )?(?:(?:do|but|still|always|first) )*(?:ask|check with|wait for|consult|let|pause for|stop for|hold for|confirm with)(?: (?:me|us|my|our|approval|confirmation|approve|confirm|decide|choose|ok|go ahead|for|first|to))+"
    r" (?:before|at|on|for|when|about)(?: (?:the|you|any|each|choosing|picking))*"
    r" (?:promot\w+(?: (?:gate|the winner|a candidate|the candidate|a winner|anything|one))?|winner|plan(?: gate)?|cost(?: estimate)?)"
)


def _asked_for(sentence: Sentence, draft: Draft) -> None:
    for match in sentence.matches(_WANTED):
        words = match.found.group()
        if _ABOUT_PROMOTION.search(words):
            draft.wish("approvals.promotion", True, match)
        if _ABOUT_PLAN.search(words):
            draft.wish("approvals.plan", True, match)
