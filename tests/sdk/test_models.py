"""Rows, messages, scores and statuses as they are written and read."""

from __future__ import annotations

import subprocess
import sys

import pytest
from eval_protocol.models import EvaluateResult, EvaluationRow, Message, MetricResult, Status, TerminationReason
from eval_protocol.models.ids import new_id


def test_a_row_keeps_what_it_does_not_know():
    row = EvaluationRow.model_validate(
        {
            "messages": [{"role": "user", "content": "q", "cache_control": {"type": "ephemeral"}}],
            "difficulty": 3,
            "input_metadata": {"source": "x"},
        }
    )
    again = EvaluationRow.model_validate_json(row.model_dump_json(exclude_none=True))
    dumped = again.model_dump(exclude_none=True)
    assert dumped["difficulty"] == 3
    assert dumped["input_metadata"]["source"] == "x"
    assert dumped["messages"][0]["cache_control"] == {"type": "ephemeral"}


def test_content_parts_survive_and_only_text_is_text():
    parts = [
        {"type": "text", "text": "look: "},
        {"type": "image_url", "image_url": {"url": "data:,x"}},
        {"type": "input_audio", "input_audio": {"data": "y"}},
    ]
    message = Message.model_validate({"role": "user", "content": parts})
    assert message.text == "look: "
    assert message.dump_model_for_chat_completion_request()["content"] == parts


def test_a_request_has_openai_fields_only_and_no_nulls():
    message = Message.model_validate(
        {
            "role": "assistant",
            "content": None,
            "reasoning_content": "hm",
            "weight": 0,
            "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}],
        }
    )
    request = message.dump_mdoel_for_chat_completion_request()
    assert set(request) == {"role", "content", "tool_calls"}
    assert request["content"] is None
    assert request["tool_calls"][0]["id"]


def test_the_row_id_depends_on_what_is_asked_and_on_nothing_else():
    def row(text: str = "q") -> EvaluationRow:
        return EvaluationRow(messages=[Message(role="user", content=text)], ground_truth="4")

    first, second = row(), row()
    second.execution_metadata.rollout_id = "r"
    second.input_metadata.completion_params = {"model": "m"}
    second.evaluation_result = EvaluateResult(score=1)
    assert first.ensure_row_id() == second.ensure_row_id() != row("other").ensure_row_id()
    assert hash(first) == hash(row())
    code = (
        "from eval_protocol.models import *; "
        "print(EvaluationRow(messages=[Message(role='user', content='q')], ground_truth='4').stable_id())"
    )
    other_process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other_process.stdout.strip() == first.input_metadata.row_id


def test_an_own_row_id_is_kept():
    assert EvaluationRow.model_validate({"input_metadata": {"row_id": "mine"}}).ensure_row_id() == "mine"


def test_trailing_assistant_turns_are_dropped_and_only_those():
    row = EvaluationRow(
        messages=[Message(role=role) for role in ("user", "assistant", "user", "assistant", "assistant")]
    )
    row.drop_trailing_assistant_messages()
    assert [message.role for message in row.messages] == ["user", "assistant", "user"]


def test_status_details_follow_aip_193():
    status = Status.rollout_finished("length", {"steps": 3})
    wire = Status.model_validate_json(status.model_dump_json())
    assert wire.code == Status.Code.FINISHED == 100
    assert wire.is_finished()
    assert wire.get_termination_reason() is TerminationReason.LENGTH
    assert wire.get_extra_info() == {"steps": 3}
    assert wire.details[0] == {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "TERMINATION_REASON",
        "domain": "evalprotocol.io",
        "metadata": {"termination_reason": "length"},
    }


@pytest.mark.parametrize("code", [1, 2, 4, 5, 7, 8, 10, 13, 14, 16, 103])
def test_every_error_code_is_an_error(code: int):
    status = Status.of(code, "m")
    assert status.is_error()
    assert not status.is_finished()
    assert status.is_stopped() == (code in (1, 10))


@pytest.mark.parametrize("code", [0, 100, 101, 102])
def test_the_others_are_none(code: int):
    assert not Status.of(code).is_error()


def test_named_constructors_make_their_code():
    assert Status.rollout_not_found_error("gone").code == 5
    assert Status.unavailable_error("x", {"a": 1}).get_extra_info() == {"a": 1}
    assert Status.rollout_error("boom").code == 13
    assert Status.cancelled().code == 1


def test_scores_read_like_dicts():
    result = EvaluateResult(score=0.5, reason="r", metrics={"m": MetricResult(score=1, reason="x")})
    assert result["score"] == 0.5
    assert "reason" in result
    assert result.get("nothing", 7) == 7
    assert dict(result.items())["metrics"]["m"]["reason"] == "x"
    with pytest.raises(KeyError):
        result["nothing"]


def test_data_frame_records_go_both_ways():
    row = EvaluationRow(messages=[Message(role="user", content="q")], evaluation_result=EvaluateResult(score=1))
    record = row.to_dict()
    assert record["score"] == 1
    assert EvaluationRow.from_dict(record) == row


def test_ids_are_safe_in_paths_and_differ():
    ids = {new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(set(identifier) <= set("abcdefghijklmnopqrstuvwxyz-0123456789") for identifier in ids)
