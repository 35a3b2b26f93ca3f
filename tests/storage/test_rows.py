"""Every broken dataset is refused with its line; good rows pass byte for byte."""

from __future__ import annotations

import hashlib
import io

import pytest
from tunesmith.errors import InvalidArgument
from tunesmith.storage import rows
from tunesmith.storage.rows import check_rows, read_lines

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
