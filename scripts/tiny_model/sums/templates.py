"""The texts of the word problems, and the steps that solve each of them.

A template is a text with slots and a plan. Slots in braces:

* ``a b c d``       the numbers that the problem gives;
* ``A B C``         different people, ``he`` the pronoun of ``A`` (capital: ``He``);
* ``it it2``        two different items, plural; ``i`` the first one, singular;
* ``box boxes``     a container, singular and plural.

A plan is a tuple of steps such as ``"a+b"`` or ``"r1*c"``; ``r1`` is the result of the first step, a digit is a
constant ("twice" is ``*2``). Some templates are written out, others are composed of an opening, a story and a
question, so that reading has to be learned clause by clause.

``TRAINING`` and ``HELD_OUT`` share words but no template: pre-training and reinforcement fine-tuning see only the
first. Claims about skill use the second: a few new wordings, and new combinations of known clauses.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Template:
    """One family of problems.

    Attributes:
        name: Unique, stable name of the family.
        texts: Wordings with slots; every wording mentions every number of the plan.
        plan: Steps in order, see the module's docstring.
        ranges: Inclusive ranges of numbers for which the usual range is wrong.
    """

    name: str
    texts: tuple[str, ...]
    plan: tuple[str, ...]
    ranges: dict[str, tuple[int, int]] = field(default_factory=dict)


PEOPLE: tuple[tuple[str, str], ...] = tuple(
    (name, pronoun)
    for pronoun, names in (
        ("she", "Anna Mia Lucy Nora Sara Emma Zoe Ida Rosa Mei"),
        ("he", "Tom Ben Leo Max Omar Paul Sam Ivan Luis Ken"),
    )
    for name in names.split()
)
ITEMS: tuple[tuple[str, str], ...] = tuple(
    (f"{stem}{end[0]}", f"{stem}{end[1]}")
    for stem, end in (
        [(s, ("", "s")) for s in ["apple", "pear", "lemon", "egg", "book", "pen", "pencil", "stamp", "coin", "card"]]
        + [(s, ("", "s")) for s in ["marble", "button", "shell", "ticket", "cookie", "flower", "balloon", "sticker"]]
        + [("cherr", ("y", "ies")), ("peach", ("", "es"))]
    )
)
BOXES: tuple[tuple[str, str], ...] = (
    ("box", "boxes"),
    ("bag", "bags"),
    ("basket", "baskets"),
    ("jar", "jars"),
    ("crate", "crates"),
    ("drawer", "drawers"),
)

T = Template
WRITTEN: tuple[Template, ...] = (
    # one step
    T("gain", ("{A} has {a} {it}. {B} gives {A} {b} more. How many {it} does {A} have now?",
               "{A} has {a} {it} and buys {b} more. How many {it} does {A} have now?"), ("a+b",)),
    T("lose", ("{A} has {a} {it} and loses {b} of them. How many {it} are left?",
               "There are {a} {it} in a {box}. {A} takes {b} of them. How many {it} are left in the {box}?"), ("a-b",)),
    T("together", ("{A} has {a} {it} and {B} has {b} {it}. How many {it} do they have together?",
                   "There are {a} {it} and {b} {it2} in a {box}. How many things are in the {box}?"), ("a+b",)),
    T("boxes", ("There are {a} {it} in each {box}. How many {it} are in {b} {boxes}?",
                "{A} has {b} {boxes} with {a} {it} each. How many {it} does {A} have?"), ("a*b",)),
    T("share", ("{A} shares {a} {it} equally among {b} friends. How many {it} does each friend get?",
                "{A} puts {a} {it} equally into {b} {boxes}. How many {it} are in each {box}?"), ("a/b",)),
    T("price", ("One {i} costs {a} dollars. How much do {b} {it} cost?",
                "{A} buys {b} {it} for {a} dollars each. How much does {A} pay?"), ("a*b",)),
    T("fewer", ("{A} has {a} {it}. {B} has {b} fewer than {A}. How many {it} does {B} have?",), ("a-b",)),
    T("more", ("{A} has {a} {it}. {B} has {b} more than {A}. How many {it} does {B} have?",), ("a+b",)),
    T("twice", ("{A} has {a} {it}. {B} has twice as many. How many {it} does {B} have?",), ("a*2",)),
    # two steps
    T("gain_lose", ("{A} has {a} {it}. {B} gives {A} {b} more, but then {A} loses {c}. How many {it} does {A} have now?",
                    "{A} finds {a} {it} and buys {b} more. {He} gives {c} {it} to {B}. How many {it} does {A} have left?"),
      ("a+b", "r1-c")),
    T("lose_gain", ("{A} has {a} {it} and gives {b} to {B}. Then {he} buys {c} more. How many {it} does {A} have now?",),
      ("a-b", "r1+c")),
    T("boxes_plus", ("{A} fills {b} {boxes} with {a} {it} each and has {c} {it} left over. How many {it} does {A} have in all?",
                     "{A} has {b} {boxes} with {a} {it} each. {B} gives {A} {c} more {it}. How many {it} does {A} have now?"),
      ("a*b", "r1+c")),
    T("boxes_minus", ("{A} has {b} {boxes} with {a} {it} each and gives {c} {it} to {B}. How many {it} does {A} have left?",
                      "There are {b} {boxes} of {a} {it}. {c} {it} are bad. How many {it} are good?"), ("a*b", "r1-c")),
    T("gain_share", ("{A} has {a} {it} and buys {b} more. {He} puts them all equally into {c} {boxes}. How many {it} are in each {box}?",
                     "{A} has {a} {it} and {b} {it2}. {He} shares all of them equally among {c} friends. How many things does each friend get?"),
      ("a+b", "r1/c")),
    T("lose_share", ("{A} has {a} {it} and loses {b}. {He} shares the rest equally among {c} friends. How many {it} does each friend get?",),
      ("a-b", "r1/c")),
    T("change", ("{A} buys {b} {it} for {a} dollars each and pays with {c} dollars. How much money does {A} get back?",),
      ("a*b", "c-r1"), {"c": (20, 100)}),
    T("fewer_total", ("{A} has {a} {it}. {B} has {b} fewer than {A}. How many {it} do they have together?",),
      ("a-b", "a+r1")),
    T("more_total", ("{A} has {a} {it}. {B} has {b} more than {A}. How many {it} do they have together?",),
      ("a+b", "a+r1")),
    T("twice_total", ("{A} has {a} {it}. {B} has twice as many. How many {it} do they have together?",
                      "{A} sells {a} {it} on Monday and twice as many on Friday. How many {it} does {A} sell in all?"),
      ("a*2", "a+r1")),
    T("half_total", ("{A} picks {a} {it} in the morning and half as many in the evening. How many {it} does {A} pick in all?",),
      ("a/2", "a+r1"), {"a": (4, 40)}),
    T("pages", ("{A} reads {a} pages a day for {b} days and then {c} pages more. How many pages does {A} read in all?",),
      ("a*b", "r1+c")),
    T("earn_spend", ("{A} earns {a} dollars an hour and works {b} hours. {He} spends {c} dollars. How much money is left?",),
      ("a*b", "r1-c")),
    T("earn_days", ("{A} works {b} hours on Monday and {c} hours on Friday for {a} dollars an hour. How much does {A} earn?",),
      ("b+c", "r1*a"), {"b": (2, 9), "c": (2, 9)}),
    T("pack_sell", ("{A} packs {a} {it} into {boxes} of {b}. {He} sells {c} {boxes}. How many {boxes} are left?",),
      ("a/b", "r1-c"), {"c": (2, 9)}),
    T("unit_price", ("{b} {it} cost {a} dollars. How much do {c} {it} cost?",), ("a/b", "r1*c")),
    T("seats", ("A room has {b} rows of {a} seats. {c} seats are taken. How many seats are free?",), ("a*b", "r1-c")),
    T("spend_twice", ("{A} has {a} dollars. {He} spends {b} dollars on {it} and {c} dollars on {it2}. How much money is left?",),
      ("a-b", "r1-c"), {"a": (10, 60)}),
    T("want_boxes", ("{A} wants {c} {it}. {He} already has {b} {boxes} with {a} {it} each. How many more {it} does {A} need?",),
      ("a*b", "c-r1"), {"c": (20, 100)}),
    T("want_gain", ("{A} wants {c} {it}. {He} has {a} and {B} gives {A} {b} more. How many more {it} does {A} need?",),
      ("a+b", "c-r1"), {"c": (20, 60)}),
    T("times_more", ("{A} has {a} {it}. {B} has {b} times as many. How many more {it} does {B} have than {A}?",),
      ("a*b", "r1-a")),
    T("mixed_boxes", ("Each {box} holds {a} {it} and {b} {it2}. How many things are in {c} {boxes}?",), ("a+b", "r1*c")),
    T("collect", ("{A} finds {a} {it} on Monday, {b} on Friday and {c} on Sunday. How many {it} does {A} find in all?",),
      ("a+b", "r1+c")),
    # three steps
    T("three_events", ("{A} has {a} {it}. {He} buys {b} more, loses {c} and then finds {d}. How many {it} does {A} have now?",),
      ("a+b", "r1-c", "r2+d")),
    T("boxes_plus_share", ("{A} has {b} {boxes} with {a} {it} each and buys {c} more {it}. {He} shares them all equally among {d} friends. How many {it} does each friend get?",),
      ("a*b", "r1+c", "r2/d")),
    T("boxes_minus_share", ("{A} has {b} {boxes} with {a} {it} each and loses {c} {it}. {He} shares the rest equally among {d} friends. How many {it} does each friend get?",),
      ("a*b", "r1-c", "r2/d")),
    T("two_prices", ("{A} buys {b} {it} for {a} dollars each and {d} {it2} for {c} dollars each. How much does {A} pay in all?",),
      ("a*b", "c*d", "r1+r2")),
    T("share_add", ("{A} puts {a} {it} equally into {b} {boxes} and adds {c} {it} to each {box}. How many {it} are in {d} {boxes}?",),
      ("a/b", "r1+c", "r2*d"), {"c": (2, 12)}),
    T("gain_lose_share", ("{A} has {a} {it}, buys {b} more and gives {c} to {B}. {He} puts the rest equally into {d} {boxes}. How many {it} are in each {box}?",),
      ("a+b", "r1-c", "r2/d")),
)  # fmt: skip

WRITTEN_HELD_OUT: tuple[Template, ...] = (
    T("h_fewer_boxes", ("Each {box} has {a} {it}. {A} takes {b} {it} from each {box}. How many {it} are left in {c} {boxes}?",),
      ("a-b", "r1*c")),
    T("h_share_lose", ("{A} puts {a} {it} equally into {b} {boxes}. Then {he} takes {c} {it} from one {box}. How many {it} are left in the {box}?",),
      ("a/b", "r1-c"), {"c": (2, 9)}),
    T("h_share_gain", ("{A} shares {a} {it} equally among {b} friends. One friend buys {c} more {it}. How many {it} does the friend have now?",),
      ("a/b", "r1+c")),
    T("h_two_prices_change", ("{A} buys {b} {it} for {a} dollars each and one {box} for {c} dollars. {He} pays with {d} dollars. How much money does {A} get back?",),
      ("a*b", "r1+c", "d-r2"), {"d": (30, 120)}),
    T("h_compare_boxes", ("{A} has {b} {boxes} with {a} {it} each. {B} has {d} {boxes} with {c} {it} each. How many more {it} does {A} have than {B}?",),
      ("a*b", "c*d", "r1-r2")),
    T("h_fewer_third", ("{A} has {a} {it}. {B} has {b} fewer than {A}. They put all of their {it} into {c} {boxes} equally. How many {it} are in each {box}?",),
      ("a-b", "a+r1", "r2/c")),
)  # fmt: skip

# Clauses of the composed templates. ``{x}`` is the number that the clause adds to the problem, ``r`` the result so far.
OPENINGS: dict[str, tuple[str, str]] = {
    "has": ("{A} has {a} {it}.", ""),
    "boxes": ("{A} has {b} {boxes} with {a} {it} each.", "a*b"),
    "days": ("{A} finds {a} {it} on Monday and {b} on Friday.", "a+b"),
}
EVENTS: dict[str, tuple[tuple[str, ...], str]] = {
    "gain": (("{He} buys {x} more.", "{C} gives {A} {x} more."), "r+x"),
    "lose": (("{He} loses {x} of them.", "{He} gives {x} to {C}."), "r-x"),
    "half": (("{He} gives half of them to {C}.",), "r/2"),
}
STORIES: tuple[tuple[str, ...], ...] = ((), ("gain",), ("lose",), ("half",), ("gain", "lose"), ("lose", "gain"))
QUESTIONS: dict[str, tuple[str, str]] = {
    "left": ("How many {it} does {A} have now?", ""),
    "share": ("{He} shares them all equally among {x} friends. How many {it} does each friend get?", "r/x"),
    "pack": ("{He} puts them all equally into {x} {boxes}. How many {it} are in each {box}?", "r/x"),
    "need": ("{A} wants {x} {it}. How many more {it} does {A} need?", "x-r"),
    "times": ("{B} has {x} times as many. How many {it} does {B} have?", "r*x"),
    "differ": ("{B} has {x} {it}. How many more {it} does {A} have than {B}?", "r-x"),
    "sell": ("{He} sells them for {x} dollars each. How much money does {A} get?", "r*x"),
    "both": ("{B} has {x} {it}. How many {it} do they have together?", "r+x"),
}
MOST_STEPS = 3


def compose(opening: str, story: tuple[str, ...], question: str) -> Template:
    """Joins clauses into a template; the numbers are named in the order in which they occur."""
    text, step = OPENINGS[opening]
    texts, plan = [text], [step] if step else []
    names = [c for c in "abcde" if f"{{{c}}}" not in text]
    ranges: dict[str, tuple[int, int]] = {}
    for wordings, rule in [EVENTS[e] for e in story] + [((QUESTIONS[question][0],), QUESTIONS[question][1])]:
        name = names.pop(0) if "x" in rule else ""
        texts = [f"{before} {wording.replace('{x}', f'{{{name}}}')}" for before in texts for wording in wordings]
        if rule:
            so_far = f"r{len(plan)}" if plan else "a"
            plan.append(rule.replace("r", so_far).replace("x", name))
        if rule == "x-r":
            ranges[name] = (20, 100)
    return Template("_".join((opening, *story, question)), tuple(texts), tuple(plan), ranges)


def _composed() -> tuple[tuple[Template, ...], tuple[Template, ...]]:
    """Splits all compositions of one to three steps; every third of those unlike any written template is held out."""
    training, candidates = [], []
    for opening in OPENINGS:
        for story in STORIES:
            for question in QUESTIONS:
                template = compose(opening, story, question)
                if not 1 <= len(template.plan) <= MOST_STEPS:
                    continue
                unlike = question in ("times", "differ", "sell", "both") or (opening == "days" and question != "left")
                (candidates if unlike and len(template.plan) > 1 else training).append(template)
    return (*training, *(t for i, t in enumerate(candidates) if i % 3)), tuple(candidates[::3])


COMPOSED, COMPOSED_HELD_OUT = _composed()
TRAINING: tuple[Template, ...] = WRITTEN + COMPOSED
HELD_OUT: tuple[Template, ...] = WRITTEN_HELD_OUT + COMPOSED_HELD_OUT
