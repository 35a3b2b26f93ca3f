"""Rules for what is a number in the plan: the grid, epochs, rows of the sweep, jobs at a time, batch, context, seed.

A number is read where the words beside it say what it is. `Use 500` says nothing; `500 samples` may be rows of the sweep or of the
whole training, and counts only where the sweep is spoken of.
"""

from __future__ import annotations

import re

from tunesmith.agent.plan import GridPoint
from tunesmith.agent.reading.coverage import IDLE
from tunesmith.agent.reading.draft import Draft, Op
from tunesmith.agent.reading.items import Match, Sentence

_UNIT = (
    r"(?:more |training |concurrent |parallel |full |random |complete |base |fine tuning |tuning )*"
    r"(?:epochs?|pass(?:es)?|samples?|rows?|examples?|records?|jobs?|runs?|tokens?|lora|ranks?|learning|lrs?|candidates?|betas?|at|in parallel|pairs?)\b"
)
_SEP = r"(?: , and| , or| ,| and| or| &| /| plus| as well as)"
_INTS = rf"(?P<n>#(?! {_UNIT})(?:{_SEP} #(?! {_UNIT}))*)"
_INTS_BEFORE = rf"(?P<n>#(?:{_SEP} #)*)"
_SMALLS = rf"(?P<n>~(?:{_SEP} ~)*|#(?! {_UNIT}))"
_SMALLS_BEFORE = rf"(?P<n>~(?:{_SEP} ~)*)"
"""Lists of one kind: ranks are whole numbers, rates are below 1."""
_RANGE = r"(?P<n># (?:-|to|through|thru|until|up to) #|(?<=between )# and #)"
_LINK = (
    r"(?: (?:of|at|to|in|:|=|\(|is|are|be|should be|must be|as|set to|set at|values?|from|between|among|either|just|only|sizes?|the|equal to|"
    r"being|becomes?|stays?|fixed|over|across|anywhere|somewhere|ranging|those|these|they|now))*"
)
_RANK = r"(?:(?:lora|adapter) (?:adapters? )?(?:of |with )?(?:a )?ranks?|ranks?|lora r|r|lora)"
_RANK_NOUN = r"(?:(?:lora|adapter) )?ranks?"
_LR = r"(?:learning rates?|lrs?|step sizes?)"
_SWEEP = re.compile(
    r"\b(?:sweep\w*|search\w*|hp|hyper parameters?|tuning|sub sampl\w+|subsampl\w*|trials?|candidates?|grid|exploration|selection)\b"
)
_ROWS = r"(?:samples?|rows?|examples?|records?|data points?|conversations?|rows of data)"
_JOBS = r"(?:(?:training|active|fine tuning|tuning|sweep|candidate|concurrent|parallel|simultaneous) )*(?:jobs?|runs?|trainings?|candidates?)"
_AT_ONCE = r"(?:(?:going|running|active|open) )?(?:in parallel|at (?:a|the same|one) time|at once|concurrently|simultaneously|side by side|in flight)"


def _rule(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\S){pattern}(?!\S)")


def read_numbers(sentence: Sentence, draft: Draft) -> None:
    """Every number of a sentence that its words explain."""
    for rule in (
        _pairs,
        _batch,
        _context,
        _seed,
        _full_parameters,
        _ranges,
        _lists,
        _scaled_epochs,
        _epochs,
        _subsample,
        _parallel,
        _bare_rates,
    ):
        rule(sentence, draft)


# The grid --------------------------------------------------------------------------------------------------------------------------

_PAIR = _rule(
    rf"(?:(?:a |the )?{_RANK}{_LINK} )?\(? ?(?P<rank>#) ?(?:,|with|at|@|/|:|->|and|x|using|\+| )+ ?(?:a |an |the )?"
    rf"(?:{_LR}{_LINK} )?(?P<rate>~)(?: {_LR})?(?: \))?"
)
_PAIR_TURNED = _rule(
    rf"(?:(?:a |the )?{_LR}{_LINK} )?(?P<rate>~) (?:for|at|with|on|@|to go with) (?:the )?{_RANK}{_LINK} (?P<rank>#)"
)
_LIST_GOES_ON = re.compile(rf"{_SEP} ~")
_RESPECTIVELY = _rule(r"(?:respectively|in that order|pairwise|pair ?wise|one to one)")


def _pairs(sentence: Sentence, draft: Draft) -> None:
    """`rank 8 with 1e-4 and rank 16 with 5e-5`, `(8, 1.5e-4), (16, 1e-4)`: settings as they are, not every rank with every rate."""
    for pattern in (_PAIR_TURNED, _PAIR):
        found = [match for match in sentence.matches(pattern) if not _part_of_lists(sentence, match)]
        if len(found) > 1:
            for match in found:
                rank, rate = match.group("rank")[0], match.group("rate")[0]
                point = GridPoint(lora_rank=int(float(rank.value or 0)), learning_rate=float(rate.value or 0))
                draft.points.append((point, match.words))
                match.use()
            _use_words(sentence, _rule(rf"(?:{_LR}|{_RANK_NOUN}|settings?|pairs?|combinations?)"))
            return


def _part_of_lists(sentence: Sentence, match: Match) -> bool:
    """Whether a rank or a rate of this pair stands in a list of its kind: then it is no pair."""
    start, end = match.found.span()
    if match.found.group().lstrip().startswith("("):
        return False
    after = _LIST_GOES_ON.match(sentence.line, end)
    pair_follows = _PAIR.match(sentence.line, end + 1)
    in_list = re.search(
        r"# (?:, and|, or|,|and|or|&) $", sentence.line[:start] if match.found.group()[0] == "#" else ""
    )
    return bool((after and not pair_follows) or in_list)


_RANK_LIST = _rule(rf"{_RANK}{_LINK} {_INTS}")
_RANK_AFTER = _rule(rf"{_INTS_BEFORE} (?:as |for )?(?:the |a )?{_RANK_NOUN}")
_RATE_LIST = _rule(rf"{_LR}{_LINK} {_SMALLS}")
_RATE_AFTER = _rule(rf"{_SMALLS_BEFORE} (?:as |for )?(?:the |a )?{_LR}")
_BETA_LIST = _rule(rf"(?:dpo |orpo |kl )?(?:betas?|lambdas?){_LINK} {_SMALLS}")
_BETA_AFTER = _rule(rf"{_SMALLS_BEFORE} (?:as |for )?(?:the |a )?(?:betas?|lambdas?)")
_MORE = re.compile(
    r"\b(?:add|also|additionally|too|as well|include|including|plus|extra|besides|in addition|another)\b"
)
_LESS = re.compile(
    r"\b(?:drop|remove|without|exclude|excluding|except|omit|skip|leave out|leave off|not|no|never|lose|ditch|minus|scrap|rid of|cut|forget|"
    r"instead of|rather than|in place of|(?:everything|all|anything|any|each) but)\b"
)
_STOPPERS = re.compile(
    r"\b(?:but|use|try|keep|add|and (?:use|try|keep|add|drop|remove)|with|then|make|set|instead(?! of))\b|,(?! and #|,)"
)
_GOES_ON = re.compile(r"(?: to| ever)? (?:use|try|keep|add|include|test|run)\b")
"""`not use rank 16`, `also try rank 4`: the verb belongs to the word in front of it."""
_FIRM = re.compile(r"\b(?:only|just|solely|instead|exclusively|nothing else|fix|fixed)\b")


def operation(sentence: Sentence, match: Match, draft: Draft) -> tuple[Op, bool]:
    """What the words in front of a value (and behind it) say is to be done with it, and whether nothing else is to stay."""
    start, end = match.found.span()
    before, after = sentence.line[:start], sentence.line[end:]
    less, more = list(_LESS.finditer(before)), list(_MORE.finditer(before))
    turning = [word for word in (*less, *more) if word.group() in ("not", "never", "also")]
    carried = {going.end(): going for word in turning if (going := _GOES_ON.match(before, word.end()))}
    stops = [stop.start() for stop in _STOPPERS.finditer(before) if stop.end() not in carried]
    more = [word for word in more if word.end() not in carried]
    negated = (
        bool(less) and not any(stop > less[-1].end() for stop in stops) and reaches(sentence, less[-1].end(), start)
    )
    if re.search(r":|=|should be|must be|\bto [#~@]", match.found.group()):
        negated = False  # "except the learning rates: they should be ..."
    if negated and not (more and more[-1].start() > less[-1].start()):
        for word in (less[-1], *carried.values()):
            _mark(sentence, word)
        return Op.REMOVE, False
    nearby = before[max(stops, default=0) :] + match.found.group()
    firm = bool(_FIRM.search(nearby) or re.match(r" (?:only|instead|alone|exclusively|and nothing else)\b", after))
    added = (more and not any(stop > more[-1].end() for stop in stops)) or re.match(
        r" (?:too|as well|also|in addition)\b", after
    )
    for word in (*_TRAILING.finditer(after), *_FIRM.finditer(nearby), *([more[-1]] if added and more else [])):
        _mark(sentence, word)
    return (Op.ADD if added and draft.message and not firm else Op.SET), firm


_TRAILING = re.compile(r"^ (?:only|instead|alone|exclusively|and nothing else|too|as well|also|in addition|again)\b")


def reaches(sentence: Sentence, start: int, end: int) -> bool:
    """Whether nothing that was understood by itself stands between a negation and a value."""
    between = sentence.between(start + 1, end - 1) if end - 1 > start + 1 else []
    return not any(item.used and item.kind == "word" and item.text not in IDLE for item in between)


def _mark(sentence: Sentence, found: re.Match[str]) -> None:
    words = set(found.group().split())
    for item in sentence.items:
        if item.text in words:
            item.used = True


_RATES_WITH_ZERO = re.compile(
    rf"(?<!\S){_LR}{_LINK} [~#](?:{_SEP} [~#])+(?=$| [,()]| (?:and|with|for|on|at|using|across|over)\b)"
)


def _zeros(sentence: Sentence) -> None:
    """A 0 among learning rates is one of them: `2e-3 and 0`, the control that learns nothing."""
    for match in sentence.matches(_RATES_WITH_ZERO):
        numbers = [item for item in match.items if item.kind == "number"]
        if any(item.text == "~" for item in numbers):
            for item in numbers:
                item.text = "~" if item.value == 0 else item.text
    sentence.rebuild()


def _lists(sentence: Sentence, draft: Draft) -> None:
    _zeros(sentence)
    for name, patterns, whole in (
        ("betas", (_BETA_LIST, _BETA_AFTER), False),
        ("lora_ranks", (_RANK_LIST, _RANK_AFTER), True),
        ("learning_rates", (_RATE_LIST, _RATE_AFTER), False),
    ):
        for pattern in patterns:
            for match in sentence.matches(pattern):
                _list(name, match, sentence, draft, whole)
    for match in sentence.matches(_RESPECTIVELY):
        ranks, rates = draft.stated("lora_ranks"), draft.stated("learning_rates")
        if len(ranks) == len(rates) == 1 and len(ranks[0].value) == len(rates[0].value):
            pairs = zip(ranks[0].value, rates[0].value, strict=True)
            draft.points += [(GridPoint(lora_rank=rank, learning_rate=rate), match.words) for rank, rate in pairs]
            draft.wishes = [wish for wish in draft.wishes if wish not in (ranks[0], rates[0])]
            match.use()


def _list(name: str, match: Match, sentence: Sentence, draft: Draft, whole: bool) -> None:
    items = match.values()
    values = [float(item.value or 0) for item in items]
    wrong = [value for value in values if (value != int(value) if whole else value >= 1)]
    if wrong or any(item.rough for item in items):
        what = name.replace("_", " ").replace("lora", "LoRA")
        draft.ask(f"grid.{name}", f"I cannot take {match.words!r} for {what}. Which {what} do you mean?", match)
        return
    op, firm = operation(sentence, match, draft)
    draft.wish(name, [int(value) if whole else value for value in values], match, op, firm=firm)


_RANK_RANGE = _rule(rf"{_RANK}{_LINK} {_RANGE}")
_RANK_RANGE_AFTER = _rule(rf"{_RANGE} (?:as |for )?(?:the )?{_RANK_NOUN}")
_RATE_RANGE = _rule(rf"{_LR}{_LINK} (?:between )?(?P<n>~ (?:-|to|through|and|until|up to) ~)")


def _ranges(sentence: Sentence, draft: Draft) -> None:
    """`ranks 8 through 32`: the powers of two, as LoRA ranks are. A range of learning rates does not say which."""
    for pattern in (_RANK_RANGE, _RANK_RANGE_AFTER):
        for match in sentence.matches(pattern):
            low, high = (int(float(item.value or 0)) for item in match.values())
            ranks = [2**power for power in range(12) if low <= 2**power <= high]
            if low in ranks and high in ranks and low < high:
                op, firm = operation(sentence, match, draft)
                draft.wish("lora_ranks", ranks, match, op, firm=firm)
            else:
                draft.ask("grid.lora_ranks", f"Which LoRA ranks does {match.words!r} mean? Please list them.", match)
    for match in sentence.matches(_RATE_RANGE):
        if not match.found.group("n").endswith("and ~") or "between" in match.found.group():
            text = f"Which learning rates of the range {match.words!r} shall I try? Please list them."
            draft.ask("grid.learning_rates", text, match)
    for match in sentence.matches(_BARE_RANGE):
        text = f"Which learning rates of the range {match.words!r} shall I try? Please list them."
        draft.ask("grid.learning_rates", text, match)


_BARE_RANGE = _rule(
    r"(?:(?:anywhere|somewhere|from|between) )*(?P<n>~ (?:-|to|through|until|up to) ~|(?<=between )~ and ~)"
)
_BARE = _rule(r"(?P<n>~(?:(?: , and| , or| ,| and| or| &) ~)*)")


def _bare_rates(sentence: Sentence, draft: Draft) -> None:
    """A number as small as `5e-5` can be nothing but a learning rate, when all of its list are."""
    for match in sentence.matches(_BARE):
        values = [float(item.value or 0) for item in match.values()]
        if all(value <= 2e-3 for value in values) and not match.taken:
            op, firm = operation(sentence, match, draft)
            draft.wish("learning_rates", values, match, op, firm=firm)


_FULL = _rule(
    r"(?:full parameters?(?: (?:fine )?(?:tuning|training))?(?: ,? ?(?:instead of|rather than|not|and not|no|without) lora(?! #))?|full (?:fine )?tuning|full weights?(?: (?:fine )?(?:tuning|training))?|"
    r"all (?:the |of the )?(?:parameters|weights)(?: trained)?|(?:no|without|not) (?:any )?lora(?! (?:#|\w*r)))"
)


def _full_parameters(sentence: Sentence, draft: Draft) -> None:
    for match in sentence.matches(_FULL):
        lora = "lora" in match.found.group()
        op, firm = (Op.SET, False) if lora else operation(sentence, match, draft)
        if op is not Op.REMOVE:
            draft.wish("lora_ranks", [0], match, op, firm=firm)
        else:
            match.use()


# Single numbers --------------------------------------------------------------------------------------------------------------------

_EPOCHS = (
    _rule(
        rf"(?P<n>(?:[#~](?:{_SEP}| to| -) )*[#~]) (?:(?:training|full|complete|whole) )*(?:epochs?|pass(?:es)?(?: (?:over|through)(?: (?:the|my|all|whole|data|dataset))*)?)"
    ),
    _rule(rf"(?:number of |num )?epochs?(?: (?:count|number))?{_LINK} (?P<n>[#~](?:{_SEP} #(?! {_UNIT}))*)"),
    _rule(r"(?P<n>single) (?:epoch|pass)(?: (?:over|through)(?: (?:the|my|all|whole|data|dataset))*)?"),
)


def _epochs(sentence: Sentence, draft: Draft) -> None:
    for pattern in _EPOCHS:
        for match in sentence.matches(pattern):
            values = [float(item.value or 0) for item in match.values()] or [1.0]
            if len(values) > 1 or values[0] <= 0:
                text = f"A plan has one number of epochs for every candidate, above 0. Which one does {match.words!r} mean?"
                draft.ask("epochs", text, match, [f"{value:g}" for value in values])
            else:
                _single("epochs", values[0], match, sentence, draft)


_FACTORS = {"double": 2.0, "twice": 2.0, "triple": 3.0, "halve": 0.5, "half": 0.5}
_SCALED = _rule(rf"(?P<by>{'|'.join(_FACTORS)})(?: (?:the|number|of|as|many|our|my))* epochs")


def _scaled_epochs(sentence: Sentence, draft: Draft) -> None:
    """`double the epochs`, where the plan has a number of them."""
    for match in sentence.matches(_SCALED):
        if draft.epochs is not None:
            draft.wish("epochs", draft.epochs * _FACTORS[match.found.group("by")], match)


_COUNTED = _rule(
    r"(?:(?:exactly|just|only|these|those|the|all|both|following) )*(?P<n>#) (?:pairs?|configs?|configurations?|settings?|combinations?|candidates?|points?|variants?)"
)
_COUNTED_MODELS = _rule(r"(?:(?:these|those|the|both|following) )*(?P<n>#) (?:base )?models")


def read_counts(sentence: Sentence, draft: Draft) -> None:
    """`these three configs: ...`: a count that fits what is listed says nothing new; another one is left to be asked about."""
    models = sum(len(wish.value) for wish in draft.stated("base_models"))
    lists = [sum(len(wish.value) for wish in draft.stated(name)) for name in ("lora_ranks", "learning_rates")]
    for pattern, counts in ((_COUNTED, {len(draft.points), lists[0] * lists[1]}), (_COUNTED_MODELS, {models})):
        for match in sentence.matches(pattern, fresh=False):
            if not match.values()[0].used and match.values()[0].value in counts - {0}:
                match.use()


def _single(name: str, value: float | int, match: Match, sentence: Sentence, draft: Draft) -> None:
    op, firm = operation(sentence, match, draft)
    draft.wish(name, value, match, Op.REMOVE if op is Op.REMOVE else Op.SET, firm=firm)
    for other in sentence.matches(_NOT_THAT):
        if other.found.start() == match.found.end() + 1:
            other.use()


_NOT_THAT = _rule(
    r"(?:, )?(?:rather than|instead of|not|and not|in place of)(?: the)? [#~](?: epochs?| samples| rows)?"
)
"""`2 epochs rather than three`: what it is not, behind what it is."""


_PURPOSE = r"(?: (?:for|in|during|of) (?:the |your |my )?(?:(?:hp|hyper parameter|candidate|grid) )*(?:tuning|sweep\w*|search\w*|candidates?|exploration|trials?))?"
_ROWS_ALONE = _rule(rf"(?P<n>#) (?:(?:random|training|random training|of the|of my|data) )*{_ROWS}{_PURPOSE}")
_SUBSAMPLES = (
    _rule(
        rf"(?:sub sampl\w+|subsampl\w*)(?: (?:size|down|it|the data|the dataset|of|to|at|:|=|is|should be|be))* (?P<n>#)(?: {_ROWS})?"
    ),
    _rule(r"(?P<n>#) (?:as |for )?(?:the |a )?(?:sub sample|subsample)(?: size)?"),
    _ROWS_ALONE,
)
_WHOLE_SWEEP = (
    _rule(
        r"(?:not|no|without|skip|disable|avoid|never)(?: (?:do|any|the|use|to))* (?:sub sampl\w+|subsampl\w*)(?: (?:the|data|dataset|anything|it))*"
    ),
    _rule(
        r"(?:all|every|full|whole|entire|complete)(?: (?:of|the|my|our|training|data ?set|data))*(?: (?:rows?|data|dataset|samples?|examples?|records?))?"
        r" (?:for|in|during) (?:the )?(?:(?:hp|hyper parameter|candidate|grid) )*(?:tuning|sweep\w*|search\w*)"
    ),
    _rule(
        r"(?:sweep|search|tune|tuning)(?: (?:on|over|with|using|across|should|use|uses|see|sees|cover|covers|take|takes|the|candidates?|run|runs|hyper|parameters?))+ "
        r"(?:all|every|full|whole|entire|complete)(?: (?:of|the|my|our|data|dataset|rows?|samples?|examples?))*"
    ),
)


def _subsample(sentence: Sentence, draft: Draft) -> None:
    for pattern in _WHOLE_SWEEP:
        for match in sentence.matches(pattern):
            draft.wish("subsample", 0, match)
    for pattern in _SUBSAMPLES:
        for match in sentence.matches(pattern):
            count = match.values()[0]
            value = float(count.value or 0)
            if value != int(value) or (pattern is _ROWS_ALONE and not _SWEEP.search(sentence.line)):
                text = (
                    f"What is {match.words!r} for? If the sweep shall take so many rows, say `use {value:g} rows for the sweep`; "
                    "the final run takes all rows."
                )
                draft.ask("subsample", text, match)
            else:
                _single("subsample", int(value), match, sentence, draft)
                _use_words(sentence, _SWEEP_PHRASE)


_SWEEP_PHRASE = _rule(
    r"(?:(?:limit|cap|restrict|bound|reduce|subsample|sub sample) (?:the )?(?:(?:hp|hyper parameter|candidate|grid) )*(?:tuning|sweep\w*|search\w*|data)?"
    r"|(?:hp|hyper parameter|candidate) (?:tuning|sweep\w*|search\w*)|random|only|just)"
)
_PARALLEL = (
    _rule(rf"(?P<n>#) {_JOBS} {_AT_ONCE}"),
    _rule(rf"(?P<n>#) (?:concurrent|parallel|simultaneous|active) {_JOBS}"),
    _rule(rf"(?P<n>#) {_AT_ONCE}"),
    _rule(rf"{_JOBS} {_AT_ONCE}{_LINK} (?P<n>#)"),
    _rule(rf"(?:parallel(?:ism)?|concurrency)(?: (?:limit|level|jobs|cap|factor))*{_LINK} (?P<n>#)(?: {_JOBS})?"),
    _rule(
        r"(?:limit|cap|at most|no more than|up to|maximum of|max(?:imum)?)(?: (?:of|it|the|to|at))* (?P<n>#) (?:training |concurrent |parallel |active |tuning )+(?:jobs?|runs?)"
    ),
)
_SEQUENTIAL = _rule(
    r"(?:sequentially|one after (?:the other|another)|one by one|serially|(?:no|not in|without) parallel\w*)"
)
_BOUND = _rule(
    r"(?:(?:never|not|no)(?: \w+){0,2} more than|up to|at most|no more than|not more than|(?:a )?max(?:imum)?(?: of)?|limit(?:ed)?(?: \w+)? to|cap(?:ped)?(?: \w+)? (?:to|at)|limit|cap|allow|"
    r"fewer than|only|just)"
)


def _parallel(sentence: Sentence, draft: Draft) -> None:
    for pattern in _PARALLEL:
        for match in sentence.matches(pattern):
            value = float(match.values()[0].value or 0)
            draft.wish("parallel", int(value), match) if value >= 1 and value == int(value) else draft.ask(
                "parallel", f"How many training jobs may run at a time? {match.words!r} is no number of jobs.", match
            )
            _use_words(sentence, _BOUND)
    for match in sentence.matches(_SEQUENTIAL):
        draft.wish("parallel", 1, match)


_BATCH = (
    _rule(
        rf"(?:mini ?)?batch(?:es)?(?: (?:size|sizes))?{_LINK} (?P<n>#)(?P<unit> tokens?| samples?| pairs?| rows?| examples?| conversations?)?"
    ),
    _rule(
        r"(?P<n>#)(?P<unit>) (?:samples?|pairs?|rows?|examples?|conversations?) (?:per|a|each|in a|in each|in every) (?:batch|step|optimi[sz]er step|update)"
    ),
    _rule(r"(?P<n>#)(?P<unit>) (?:as |for )?(?:the )?batch size"),
    _rule(rf"bs{_LINK} (?P<n>#)(?P<unit>)"),
)


def _batch(sentence: Sentence, draft: Draft) -> None:
    for pattern in _BATCH:
        for match in sentence.matches(pattern):
            count = match.values()[0]
            if "token" in (match.found.group("unit") or "") or count.rough:
                text = f"A batch is counted in samples here. How many samples shall one step have? ({match.words!r})"
                draft.ask("batch_size_samples", text, match)
            else:
                _single("batch_size_samples", int(float(count.value or 0)), match, sentence, draft)


_CONTEXT_NOUN = r"(?:max(?:imum)? )?(?:context|sequence|seq)(?: (?:length|len|window|size))*"
_CONTEXT = (
    _rule(rf"{_CONTEXT_NOUN}{_LINK} (?P<n>#)(?: tokens?)?"),
    _rule(rf"(?P<n>#)(?: tokens?)?(?: (?:of|as|for))?(?: the| a)? {_CONTEXT_NOUN}"),
    _rule(r"(?:truncate|cut|clip|limit)(?: \w+){0,2} (?:to|at|after|beyond) (?P<n>#) tokens?"),
)


def _context(sentence: Sentence, draft: Draft) -> None:
    for pattern in _CONTEXT:
        for match in sentence.matches(pattern):
            count = match.values()[0]
            value = int(float(count.value or 0))
            if count.rough:
                choices = [str(value), str(value // 1000 * 1024)]
                text = f"How many tokens of context does {match.words!r} mean: {' or '.join(choices)}?"
                draft.ask("max_context_length", text, match, choices)
            else:
                _single("max_context_length", value, match, sentence, draft)
                _use_words(sentence, _rule("max(?:imum)?"))


_SEED = (
    _rule(rf"(?:random )?seeds?{_LINK} (?P<n>#)"),
    _rule(r"(?P<n>#) (?:as |for )(?:the )?(?:random )?seed"),
)


def _seed(sentence: Sentence, draft: Draft) -> None:
    for pattern in _SEED:
        for match in sentence.matches(pattern):
            _single("seed", int(float(match.values()[0].value or 0)), match, sentence, draft)


def _use_words(sentence: Sentence, pattern: re.Pattern[str]) -> None:
    """Words that belong to what was just read."""
    for match in sentence.matches(pattern, fresh=False):
        match.use()
