"""Facts about a dataset, told and never raised: counts, tokens, repeats, leaks, what is wrong on which line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tunesmith.agent import rows as reading
from tunesmith.agent import tokens as counting
from tunesmith.agent.answers import AnswerKind
from tunesmith.agent.conversions import ConversionName
from tunesmith.agent.inspection import Inspection, inspect
from tunesmith.agent.plan import Method
from tunesmith.agent.rows import RowFormat
from tunesmith.agent.tokens import TokenCounter
from tunesmith.errors import InvalidArgument
from tunesmith.rendering import Renderer

from tests.agent.datasets import Row, calling, row
from tests.fakes.model_folder import make_model_folder

MODEL = "accounts/local/models/m"


@pytest.fixture(scope="module")
def renderer(tmp_path_factory: pytest.TempPathFactory) -> Renderer:
    return Renderer.load(make_model_folder(tmp_path_factory.mktemp("m") / "m", context_length=60), MODEL)


def pair(prompt: object, better: str, worse: str, **more: Any) -> Row:
    outputs = [[{"role": "assistant", "content": text}] for text in (better, worse)]
    asked = {"messages": [{"role": "user", "content": f"{prompt}"}]}
    return {"input": asked, "preferred_output": outputs[0], "non_preferred_output": outputs[1], **more}


def test_tokens_are_those_of_the_models_own_template(renderer: Renderer) -> None:
    found = inspect([row("ab", "cde"), row("", "x" * 100)], {MODEL: renderer}).tokens[MODEL]
    # <s> "[user]\n" ab </s> "\n" "[assistant]\n" cde </s>: a token a byte, the answer and its end are trained
    short, start = 1 + 7 + 2 + 1 + 1 + 12 + 3 + 1, 1 + 7 + 1 + 1 + 12
    assert (found.total, found.trained) == (short + 60, 4 + 60 - start)
    assert (found.longest, found.over_context, found.context_length) == (start + 101, 1, 60)
    assert (found.p50, found.p95, found.mean) == (start + 101, start + 101, (short + 60) / 2)
    assert not found.is_estimate


def test_rows_are_cut_where_the_plan_says(renderer: Renderer) -> None:
    found = inspect([row("ab", "cde")], {MODEL: renderer}, max_context_length=26).tokens[MODEL]
    assert (found.total, found.trained, found.over_context, found.context_length) == (26, 2, 1, 26)
    with pytest.raises(InvalidArgument, match="max context length is 61"):
        TokenCounter(renderer, 61)


def test_pairs_and_prompts_have_tokens_too(renderer: Renderer) -> None:
    found = inspect([pair("a", "bc", "d")], {MODEL: renderer})
    assert (found.format, found.method, found.tokens[MODEL].trained) == (RowFormat.PAIRS, Method.DPO, 3 + 2)
    found = inspect([row("a")], {MODEL: renderer})
    assert (found.format, found.method, found.tokens[MODEL].trained) == (RowFormat.PROMPTS, None, 0)
    assert found.tokens[MODEL].total == len(renderer.render([{"role": "user", "content": "a"}]))


def test_large_datasets_are_counted_by_a_sample(renderer: Renderer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "TOKENS_COUNTED", 200)
    rows = [row(f"{i:04}", "abc"[: i % 3 + 1]) for i in range(1200)]
    whole, sampled = ([], [])
    for into in (whole, sampled):
        found = inspect(rows, {MODEL: renderer}).tokens[MODEL]
        into.append(found)
        monkeypatch.setattr(counting, "TOKENS_COUNTED", 10_000)
    assert (whole[0].is_estimate, sampled[0].is_estimate) == (True, False)
    assert abs(whole[0].total / sampled[0].total - 1) < 0.02
    assert abs(whole[0].trained / sampled[0].trained - 1) < 0.1


def test_a_sample_is_the_same_in_any_order_and_whole_while_it_fits() -> None:
    def sampled(keys: list[int]) -> set[int]:
        sample: reading.Sample[int] = reading.Sample(50)
        for key in keys:
            if sample.wants(key):
                sample.add(key, key)
        assert sample.seen == len(keys)
        return set(sample.items)

    keys = [reading.prompt_key(row(i)) for i in range(500)]
    assert sampled(keys) == sampled(keys[::-1])
    assert 10 <= len(sampled(keys)) <= 50
    assert sampled(keys[:50]) == set(keys[:50])


def test_what_rows_hold_is_counted() -> None:
    system = {"role": "system", "content": "s"}
    thinking = {"role": "assistant", "content": "a", "reasoning_content": "r", "weight": 0}
    rows = [
        {"messages": [system, {"role": "user", "content": "u"}, thinking, {"role": "user", "content": "v"}, thinking]},
        calling(1, "f", "{}"),
        row(2, "x", weight=0.5),
    ]
    found = inspect(rows)
    assert found.roles == {"user": 4, "assistant": 4, "system": 1}
    assert (round(found.turns_mean, 3), found.turns_most) == (1.333, 2)
    assert [found.with_system, found.with_tools, found.with_tool_calls, found.with_reasoning] == [1, 1, 1, 1]
    assert (found.with_message_weights, found.with_row_weight) == (1, 1)
    assert "A weight of the row must be on all rows or on none." in found.warnings


def test_repeats_empty_answers_and_leaks_are_told_with_their_lines() -> None:
    rows = [row(f"q{i}", f"{i}") for i in range(10)]
    rows += [rows[0], dict(reversed(rows[1].items())), row("Q2 ", "another"), row("q11", "  ")]
    held_out = [row("q3"), row("new"), {"prompt": "q4", "completion": "x"}]
    found = inspect(rows, evaluation_rows=held_out)
    assert (found.duplicates.rows, found.duplicates.lines) == (2, [11, 12])
    assert (found.repeated_prompts.rows, found.repeated_prompts.lines) == (3, [11, 12, 13])
    assert (found.empty_answers.rows, found.empty_answers.lines) == (1, [14])
    assert (found.leaks.rows, found.leaks.lines, found.evaluation_rows) == (2, [1, 3], 3)
    text = found.summary()
    assert "Warning: 2 rows are the same as an earlier row (lines 11, 12)." in text
    assert "Warning: 1 row asks what an earlier row asks, with another answer." in text
    assert "Warning: 1 row is without an answer: the last assistant turn is empty (line 14)." in text
    assert "2 of 3 rows of the evaluation dataset ask what a training row asks (lines 1, 3)" in text


def test_bad_rows_are_left_out_with_their_lines_and_reasons(renderer: Renderer) -> None:
    picture = [{"type": "image_url", "image_url": {"url": "data:"}}]
    rows = [
        row(1, "a"),
        {"nothing": 1},
        {"messages": [{"role": "user", "content": picture}, {"role": "assistant", "content": "a"}]},
        {"messages": [{"role": "critic", "content": "x"}, {"role": "assistant", "content": "a"}]},
        row(2, "b"),
    ]
    found = inspect(rows, {MODEL: renderer})
    assert (found.format, found.usable_rows) == (RowFormat.CHAT, 2)
    assert [bad.line for bad in found.bad_rows] == [2, 3, 4]
    assert "neither messages" in found.bad_rows[0].reason
    assert "image_url" in found.bad_rows[1].reason
    assert "critic" in found.bad_rows[2].reason
    assert "3 rows cannot be used and will be left out: line 2" in found.warnings[0]


def test_equal_answers_make_no_pair() -> None:
    found = inspect([pair(1, "a", "b"), pair(2, "a", "a"), {**pair(3, "a", "b"), "preferred_output": []}])
    assert [(bad.line, bad.reason.split(" must")[0]) for bad in found.bad_rows] == [
        (2, "preferred_output and non_preferred_output are the same answer"),
        (3, "preferred_output and non_preferred_output"),
    ]


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([], "the dataset has no rows"),
        ([row(1, "a"), row(2)], "several formats: 1 chat, 1 prompts"),
        ([row(1, "a"), pair(2, "a", "b")], "several formats: 1 chat, 1 preference pairs"),
        ([{"x": 1}, {"x": 2}], "2 of 2 rows cannot be used (line 1: it has neither messages"),
    ],
)
def test_an_unknown_format_says_why(rows: list[Row], reason: str) -> None:
    found = inspect(rows)
    assert (found.format, found.method) == (RowFormat.UNKNOWN, None)
    assert reason in found.reason
    assert reason in found.summary()


def test_facts_are_about_rows_as_they_will_be_trained(renderer: Renderer) -> None:
    rows = [row(i, ground_truth=["no", "yes"][i % 2]) for i in range(40)]
    found = inspect(rows, {MODEL: renderer})
    assert (found.format, found.method) == (RowFormat.PROMPTS_WITH_ANSWER, Method.SFT)
    assert [(each.name, each.rows) for each in found.conversions] == [(ConversionName.GROUND_TRUTH, 40)]
    assert found.roles == {"user": 40, "assistant": 40}
    assert found.tokens[MODEL].trained == 20 * len("no") + 20 * len("yes") + 40
    assert found.labels is not None
    assert found.labels.counts == {"no": 20, "yes": 20}
    assert found.answers.kind is AnswerKind.LABEL
    assert found.warnings == []
    assert rows[0] == row(0, ground_truth="no"), "nothing of the user's is changed"


def test_labels_are_those_of_all_rows_however_many() -> None:
    rows = [row(i, f"<answer>{'seldom' if i == 77 else 'ab'[i % 2]}</answer>") for i in range(6000)]
    found = inspect(rows)
    assert found.answers.rows < len(rows)
    assert found.answers.labels == ["a", "b", "seldom"]
    assert found.labels is not None
    assert found.labels.counts == {"a": 3000, "b": 2999, "seldom": 1}


def test_imbalanced_labels_are_flagged() -> None:
    found = inspect([row(i, "often" if i % 60 else "rare") for i in range(120)])
    assert found.labels is not None
    assert found.labels.is_imbalanced
    assert "The commonest label is 59 times as frequent as the rarest" in found.warnings[-1]


def test_an_inspection_is_json_and_back(renderer: Renderer) -> None:
    path = Path(__file__).parents[2] / "examples" / "gsm8k" / "gsm8k_sample.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()[:50]]
    found = inspect(rows, {MODEL: renderer})
    assert Inspection.model_validate(json.loads(json.dumps(found.dump()))) == found
    assert found.summary().splitlines()[0] == "50 rows: conversations with assistant turns."
    assert "100% of the answers are numbers in <answer> tags." in found.summary()
