"""Chat calls to a base model: prefixes, options, streaming, errors."""

from __future__ import annotations

import pytest

from tests.gateway.conftest import FIVE, Gateway

PREFIXES = ["", "/v1", "/inference/v1", "/litellm-gateway", "/litellm-gateway/v1"]


async def test_answers_like_openai(gateway: Gateway) -> None:
    answer = await gateway.chat("say hello", max_tokens=30)
    assert answer.status == 200
    body = answer.body
    assert body["object"] == "chat.completion"
    assert body["model"] == gateway.base
    choice = body["choices"][0]
    assert choice == {
        "index": 0,
        "message": {"role": "assistant", "content": "hello"},
        "finish_reason": "stop",
        "logprobs": None,
    }
    prompt = len(gateway.engine.generated[0]["prompt_ids"])
    assert body["usage"] == {
        "prompt_tokens": prompt,
        "completion_tokens": 6,
        "total_tokens": prompt + 6,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


@pytest.mark.parametrize("project", ["", "/project_id/p1"])
@pytest.mark.parametrize("prefix", PREFIXES)
async def test_every_prefix_answers_and_records_the_five_ids(gateway: Gateway, prefix: str, project: str) -> None:
    assert (await gateway.chat(path=prefix + project)).status == 200
    url = "/encoded_base_url/aHR0cDovL3g="
    for number, tail in enumerate(["", "/v1", url, url.rstrip("="), url + "/v1"]):
        rollout = f"r{number}"
        path = f"{prefix}{project}/{FIVE.format(r=rollout)}{tail}"
        assert (await gateway.chat(path=path)).status == 200
        (stored,) = gateway.state.store.of_rollout(rollout)
        ids = stored.ids
        assert (ids.invocation_id, ids.experiment_id, ids.run_id, ids.row_id) == ("inv", "exp", "run", "row")


async def test_a_prefix_that_is_none_of_ours_is_404_in_the_envelope(gateway: Gateway) -> None:
    answer = await gateway.chat(path="/v1/rollout_id/r/run_id/x")
    assert answer.status == 404
    assert answer.body["error"]["code"] == "not_found"


async def test_a_doubled_slash_of_a_joined_base_url_does_no_harm(gateway: Gateway) -> None:
    assert (await gateway.chat(path="/litellm-gateway//" + FIVE.format(r="double") + "/")).status == 200
    assert len(gateway.state.store.of_rollout("double")) == 1


@pytest.mark.parametrize("encoded", ["a", "%%%", "/w==", "", "__8"])
async def test_an_encoded_base_url_that_is_none_is_400(gateway: Gateway, encoded: str) -> None:
    path = f"/{FIVE.format(r='r')}/encoded_base_url/{encoded}"
    answer = await gateway.chat(path=path)
    if encoded.startswith("/"):  # standard base64's slash splits the path
        assert answer.status == 404
    else:
        assert (answer.status, answer.body["error"]["param"]) == (400, "encoded_base_url")
    assert gateway.engine.generated == []


@pytest.mark.parametrize("prefix", [*PREFIXES, "/v1/" + FIVE.format(r="r"), "/v1/" + FIVE.format(r="r") + "/v1"])
async def test_models_are_listed_under_every_prefix(gateway: Gateway, prefix: str) -> None:
    promoted = gateway.promote("mine")
    gateway.promote("theirs", account="accounts/other")
    answer = await gateway.call("GET", f"{prefix}/models")
    ids = [model["id"] for model in answer.body["data"]]
    assert promoted in ids
    assert "accounts/tunesmith/models/tiny-math-v1" in ids
    assert "accounts/other/models/theirs" not in ids


async def test_options_reach_the_engine_and_nulls_do_not_count(gateway: Gateway) -> None:
    answer = await gateway.chat(
        model="fireworks_ai/" + gateway.base,
        messages=[{"role": "user", "content": [{"type": "text", "text": "say hi"}], "name": None, "tool_calls": None}],
        temperature=0.7,
        top_p=0.9,
        top_k=5,
        seed=-1,
        stop="i",
        n=2,
        max_tokens=None,
        max_completion_tokens=9,
        logit_bias=None,
        presence_penalty=0,
        user="u",
        response_format={"type": "text"},
    )
    assert answer.status == 200, answer.body
    assert answer.body["model"] == gateway.base, "the name that answered, without the client library's prefix"
    sent = gateway.engine.generated[0]
    assert {name: sent[name] for name in ("temperature", "top_p", "top_k", "seed", "stop", "n", "max_tokens")} == {
        "temperature": 0.7,
        "top_p": 0.9,
        "top_k": 5,
        "seed": 2**64 - 1,
        "stop": ["i"],
        "n": 2,
        "max_tokens": 9,
    }
    assert [choice["message"]["content"] for choice in answer.body["choices"]] == ["h", "h"]
    assert [choice["index"] for choice in answer.body["choices"]] == [0, 1]


async def test_n_candidates_differ_and_are_all_recorded(gateway: Gateway) -> None:
    answer = await gateway.chat("anything", path="/" + FIVE.format(r="many"), n=3, seed=1)
    texts = [choice["message"]["content"] for choice in answer.body["choices"]]
    assert len(set(texts)) == 3
    stored = gateway.state.store.of_rollout("many")
    assert [(completion.turn, completion.index, completion.text) for completion in stored] == [
        (0, index, text) for index, text in enumerate(texts)
    ]


async def test_logprobs_give_both_distributions_ids_and_bytes(gateway: Gateway) -> None:
    answer = await gateway.chat("say é", temperature=0.5, logprobs=True, top_logprobs=2, return_token_ids=True)
    choice = answer.body["choices"][0]
    content = choice["logprobs"]["content"]
    assert [item["token_id"] for item in content] == choice["token_ids"]
    assert bytes(b for item in content for b in item["bytes"]) == "é</s>".encode()
    assert all(item["sampling_logprob"] == pytest.approx(item["logprob"] / 0.5) for item in content)
    assert [len(item["top_logprobs"]) for item in content] == [2, 2, 2]
    assert choice["message"]["content"] == "é"
    assert answer.body["prompt_token_ids"] == gateway.engine.generated[0]["prompt_ids"]


async def test_numeric_logprobs_give_the_legacy_arrays(gateway: Gateway) -> None:
    logprobs = (await gateway.chat("say hi", logprobs=1)).body["choices"][0]["logprobs"]
    assert logprobs["tokens"] == ["h", "i", "</s>"]
    assert logprobs["text_offset"] == [0, 1, 2]
    assert [len(top) for top in logprobs["top_logprobs"]] == [1, 1, 1]


async def test_raw_output_shows_what_went_in_and_out(gateway: Gateway) -> None:
    raw = (await gateway.chat("say hi", raw_output=True)).body["choices"][0]["raw_output"]
    assert raw["completion"] == "hi"
    assert raw["prompt_fragments"] == ["<s>[user]\nsay hi</s>\n[assistant]\n"]
    assert len(raw["completion_token_ids"]) == len(raw["completion_logprobs"]["content"]) == 3


CALL = 'Let me. <tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>'
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]


async def test_tools_are_rendered_and_their_calls_parsed(gateway: Gateway) -> None:
    gateway.engine.answers.append(CALL)
    answer = await gateway.chat("please", tools=TOOLS, tool_choice="auto")
    choice = answer.body["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == "Let me."
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "add", "arguments": '{"a": 1}'}
    prompt = gateway.engine.tokenizer.decode(gateway.engine.generated[0]["prompt_ids"])
    assert '"name": "add"' in prompt

    chunks = await gateway.stream("please", tools=TOOLS)
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    assert "".join(delta.get("content", "") for delta in deltas) == "Let me."
    opened, arguments = [delta["tool_calls"][0] for delta in deltas if "tool_calls" in delta]
    assert (opened["index"], opened["type"], opened["function"]) == (0, "function", {"name": "add", "arguments": ""})
    assert arguments == {"index": 0, "function": {"arguments": '{"a": 1}'}}
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"

    plain = await gateway.chat("please", tools=TOOLS, tool_choice="none")
    assert plain.body["choices"][0]["message"]["content"] == CALL


async def test_streaming_sends_role_content_finish_and_usage(gateway: Gateway) -> None:
    chunks = await gateway.stream("say héllo", path="/" + FIVE.format(r="s"))
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant"}
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == "héllo"
    assert len(chunks) > 4
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert chunks[-1]["usage"]["completion_tokens"] == 7
    (stored,) = gateway.state.store.of_rollout("s")
    assert (stored.text, stored.status, stored.finish_reason) == ("héllo", "complete", "stop")


async def test_streaming_usage_in_a_chunk_of_its_own_when_asked(gateway: Gateway) -> None:
    chunks = await gateway.stream("say hi", n=2, logprobs=True, stream_options={"include_usage": True})
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == 6
    assert all("usage" not in chunk for chunk in chunks[:-1])
    for index in (0, 1):
        own = [c for chunk in chunks for c in chunk["choices"] if c["index"] == index]
        assert "".join(c["delta"].get("content", "") for c in own) == "hi"
        assert own[-1]["finish_reason"] == "stop"
        tokens = [item["token"] for c in own if c["logprobs"] for item in c["logprobs"]["content"]]
        assert tokens == ["h", "i", "</s>"]


REFUSED = [
    ({"logit_bias": {"1": 5}}, "logit_bias", "unsupported_parameter"),
    ({"presence_penalty": 0.5}, "presence_penalty", "unsupported_parameter"),
    ({"response_format": {"type": "json_object"}}, "response_format", "unsupported_parameter"),
    ({"min_p": 0.1}, "min_p", "unsupported_parameter"),
    ({"tools": TOOLS, "tool_choice": "some"}, "tool_choice", "invalid_value"),
    (
        {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "sub"}}},
        "tool_choice",
        "invalid_value",
    ),
    ({"tools": [{"type": "web_search"}]}, "tools", "unsupported_parameter"),
    ({"tools": [{"type": "function", "function": {}}]}, "tools", "invalid_value"),
    ({"model": "a\x00b"}, "model", "invalid_value"),
    ({"temprature": 1}, "temprature", "unknown_parameter"),
    ({"temperature": 3}, "temperature", "invalid_value"),
    ({"n": 0}, "n", "invalid_value"),
    ({"top_logprobs": 3}, "top_logprobs", "invalid_value"),
    ({"stop": [""]}, "stop", "invalid_value"),
    ({"messages": None}, "messages", "missing_required_parameter"),
    ({"chat_template_kwargs": {"enable_thinking": False}}, "chat_template_kwargs", "invalid_value"),
]


@pytest.mark.parametrize(("fields", "param", "code"), REFUSED)
async def test_what_cannot_be_honoured_is_400_by_name(gateway: Gateway, fields: dict, param: str, code: str) -> None:
    answer = await gateway.chat(**fields)
    error = answer.body["error"]
    assert (answer.status, error["param"], error["code"], error["type"]) == (400, param, code, "invalid_request_error")
    assert param in error["message"]
    assert gateway.engine.generated == []


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([], "messages is empty"),
        ([{"role": "robot", "content": "x"}], "unknown role robot"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}], "image_url"),
        ([{"content": "x"}], "messages[0] has no role"),
    ],
)
async def test_bad_messages_are_400_with_the_reason(gateway: Gateway, messages: list, words: str) -> None:
    answer = await gateway.chat(messages=messages)
    assert answer.status == 400
    assert words in answer.body["error"]["message"]


async def test_prompt_and_completion_share_the_context(gateway: Gateway) -> None:
    long = await gateway.chat("x" * 600)
    assert (long.status, long.body["error"]["code"]) == (400, "context_length_exceeded")
    assert "622 tokens" in long.body["error"]["message"]
    assert "512" in long.body["error"]["message"]

    cut = await gateway.chat("count", max_tokens=5000)
    assert cut.body["choices"][0]["finish_reason"] == "length"
    assert cut.body["usage"]["total_tokens"] == 512

    strict = await gateway.chat("count", max_tokens=5000, context_length_exceeded_behavior="error")
    assert (strict.status, strict.body["error"]["param"]) == (400, "max_tokens")


async def test_a_model_that_is_not_there_is_404_with_the_places_looked_at(gateway: Gateway) -> None:
    answer = await gateway.chat(model="accounts/nobody/models/nothing")
    assert (answer.status, answer.body["error"]["code"]) == (404, "model_not_found")
    assert "looked in" in answer.body["error"]["message"]


async def test_keys(gateway: Gateway) -> None:
    for key in (None, "nonsense", "ts_000000000000_" + "0" * 48):
        answer = await gateway.chat(key=key)
        assert (answer.status, answer.body["error"]["type"]) == (401, "authentication_error")
    for key in ("account", "internal"):
        assert (await gateway.chat(key=key)).status == 200
    # an evaluator's key does not open any folder of this machine
    assert (await gateway.chat(key="rollout")).status == 404
    await gateway.publish()
    assert (await gateway.chat(key="rollout")).status == 200, "its own job's base"


async def test_bodies_that_are_no_json(gateway: Gateway) -> None:
    for data in (b"{", b"[1]", b"\xff"):
        answer = await gateway.call("POST", "/v1/chat/completions", data=data)
        assert (answer.status, answer.body["error"]["type"]) == (400, "invalid_request_error")
