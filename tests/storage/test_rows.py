"""Every broken dataset is refused with its line; good rows pass byte for byte."""

from __future__ import annotations

import hashlib
import io
import json

import pytest
from tunesmith.errors import InvalidArgument
from tunesmith.storage import rows
from tunesmith.storage.rows import RowKind, check_rows, read_lines

GOOD = b'{"messages": [{"role": "user", "content": "2+2?"}], "ground_truth": "4"}'


def _check(data: bytes):
    target = io.BytesIO()
    return check_rows(read_lines(io.BytesIO(data)), target), target.getvalue()


def test_good_rows_are_kept_and_counted():
    tools = b'{"messages": [{"role": "assistant", "content": null, "tool_calls": []}, {"role": "user", "content": [{"type": "text"}]}]}'
    checked, kept = _check(b"\xef\xbb\xbf" + GOOD + b"\r\n\n   \n" + tools)
    assert kept == GOOD + b"\n" + tools + b"\n"
    assert (checked.rows, checked.bytes) == (2, len(kept))
    assert checked.sha256 == hashlib.sha256(kept).hexdigest()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"messages": [', "Dataset validation failed: invalid JSON on line 42"),
        (b'{"messages": [{"role": "user", "content": "\xff"}]}', "invalid JSON on line 42 .not UTF-8"),
        (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', "invalid JSON on line 42 .not UTF-8"),
        (b'{"messages": ' + b"[" * 100_000, "invalid JSON on line 42"),
        (b'{"messages": [{"role": "user", "content": "x"}], "score": NaN}', "line 42 .NaN is not JSON"),
        (b'{"messages": [{"role": "user", "content": "x"}], "n": ' + b"1" * 5000 + b"}", "invalid JSON on line 42"),
        (b'["messages"]', "line 42 is not a JSON object but list"),
        (b'{"prompt": "x"}', "Missing required field 'messages' on line 42"),
        (b'{"messages": []}', "'messages' on line 42 must be a list"),
        (b'{"messages": "hello"}', "'messages' on line 42 must be a list"),
        (b'{"messages": [{"content": "x"}]}', "message 0 on line 42 has no 'role'"),
        (b'{"messages": ["x"]}', "message 0 on line 42 has no 'role'"),
        (b'{"messages": [{"role": "user"}]}', "message 0 on line 42 has no 'content'"),
        (b'{"messages": [{"role": "user", "content": 3}]}', "'content' of message 0 on line 42"),
    ],
)
def test_the_first_wrong_line_is_named(line: bytes, message: str):
    with pytest.raises(InvalidArgument, match=message):
        _check((GOOD + b"\n") * 41 + line + b"\n" + b"also wrong\n")


@pytest.mark.parametrize("data", [b"", b"\n\n  \n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_refused(data: bytes):
    with pytest.raises(InvalidArgument, match="the file is empty"):
        _check(data)


def test_a_line_without_end_is_not_read_into_memory(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rows, "MAX_ROW_BYTES", 1000)
    with pytest.raises(InvalidArgument, match="line 2 is longer than 1000 bytes"):
        _check(GOOD + b"\n" + b"[" * 10_000)


PAIR = {
    "input": {"messages": [{"role": "user", "content": "2+2?"}], "tools": []},
    "preferred_output": [{"role": "assistant", "content": "4"}],
    "non_preferred_output": [{"role": "assistant", "content": "5"}],
}


def _pair(**changes: object) -> bytes:
    row = {**PAIR, **changes}
    return json.dumps({name: value for name, value in row.items() if value is not None}).encode()


def test_preference_rows_are_known_as_such():
    checked, kept = _check(_pair() + b"\n" + _pair())
    assert (checked.rows, checked.kind, checked.unanswered) == (2, RowKind.PREFERENCES, None)
    assert kept.count(b"\n") == 2


def test_the_first_conversation_without_an_answer_is_named():
    answered = b'{"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}'
    assert _check(answered)[0].unanswered is None
    checked, _ = _check(answered + b"\n\n" + GOOD + b"\n" + GOOD)
    assert (checked.kind, checked.unanswered) == (RowKind.MESSAGES, 2)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (_pair(input=None), "Missing required field 'input' on line 2"),
        (_pair(input={"messages": []}), "'input.messages' on line 2 must be a list"),
        (
            _pair(input={"messages": [{"role": "assistant", "content": "x"}]}),
            "'input.messages' on line 2 ends with the",
        ),
        (_pair(preferred_output=None), "Missing required field 'preferred_output' on line 2"),
        (_pair(non_preferred_output=None), "Missing required field 'non_preferred_output' on line 2"),
        (_pair(preferred_output="4"), "'preferred_output' on line 2 must be a list"),
        (
            _pair(preferred_output=[{"role": "user", "content": "4"}]),
            "'preferred_output' on line 2 must be a list of one",
        ),
        (
            _pair(non_preferred_output=PAIR["non_preferred_output"] * 2),
            "'non_preferred_output' on line 2 must be a list",
        ),
        (b'{"prompt": "x"}', "Missing required field 'preferred_output' on line 2"),
        (GOOD, "line 2 is a conversation .'messages'., but the lines before it are each a preference"),
    ],
)
def test_a_broken_preference_is_named(line: bytes, message: str):
    with pytest.raises(InvalidArgument, match=f"Dataset validation failed: {message}"):
        _check(_pair() + b"\n" + line)


def test_preferences_among_conversations_are_refused():
    with pytest.raises(
        InvalidArgument, match="line 2 is a preference, but the lines before it are each a conversation"
    ):
        _check(GOOD + b"\n" + _pair())
