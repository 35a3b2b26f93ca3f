"""What the demos print and draw: intervals of scores, contact sheets."""

from __future__ import annotations

import struct

import pytest
from eval_protocol.evaluation.intervals import wilson

from scripts.contact_sheet import COLUMNS, contact_sheet, write_sheets
from scripts.held_out import interval
from tests.examples.svg import evaluator_module, pixels

RED = '```svg\n<svg viewBox="0 0 1 1"><rect width="1" height="1" fill="red"/></svg>\n```'


def test_interval_of_right_and_wrong_is_wilsons():
    assert interval([1.0] * 30 + [0.0] * 70) == wilson(30, 100)


def test_interval_of_scores_between_is_narrower_and_holds_the_mean():
    scores = [0.5, 0.7] * 50
    low, high = interval(scores)
    assert 0.578 < low < 0.6 < high < 0.622  # 1.98 standard errors of 0.01, give or take the lopsidedness


@pytest.mark.parametrize("scores", [[], [0.4], [0.4] * 50, [1.0] * 50, [0.0]])
def test_interval_without_spread_is_not_a_point(scores: list[float]):
    low, high = interval(scores)
    assert 0.0 <= low < high <= 1.0


def picture(png: bytes):
    width, height = struct.unpack(">II", png[16:24])
    return pixels(evaluator_module("render").Picture(png, width, height))


def test_a_contact_sheet_shows_every_drawing(tmp_path):
    samples = [("A red square.", RED, 1.0)] * (COLUMNS + 1)
    before, after = write_sheets(tmp_path, [("A <red> & square.", "no drawing", 0.0)] * (COLUMNS + 1), samples)
    red = [sum(pixel == (255, 0, 0) for row in picture(path.read_bytes()) for pixel in row) for path in (before, after)]
    assert red[0] == 0
    assert red[1] >= (COLUMNS + 1) * 120 * 120
    assert contact_sheet(samples, "After") == after.read_bytes()
