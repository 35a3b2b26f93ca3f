"""What is seen of passed-through bytes on their way: the end of a stream, the usage, and what is no answer."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from tunesmith.db.answers import read_answer
from tunesmith.gateway.watch import Stream, UpstreamFailed, usage_of_whole

from tests.fakes import upstream

STREAMS = {"chat": upstream._chat, "responses": upstream._responses, "messages": upstream._messages}
END = {
    "chat": b'"finish_reason": "tool_calls"',
    "responses": b'"type": "response.completed"',
    "messages": b'"stop_reason": "tool_use"',
}
USAGE = {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14}


def fed(stream: Stream, pieces: list[bytes]) -> bytes:
    """What a client has before the record is committed."""
    return b"".join([stream.feed(piece) for piece in pieces]) + stream.close()


def cut(data: bytes, at: list[int]) -> list[bytes]:
    places = [0, *sorted(at), len(data)]
    return [data[start:end] for start, end in zip(places, places[1:], strict=False) if end > start]


def chunk(index: int = 0, finish: str | None = None, **delta: Any) -> bytes:
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    return b"data: " + json.dumps({"id": "up", "choices": [choice]}).encode() + b"\n\n"


@pytest.mark.parametrize("dialect", STREAMS)
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("usage", [True, False])
def test_however_a_stream_is_cut_its_end_is_held_back(dialect: str, line_end: bytes, usage: bool) -> None:
    data = b"".join(STREAMS[dialect](usage)).replace(b"\r\n", b"\n").replace(b"\n", line_end)
    expected = read_answer(dialect, True, data)
    draw = random.Random(7)
    cuts = [[], list(range(len(data))), list(range(0, len(data), 11))]
    cuts += [[draw.randrange(len(data)) for _ in range(draw.randrange(1, 9))] for _ in range(200)]
    for at in cuts:
        stream = Stream(dialect)
        before = fed(stream, cut(data, at))
        assert stream.ended
        assert before + stream.held == data
        assert END[dialect] not in before
        assert b"there" in before
        assert b"".join(stream.parts) == data
        given = stream.usage()
        assert (given is None) == (not usage)
        assert given is None or {name: given[name] for name in USAGE} == USAGE
        assert vars(read_answer(dialect, True, b"".join(stream.parts))) == vars(expected)


def test_what_only_looks_like_an_end_is_none() -> None:
    texts = ['"finish_reason":"stop"', "\ndata: [DONE]\n\n", '{"type":"response.completed"}']
    stream = Stream("chat")
    begin = b"".join(
        [chunk(content=text) for text in texts] + [chunk(finish="", content="x", function={"finish_reason": "stop"})]
    )
    assert stream.feed(begin) == begin
    assert not stream.ended
    end = chunk(finish="stop")
    assert stream.feed(end + b"data: [DONE]\n\n") == b""
    assert stream.ended
    assert stream.held == end + b"data: [DONE]\n\n"


def test_a_stream_of_several_candidates_ends_with_the_last_of_them() -> None:
    stream = Stream("chat", candidates=2)
    first = chunk(0, content="a") + chunk(0, "stop") + chunk(0, "stop") + chunk(1, content="b")
    assert stream.feed(first) == first
    assert not stream.ended
    assert stream.feed(chunk(1, "length")) == b""
    assert stream.ended


@pytest.mark.parametrize("end", [b"data: [DONE]\n\n", b"data:[DONE]", b"data: [DONE]\r\n\r\n"])
def test_done_ends_a_stream_that_gave_no_reason(end: bytes) -> None:
    stream = Stream("chat")
    assert fed(stream, [chunk(content="a"), end]) == chunk(content="a")
    assert stream.ended
    assert stream.held == end


@pytest.mark.parametrize("bad", [b"{not json", b"text", b'{"choices":[{"finish_reason":7}]}x'])
@pytest.mark.parametrize("split", [True, False])
def test_an_event_that_is_none_is_refused(bad: bytes, split: bool) -> None:
    stream = Stream("chat")
    event = b"data: " + bad + b"\n\n"
    if split:
        assert stream.feed(chunk(content="a")) == chunk(content="a")
    with pytest.raises(UpstreamFailed, match="cannot be read"):
        stream.feed(event if split else chunk(content="a") + event)
    assert read_answer("chat", True, b"".join(stream.parts)).candidate().content == "a"


def test_a_stream_without_an_end_has_not_ended() -> None:
    stream = Stream("messages")
    events = upstream._messages(True)[:-2]
    assert fed(stream, [*events, b"data: {half"]) == b"".join(events) + b"data: {half"
    assert not stream.ended


@pytest.mark.parametrize("dialect", STREAMS)
@pytest.mark.parametrize("indent", [None, 2])
def test_the_usage_of_a_whole_answer_is_found_at_its_end(dialect: str, indent: int | None) -> None:
    whole = upstream.WHOLE["completions" if dialect == "chat" else dialect]
    found = usage_of_whole(dialect, json.dumps(whole, indent=indent).encode())
    assert found is not None
    assert {name: found[name] for name in USAGE} == USAGE
    assert found == usage_of_whole(dialect, json.dumps({**whole, "service_tier": {"a": [1]}}).encode())


@pytest.mark.parametrize(
    "body",
    [
        {"content": [{"type": "tool_use", "input": {"usage": {"input_tokens": 5}}}]},
        {"content": [{"type": "tool_use", "input": {"usage": {"input_tokens": 5}}}], "stop_reason": "end_turn"},
        {"content": [{"type": "text", "text": '","usage":{"input_tokens":5}}'}]},
        {"content": [], "usage": None},
        {"content": [], "usage": {"input_tokens": -1}},
        {"content": [], "usage": 7},
        {"usage": {"input_tokens": 5}},
        [{"content": [], "usage": {"input_tokens": 5}}],
    ],
)
def test_another_usage_is_not_taken_for_it(body: Any) -> None:
    assert usage_of_whole("messages", json.dumps(body).encode()) is None


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"content": [], "usage": {"input_tokens": 5}', b'{"content"'])
def test_what_is_not_whole_has_no_usage(body: bytes) -> None:
    assert usage_of_whole("messages", body) is None
