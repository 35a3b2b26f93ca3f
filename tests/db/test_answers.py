"""What upstreams answered is kept as it came, beside the database, and read with its record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tunesmith.db.answers import ANSWERS, RawAnswer, files, read_answer
from tunesmith.db.completions import Completion, CompletionFilter, CompletionStatus, CompletionStore, CorrelationIds
from tunesmith.errors import Unavailable

WHOLE = {
    "id": "up",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
}


def raw(*parts: bytes, streamed: bool = False, dialect: str = "chat") -> RawAnswer:
    return RawAnswer(dialect, streamed, parts, 40)


def record(id: str, answer: RawAnswer | None, **fields: Any) -> Completion:
    values: dict[str, Any] = {
        "created_at": 1.0,
        "account": "accounts/a",
        "job": None,
        "ids": CorrelationIds(rollout_id="r"),
        "turn": 0,
        "index": 0,
        "model": "m",
        "base_model": "http://up",
        "policy_version": None,
        "prompt_ids": [],
        "sampled_ids": [],
        "logprobs": [],
        "temperature": 1.0,
        "finish_reason": None,
        "status": CompletionStatus.COMPLETE,
        "request": {},
        "message": {},
        "text": "",
        "params": {"dialect": "chat"},
        "usage": {},
        "latency": 0.1,
    }
    return Completion(id=id, answer=answer, **{**values, **fields})


@pytest.fixture
def store(tmp_path: Path):
    store = CompletionStore(tmp_path / "completions.db")
    yield store
    store.close()


def only(store: CompletionStore, id: str) -> Completion:
    found = store.get(id, "accounts/a")
    assert found is not None
    return found


async def test_an_answer_is_read_with_its_record(store: CompletionStore) -> None:
    body = json.dumps(WHOLE).encode()
    await store.add([record("a", raw(body[:20], body[20:]))])
    found = only(store, "a")
    assert (found.text, found.finish_reason, found.message) == (
        "hello",
        "stop",
        {"role": "assistant", "content": "hello"},
    )
    assert found.usage == {"prompt_tokens": 10, "completion_tokens": 2, "estimated": True}
    assert found.params == {"dialect": "chat", "upstream_id": "up"}
    assert found.answer is None
    assert store.usage_of("r") == {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
    assert [c.text for c in store.find(CompletionFilter(CorrelationIds(rollout_id="r")))] == ["hello"]


async def test_what_the_row_says_goes_before_what_is_read(store: CompletionStore) -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 2}
    await store.add([record("a", raw(json.dumps(WHOLE).encode()), usage=usage, finish_reason="abort")])
    assert (only(store, "a").usage, only(store, "a").finish_reason, only(store, "a").text) == (usage, "abort", "hello")
    assert store.usage_of("r")["total_tokens"] == 3


async def test_answers_of_one_commit_and_of_thousands_of_pieces_do_not_mix(store: CompletionStore) -> None:
    texts = ["x" * 3000, "", "caf\u00e9 \U0001f600", *map(str, range(60))]
    answers = []
    for text in texts:
        choice = {**WHOLE["choices"][0], "message": {"content": text}}
        body = json.dumps({**WHOLE, "choices": [choice]}, ensure_ascii=False).encode()
        answers.append(raw(*[body[at : at + 1] for at in range(len(body))]))
    records = [record(str(number), answer) for number, answer in enumerate(answers)]
    await store.add([*records[:30], record("plain", None, text="here", message={"content": "here"}), *records[30:]])
    assert [only(store, str(number)).text for number in range(len(texts))] == texts
    assert only(store, "plain").text == "here"


async def test_a_full_file_is_followed_by_another_and_a_restart_begins_its_own(
    store: CompletionStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "FILE_BYTES", 100)
    body = json.dumps(WHOLE).encode()
    for id in "abc":
        await store.add([record(id, raw(body))])
    other = CompletionStore(tmp_path / "completions.db")
    await other.add([record("d", raw(body))])
    other.close()
    await store.add([record("e", raw(body))])
    assert [only(store, id).text for id in "abcde"] == ["hello"] * 5
    assert sorted(path.name for path in (tmp_path / "answers").iterdir()) == [f"{n:06d}.bin" for n in range(5)]


async def test_an_answer_that_is_lost_hides_nothing_else_of_its_record(store: CompletionStore, tmp_path: Path) -> None:
    body = json.dumps(WHOLE).encode()
    await store.add([record("a", raw(body)), record("b", raw(body))])
    (file,) = (tmp_path / "answers").iterdir()
    file.write_bytes(file.read_bytes()[: len(body) + 10])
    assert only(store, "a").text == "hello"
    found = only(store, "b")
    assert (found.text, found.model, found.status) == ("", "m", "complete")
    assert "ends before byte" in found.params["unreadable"]
    file.unlink()
    assert "cannot be read" in only(store, "a").params["unreadable"]


async def test_what_cannot_be_kept_is_not_recorded(store: CompletionStore, tmp_path: Path) -> None:
    (tmp_path / "answers").write_text("no folder")
    with pytest.raises(Unavailable):
        await store.add([record("a", raw(b"{}"))])
    assert store.get("a", "accounts/a") is None
    (tmp_path / "answers").unlink()
    await store.add([record("a", raw(json.dumps(WHOLE).encode()))])
    assert only(store, "a").text == "hello"


def event(data: object) -> bytes:
    return b"data: " + (data if isinstance(data, bytes) else json.dumps(data).encode()) + b"\n\n"


def piece(text: str, finish: str | None = None) -> dict[str, Any]:
    return {"id": "up", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]}


@pytest.mark.parametrize(
    ("stream", "text", "unreadable"),
    [
        (event(piece("one ")) + event(piece("two", "stop")) + b"data: [DONE]\n\n", "one two", False),
        (event(piece("one ")) + event(piece("two"))[:-5], "one ", False),  # cut
        (event(piece("one ")) + event(piece("two"))[:-2], "one two", False),  # cut behind an event
        (event(piece("one ")) + event(b"{no json}") + event(piece("two")), "one ", True),
        (b": ping\n\n" + event(piece("one ")).replace(b"\n", b"\r\n") + event(piece("two")), "one two", False),
        (b"", "", False),
    ],
)
def test_a_stream_is_read_as_far_as_it_goes(stream: bytes, text: str, unreadable: bool) -> None:
    answer = read_answer("chat", True, stream)
    assert answer.candidate().content == text
    assert (answer.unreadable is not None) == unreadable


@pytest.mark.parametrize("dialect", ANSWERS)
@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b'{"id": 7}', b"[" * 100_000, b'{"choices":[{"message":"\xff"}]}']
)
def test_what_is_no_answer_is_unreadable(dialect: str, body: bytes) -> None:
    answer = read_answer(dialect, False, body)
    assert answer.unreadable
    assert answer.candidates == {}
