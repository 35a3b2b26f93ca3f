"""The renderer of the SVG example: pixels of ordinary drawings, and what hostile ones come to."""

from __future__ import annotations

import os
import signal
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.examples.svg import evaluator_module, pixels

render = evaluator_module("render")
chromium = evaluator_module("chromium")
BadDrawing = evaluator_module("guard").BadDrawing
CIRCLE = '<svg viewBox="0 0 100 100"><circle cx="50" cy="50" r="40" fill="red"/></svg>'


@pytest.fixture(scope="module")
def resvg() -> Iterator[Any]:
    renderer = render.Resvg(render.Limits(seconds=5.0, longest_side=64))
    yield renderer
    renderer.close()


def test_pixels_of_a_circle(resvg: Any):
    picture = resvg.render(CIRCLE)
    rows = pixels(picture)
    assert (picture.width, picture.height) == (64, 64)
    assert rows[32][32] == (255, 0, 0)
    assert rows[0][0] == (255, 255, 255)


@pytest.mark.parametrize(
    ("attributes", "size"),
    [
        ('viewBox="0 0 100 50"', (64, 32)),
        ('viewBox="0 0 100 50" width="400"', (64, 32)),
        ('viewBox="0 0 100 50" height="10cm"', (64, 32)),
        ('width="30" height="60px"', (32, 64)),
        ('viewBox="0 0 100 100" width="100%" height="100%"', (64, 64)),
        ('viewBox="0,0,100000,100000"', (64, 64)),
        ("", (64, 32)),
        ('width="4096" height="1"', (64, 1)),
    ],
)
def test_sizes(resvg: Any, attributes: str, size: tuple[int, int]):
    picture = resvg.render(f"<svg {attributes}><rect width='10' height='10'/></svg>")
    assert (picture.width, picture.height) == size
    pixels(picture)


@pytest.mark.parametrize(
    "svg",
    [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><rect width="9" height="9" fill="#00f"/></svg>',
        "<svg viewBox='0 0 9 9'\n  data-note='a > b &amp; c'><rect width='9' height='9' fill='blue'/></svg>",
        '<svg viewBox="0 0 9 9"><defs><rect id="a" width="9" height="9"/></defs><use xlink:href="#a" fill="blue"/></svg>',
        '<svg viewBox="0 0 9 9"><style>rect{fill:url(#g)}</style><linearGradient id="g"><stop stop-color="blue"/>'
        '</linearGradient><a href="https://example.com"><rect width="9" height="9"/></a></svg>',
    ],
)  # fmt: skip
def test_ordinary_ways_to_write_the_same(resvg: Any, svg: str):
    rows = pixels(resvg.render(svg))
    assert {pixel for row in rows for pixel in row} == {(0, 0, 255)}


def test_text_is_set_in_the_shipped_font_whatever_the_drawing_asks_for(resvg: Any):
    pictures = {
        resvg.render(
            f'<svg viewBox="0 0 60 20"><text x="2" y="15" font-size="15" font-family="{family}">Text</text></svg>'
        ).png
        for family in ("serif", "Comic Sans MS", "DejaVu Sans", "Lato")
    }
    assert len(pictures) == 1
    assert any(pixel != (255, 255, 255) for row in pixels(render.Picture(*_sized(pictures.pop()))) for pixel in row)


def _sized(png: bytes) -> tuple[bytes, int, int]:
    return png, *struct.unpack(">II", png[16:24])


def nested(depth: int) -> str:
    return "<svg>" + "<g>" * depth + "<rect width='5' height='5'/>" + "</g>" * depth + "</svg>"


def uses(levels: int) -> str:
    groups = "".join(f'<g id="l{level}">' + f'<use href="#l{level - 1}"/>' * 10 + "</g>" for level in range(1, levels))
    return f'<svg viewBox="0 0 9 9"><defs><rect id="l0" width="1" height="1"/>{groups}</defs><use href="#l{levels - 1}"/></svg>'


XXE = '<!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]><svg viewBox="0 0 9 9"><text>&x;</text></svg>'
LAUGHS = '<!DOCTYPE svg [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><svg viewBox="0 0 9 9"><text>&b;</text></svg>'
HOSTILE = {
    "depth bomb": (nested(300), "128 deep"),
    "very deep": (nested(20_000), "128 deep"),
    "entity bomb": (LAUGHS, "document type"),
    "external entity": (XXE, "document type"),
    "undeclared entity": ("<svg viewBox='0 0 9 9'><text>&nbsp;</text></svg>", "not well-formed"),
    "use bomb": (uses(9), "resvg cannot render|not rendered within|ended the renderer"),
    "file by path": ('<svg><image href="/etc/hostname" width="9" height="9"/></svg>', "refers to '/etc/hostname'"),
    "file by URL": ('<svg><image xlink:href="file:///etc/passwd" width="9" height="9"/></svg>', "refers to 'file:"),
    "relative file": ('<svg><use href="other.svg#a"/></svg>', "refers to 'other.svg#a'"),
    "network": ('<svg><image href=" http://127.0.0.1:1/a.png" width="9" height="9"/></svg>', "refers to 'http:"),
    "nested SVG picture": ('<svg><image href="data:image/svg+xml,%3Csvg/%3E"/></svg>', "refers to 'data:image/svg"),
    "filter picture": ('<svg><filter id="f"><feImage href="/etc/hostname"/></filter></svg>', "refers to"),
    "css reference": ('<svg><rect style="fill:url(http://127.0.0.1/x#g)"/></svg>', "refers to 'http:"),
    "css import": ("<svg><style>@import 'a.css';</style></svg>", "@import"),
    "css in pieces": ("<svg><style>rect{fill:u<![CDATA[rl(http://a/b)]]>}</style></svg>", "refers to 'http:"),
    "stylesheet": ("<?xml-stylesheet href='a.css'?><svg/>", "processing instruction"),
    "huge width": ('<svg width="200000" height="10"/>', "200000 pixels"),
    "huge height in cm": ('<svg width="10" height="9000cm"/>', "pixels; at most 4096"),
    "no number": ('<svg width="NaN" height="10"/>', "'NaN'"),
    "infinite": ('<svg width="1e999" height="10"/>', "1e999"),
    "negative": ('<svg width="-5" height="10"/>', "must be above 0"),
    "viewBox of nothing": ('<svg viewBox="0 0 0 0"/>', "viewBox"),
    "viewBox of words": ('<svg viewBox="nan nan nan nan"/>', "viewBox"),
    "300,000 circles": ("<svg>" + '<circle r="1"/>' * 300_000 + "</svg>", "bytes; at most 262,144"),
    "broken XML": ("<svg><g></svg>", "not well-formed"),
    "cut off": ("<svg viewBox='0 0 9 9'><rect", "not well-formed"),
    "not a drawing": ("<html><svg/></html>", "outermost element is <html>"),
    "null byte": ("<svg>\0</svg>", "not well-formed"),
    "lone surrogate": ("<svg><text>\ud800</text></svg>", "not well-formed"),
    "undeclared prefix": ('<svg><foo:bar foo:baz="1"/></svg>', "resvg cannot render"),
    "empty": ("", "not well-formed"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_drawings_are_refused_with_the_reason(resvg: Any, name: str):
    svg, reason = HOSTILE[name]
    with pytest.raises(BadDrawing, match=reason):
        resvg.render(svg)
    assert pixels(resvg.render(CIRCLE))[32][32] == (255, 0, 0)


@pytest.mark.parametrize(
    "svg",
    [
        "<svg viewBox='0 0 9 9'>" + "<circle r='1' cx='4' cy='4'/>" * 8_000 + "</svg>",
        '<svg viewBox="0 0 9 9"><filter id="f" x="-1e9" y="-1e9" width="1e10" height="1e10">'
        '<feTurbulence numOctaves="100000000"/><feGaussianBlur stdDeviation="1e9"/></filter>'
        '<rect width="9" height="9" filter="url(#f)"/></svg>',
        '<svg viewBox="0 0 9 9"><pattern id="p" width="1e-9" height="1e-9" patternUnits="userSpaceOnUse"><rect width="1"'
        ' height="1"/></pattern><rect width="9" height="9" fill="url(#p)"/></svg>',
        '<svg viewBox="0 0 9 9"><path d="M0 0H9" stroke="red" stroke-dasharray="1e-7"/></svg>',
        '<svg viewBox="0 0 9 9"><g id="a"><use href="#a"/></g></svg>',
        '<svg viewBox="0 0 9 9"><clipPath id="a" clip-path="url(#a)"><rect width="9" height="9"/></clipPath></svg>',
        '<svg viewBox="0 0 1e300 1e300"><circle r="1e308"/></svg>',
        f'<svg viewBox="0 0 9 9"><path d="M0 0{"l1e30 -1e30" * 10_000}z"/></svg>',
        f'<svg viewBox="0 0 9 9"><image width="9" height="9" href="data:image/png;base64,{"A" * 1000}"/></svg>',
    ],
)  # fmt: skip
def test_costly_drawings_end_as_a_picture_or_a_reason(resvg: Any, svg: str):
    """Which of the two is the renderer's affair; that the next drawing is rendered is ours."""
    with suppress(BadDrawing):
        pixels(resvg.render(svg))
    assert pixels(resvg.render(CIRCLE))[32][32] == (255, 0, 0)


def test_a_child_that_died_meanwhile_is_replaced():
    renderer = render.Resvg(render.Limits(seconds=5.0, longest_side=8), processes=1)
    try:
        renderer.render(CIRCLE)
        child = renderer._idle.get()
        child._process.kill()
        child._process.wait()
        renderer._idle.put(child)
        assert renderer.render(CIRCLE).width == 8
    finally:
        renderer.close()


def test_a_child_that_hangs_is_ended_in_time():
    renderer = render.Resvg(render.Limits(seconds=0.5, longest_side=8), processes=1)
    try:
        renderer._idle.get()
        child = render._Child(renderer._limits)
        os.kill(child._process.pid, signal.SIGSTOP)
        renderer._idle.put(child)
        with pytest.raises(BadDrawing, match=r"within 0\.5 s"):
            renderer.render(CIRCLE)
        assert child._process.poll() is not None
    finally:
        renderer.close()


def test_a_drawing_that_crashes_the_child_is_a_reason():
    """Half a gigabyte of pixels is more than this child may have, and resvg then ends its process."""
    renderer = render.Resvg(render.Limits(seconds=20.0, memory_bytes=256 << 20, longest_side=12_000), processes=1)
    try:
        with pytest.raises(BadDrawing, match="ended the renderer's process .status -6"):
            renderer.render(CIRCLE)
        assert renderer.render('<svg width="4000" height="1"/>').height == 3
    finally:
        renderer.close()


def test_many_threads_share_the_children(resvg: Any):
    names = {thread.name for thread in threading.enumerate()}
    with ThreadPoolExecutor(8) as threads:
        colours = ["#ff0000", "#00ff00", "#0000ff", "#123456"] * 6
        drawn = threads.map(lambda c: resvg.render(CIRCLE.replace("red", c)), colours)
        for colour, picture in zip(colours, drawn, strict=True):
            assert pixels(picture)[32][32] == tuple(bytes.fromhex(colour[1:]))
    assert {thread.name for thread in threading.enumerate()} == names


def test_an_unknown_renderer_is_an_error():
    with pytest.raises(render.RendererUnavailable, match="cairo"):
        render.make_renderer({"SVG_RENDERER": "cairo"})


@pytest.mark.skipif(chromium.find() is None, reason="no Chromium on this machine")
def test_chromium_draws_the_same():
    renderer = render.make_renderer({"SVG_RENDERER": "chromium"}, render.Limits(longest_side=100))
    picture = renderer.render(
        '<svg viewBox="0 0 100 60"><script>document.title</script><rect width="50" height="60"/></svg>'
    )
    rows = pixels(picture)
    assert (picture.width, picture.height) == (100, 60)
    assert rows[59][10] == (0, 0, 0)
    assert rows[59][90] == (255, 255, 255)
    with pytest.raises(BadDrawing, match="refers to"):
        renderer.render('<svg><image href="file:///etc/hostname"/></svg>')


def test_the_folder_of_fonts_holds_their_licence():
    folder = Path(render.FONTS[0]).parent
    assert "SIL Open Font License" in (folder / "OFL.txt").read_text()
