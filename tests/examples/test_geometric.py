"""The geometric judge sees what a person who looks at the rendered drawing sees, and is not fooled."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from examples.svg_agent.evaluator.geometric import UnknownRequirement, judge, score
from examples.svg_agent.evaluator.geometric.colours import names, parse
from examples.svg_agent.evaluator.geometric.language import Kind, understand

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/svg_agent"
CIRCLE, BAR, TWO = "a large red circle in the top-left corner", "a small blue bar at the bottom", "exactly two shapes"
WANTED = [CIRCLE, BAR, TWO]
RED = '<circle cx="18" cy="18" r="16" fill="red"/>'
BLUE = '<rect x="45" y="80" width="10" height="4" fill="blue"/>'


def svg(body: str, attributes: str = 'viewBox="0 0 100 100"') -> str:
    return f"<svg {attributes}>{body}</svg>"


def total(drawing: str, wanted: list[str] | None = None) -> float:
    return score(judge(drawing, wanted or WANTED))


SAME = {
    "plain": svg(RED + BLUE),
    "the other order": svg(BLUE + RED),
    "namespace and size": svg(RED + BLUE, 'xmlns="http://www.w3.org/2000/svg" viewBox="0 0 100 100" width="640" height="640"'),
    "prefixes": f'<s:svg xmlns:s="http://www.w3.org/2000/svg" viewBox="0 0 100 100">{(RED + BLUE).replace("<", "<s:")}</s:svg>',
    "declaration and comment": '<?xml version="1.0" encoding="UTF-8"?><!-- two -->' + svg(RED + BLUE),
    "another view box": svg(f'<g transform="translate(-50 -50) scale(.5)">{RED + BLUE}</g>', 'viewBox="-50 -50 50 50"'),
    "only a width": svg(RED + BLUE, 'viewBox="0 0 100 100" width="50"'),
    "no view box": svg(RED + BLUE, 'width="100" height="100"'),
    "inherited fills": svg(f'<g fill="red">{RED.replace(chr(32) + "fill=" + chr(34) + "red" + chr(34), "")}</g>{BLUE}'),
    "style attribute": svg('<circle cx="18" cy="18" r="16" fill="green" style="fill : #F00"/>' + BLUE),
    "class": svg('<style>.a{fill:rgb(255,0,0)} rect{fill:blue}</style><circle class="x a" cx="18" cy="18" r="16"/>'
                 '<rect x="45" y="80" width="10" height="4"/>'),
    "specificity": svg('<style>#c{fill:red}.a{fill:green}circle{fill:pink}</style><circle id="c" class="a" cx="18" cy="18" r="16"/>' + BLUE),
    "important": svg('<style>circle{fill:red !important}</style><circle style="fill:green" cx="18" cy="18" r="16"/>' + BLUE),
    "hsl": svg('<circle cx="18" cy="18" r="16" fill="hsl(0, 100%, 50%)"/>' + BLUE.replace("blue", "hsl(240deg 100% 50%)")),
    "currentColor": svg('<g color="red"><circle cx="18" cy="18" r="16" fill="currentColor"/></g>' + BLUE),
    "use": svg('<defs><circle id="c" r="16" fill="red"/></defs><use href="#c" x="18" y="18"/>' + BLUE),
    "xlink use of a group": svg('<defs><g id="g"><circle r="8"/></g></defs><g fill="red" transform="scale(2)">'
                                '<use xlink:href="#g" x="9" y="9"/></g>' + BLUE),
    "symbol": svg('<symbol id="s" viewBox="0 0 10 10"><circle cx="5" cy="5" r="5" fill="red"/></symbol>'
                  '<use href="#s" x="2" y="2" width="32" height="32"/>' + BLUE),
    "nested svg": svg('<svg x="2" y="2" width="32" height="32" viewBox="0 0 2 2"><circle cx="1" cy="1" r="1" fill="red"/></svg>' + BLUE),
    "path with arcs": svg('<path d="M2 18a16 16 0 1032 0a16,16 0 10-32 0z" fill="red"/><path d="M45 80h10v4H45z" fill="#00f"/>'),
    "path with curves": svg('<path fill="red" d="M18 2C26.84 2 34 9.16 34 18S26.84 34 18 34 2 26.84 2 18 9.16 2 18 2Z"/>' + BLUE),
    "one path, two islands": svg('<g fill="red"><path d="M2 18a16 16 0 1032 0a16 16 0 10-32 0z"/></g>' + BLUE),
    "ellipse of equal radii": svg('<ellipse cx="18%" cy="18%" rx="16" ry="16" fill="red"/>' + BLUE),
    "rounded square": svg('<rect x="2" y="2" width="32" height="32" rx="16" fill="red"/>' + BLUE),
    "polygon of the bar": svg(RED + '<polygon points="45,80 55,80 55,84 45,84" fill="blue"/>'),
    "line as bar": svg(RED + '<line x1="45" y1="82" x2="55" y2="82" stroke="blue" stroke-width="4"/>'),
    "turned bar": svg(RED + '<rect x="-5" y="-2" width="10" height="4" fill="blue" transform="translate(50,82) rotate(90)"/>'),
    "outline only": svg('<circle cx="18" cy="18" r="15" fill="none" stroke="red" stroke-width="2"/>' + BLUE),
    "thin black outline": svg(RED.replace("/>", ' stroke="black" stroke-width="1"/>') + BLUE),
    "gradient": svg('<defs><linearGradient id="g"><stop stop-color="#f00"/><stop offset="1" stop-color="#c00"/></linearGradient></defs>'
                    '<circle cx="18" cy="18" r="16" fill="url(#g)"/>' + BLUE),
    "white background": svg('<rect width="100" height="100" fill="white"/>' + RED + BLUE),
    "half covered by nothing that matters": svg(RED + BLUE + '<circle cx="60" cy="60" r="9" fill="none"/>'),
    "hidden extra": svg(RED + BLUE + '<g display="none"><circle cx="60" cy="60" r="9"/></g>'),
    "transparent extra": svg(RED + BLUE + '<g opacity="0"><circle cx="60" cy="60" r="9"/></g>'),
    "extra outside the view": svg(RED + BLUE + '<circle cx="160" cy="60" r="9"/>'),
    "white on white": svg(RED + BLUE + '<circle cx="60" cy="60" r="9" fill="#fff"/>'),
    "covered extra": svg('<rect x="10" y="10" width="8" height="8" fill="green"/>' + RED + BLUE),
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_equal_drawings_written_differently_score_equally(name: str) -> None:
    verdicts = judge(SAME[name], WANTED)
    assert [verdict.met for verdict in verdicts] == [1.0, 1.0, 1.0], verdicts
    assert score(verdicts) == 1.0


# Nine parts: shape, colour, place and size of two objects, and the count.
LESS = {
    "wrong colour": (svg(RED.replace("red", "green") + BLUE), 8 / 9),
    "wrong place": (svg(RED.replace('cx="18"', 'cx="50"') + BLUE), 8 / 9),
    "wrong size": (svg(RED.replace("16", "10") + BLUE), 8 / 9),
    "wrong shape": (svg('<rect x="2" y="2" width="32" height="32" fill="red"/>' + BLUE), 8 / 9),
    "black and medium": (svg('<circle cx="18" cy="18" r="10"/><rect x="40" y="79" width="20" height="6"/>'), 5 / 9),
    "one is missing": (svg(RED), 4 / 9),
    "one extra": (svg(RED + BLUE + '<circle cx="80" cy="50" r="9"/>'), 8 / 9 * 2 / 3),
    "the same circle twice, side by side": (svg(RED + BLUE + RED.replace('cx="18"', 'cx="60"')), 8 / 9 * 2 / 3),
    "the same circle twice, on top of itself": (svg(RED + RED), 4 / 9),
    "circle under a white cover": (svg(RED + BLUE + '<rect width="40" height="40" fill="white"/>'), 4 / 9),
    "white on a square": (svg(RED + '<circle cx="18" cy="18" r="4" fill="white"/>' + BLUE), 8 / 9 * 2 / 3),
    "circle under a cover of its shape": (svg(RED + BLUE + RED.replace("red", "green")), 8 / 9),
    "circle without opacity": (svg(RED.replace("/>", ' fill-opacity="0"/>') + BLUE), 4 / 9),
    "circle hidden": (svg(f'<g visibility="hidden">{RED}</g>{BLUE}'), 4 / 9),
    "circle in defs only": (svg(f"<defs>{RED}</defs>{BLUE}"), 4 / 9),
    "circle off the canvas": (svg(RED.replace('cx="18"', 'cx="-18"') + BLUE), 4 / 9),
    "circle cut off by a nested view": (svg(f'<svg width="10" height="10">{RED}</svg>{BLUE}'), 4 / 9),
    "black on black": (svg('<rect width="100" height="100"/>' + RED.replace("red", "black") + BLUE), 4 / 9),
    "every place at once": (svg("".join(f'<circle cx="{x}" cy="{y}" r="16" fill="red"/>' for x in (18, 50, 82) for y in (18, 50, 82))),
                            (4 + 1) / 9 * 2 / 9),
    "two islands in one path": (svg(RED + BLUE + '<path d="M70 10h9v9h-9zM70 50h9v9h-9z"/>'), 8 / 9 * 2 / 4),
    "nothing": (svg(""), 0.0),
}  # fmt: skip


@pytest.mark.parametrize("name", LESS)
def test_what_is_wrong_missing_or_a_cheat_costs_its_part(name: str) -> None:
    drawing, expected = LESS[name]
    assert total(drawing) == pytest.approx(expected), judge(drawing, WANTED)


UNREADABLE = {
    "": "there is no SVG",
    "a red circle": "not well-formed",
    "<svg><circle r='3'></svg>": "not well-formed",
    "<html/>": "not <svg>",
    "<!DOCTYPE svg [<!ENTITY a 'aaaa'>]><svg>&a;</svg>": "document type",
    '<!DOCTYPE svg SYSTEM "file:///etc/passwd"><svg/>': "document type",
    svg('<image href="/etc/passwd"/>'): "<image>",
    svg('<use href="file:///etc/passwd#a"/>'): "outside of itself",
    svg('<g id="a"><use href="#a"/></g>'): "is a circle",
    svg("".join(f'<g id="g{i}">' + f'<use href="#g{i + 1}"/>' * 10 + "</g>" for i in range(8)) + '<g id="g8"/>'): "repeat",
    "<svg>" + "<g>" * 300 + "</g>" * 300 + "</svg>": "deeper",
    svg("<g/>" * 3000): "more than 2000 elements",
    svg(RED * 500): "more than 64 shapes",
    svg("<!--" + "x" * 300_000 + "-->"): "larger than",
    svg('<circle cx="nan" cy="1" r="5"/>'): "length",
    svg('<circle cx="1e300" cy="1" r="5"/>'): "out of bounds",
    svg('<circle r="5" transform="spin(4)"/>'): "transform",
    svg('<path d="M0 0' + "c1 1 2 2 3 3" * 2000 + '"/>'): "20000 points",
    svg("", 'viewBox="0 0 0 0"'): "not positive",
    svg("", 'viewBox="0 0 10"'): "four numbers",
    svg('<circle r="9" clip-path="url(#c)"/>'): "clip-path",
    svg('<style>@import url("http://127.0.0.1/x.css");</style>'): "@-rule",
    svg("<text>a large red circle</text>"): "text",
    svg("<animate/>"): "animate",
    svg("\udcff"): "no text",
}  # fmt: skip


@pytest.mark.parametrize(("drawing", "why"), UNREADABLE.items(), ids=UNREADABLE.values())
def test_what_cannot_be_read_is_zero_with_the_reason(drawing: str, why: str) -> None:
    verdicts = judge(drawing, WANTED)
    assert score(verdicts) == 0.0
    assert all(verdict.met == 0.0 and why in verdict.seen for verdict in verdicts), verdicts[0].seen


def test_verdicts_say_what_was_seen_for_each_requirement() -> None:
    verdicts = judge(svg(RED.replace("red", "green")), WANTED)
    assert [v.requirement for v in verdicts] == WANTED
    assert verdicts[0].seen == "large green circle at top-left"
    assert verdicts[0].parts == {"shape": True, "colour": False, "place": True, "size": True}
    assert verdicts[1].seen == "nothing left that could be it"
    assert verdicts[2].seen == "1 of them: large green circle at top-left"


def test_each_object_serves_one_requirement_and_the_best_assignment_counts() -> None:
    drawing = svg('<circle cx="18" cy="18" r="16" fill="red"/><circle cx="82" cy="82" r="16" fill="red"/>')
    assert total(drawing, ["a red circle", "a red circle in the top-left corner"]) == 1.0
    assert total(svg(RED), ["a red circle", "a red circle"]) == 0.5


@pytest.mark.parametrize(
    ("sentence", "kind", "found"),
    [
        ("A Large RED circle in the Top Left corner.", Kind.OBJECT, ("circle", "red", "top-left", "large")),
        ("there must be a tiny grey disc on the right-hand side", Kind.OBJECT, ("circle", "gray", "right", "small")),
        ("a middle-sized violet oval in the middle of the bottom", Kind.OBJECT, ("ellipse", "purple", "bottom", "medium")),
        ("a square", Kind.OBJECT, ("square", None, None, None)),
        ("something", None, None),
        ("exactly 3 blue triangles", Kind.COUNT, ("triangle", "blue", None, None)),
        ("only one shape", Kind.COUNT, (None, None, None, None)),
        ("no bars", Kind.COUNT, ("bar", None, None, None)),
        ("a white background", Kind.BACKGROUND, (None, "white", None, None)),
        ("a red circle and a blue square", None, None),
        ("a red circle left of the square", None, None),
        ("a red blue circle", None, None),
        ("a circle in the top bottom", None, None),
        ("Add a simple background with a clear horizon line", None, None),
        ("a shape", None, None),
        ("", None, None),
    ],
)  # fmt: skip
def test_sentences_are_understood_or_refused(sentence: str, kind: Kind | None, found: tuple[str | None, ...]) -> None:
    if kind is None:
        with pytest.raises(UnknownRequirement, match="does not understand"):
            judge(svg(RED), [sentence])
        return
    read = understand(sentence)
    assert (read.kind, (read.shape, read.colour, read.place, read.size)) == (kind, found)


def test_counts_and_backgrounds_are_checked() -> None:
    night = svg('<rect width="100" height="100" fill="navy"/>' + RED)
    assert total(night, ["a blue background", "exactly one shape", "no squares"]) == 1.0
    assert total(night, ["a white background"]) == 0.0
    assert judge(night, ["exactly two circles"])[0].met == 0.0
    assert [v.factor for v in judge(svg(RED + BLUE), ["exactly one shape", "no bars"])] == [0.5, 1.0]


@pytest.mark.parametrize(
    ("text", "name"),
    [("#f00", "red"), ("crimson", "red"), ("darkorange", "orange"), ("gold", "yellow"), ("lime", "green"), ("navy", "blue"),
     ("indigo", "purple"), ("hotpink", "pink"), ("saddlebrown", "brown"), ("#111", "black"), ("snow", "white"),
     ("silver", "gray"), ("teal", "cyan"), ("rgba(0, 0, 255, .9)", "blue"), ("rgb(100% 65% 0%)", "orange")],
)  # fmt: skip
def test_colours_have_the_names_that_people_give_them(text: str, name: str) -> None:
    read = parse(text)
    assert read is not None
    assert names(read[0])[0] == name


def test_rows_are_understood_and_disjoint() -> None:
    rows = {
        name: [json.loads(line) for line in (EXAMPLE / name).read_text().splitlines()]
        for name in ("evaluator/drawings_dataset.jsonl", "held_out.jsonl")
    }
    assert [len(part) for part in rows.values()] == [400, 320]
    scenes = []
    for part in rows.values():
        for row in part:
            info = row["input_metadata"]["dataset_info"]
            assert row["messages"] == [{"role": "user", "content": info["formatted_prompt"]}]
            kinds = [understand(sentence).kind for sentence in info["requirements"]]
            assert kinds == [Kind.OBJECT] * (len(kinds) - 1) + [Kind.COUNT]
            scenes.append(frozenset(info["requirements"]))
    assert len(set(scenes)) == len(scenes) == 720
