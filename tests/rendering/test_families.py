"""Families whose prompts a library writes: the ids of the model's own template, calls and reasoning read back, turns extended."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tunesmith.catalog.known import KNOWN
from tunesmith.errors import InvalidArgument
from tunesmith.rendering import Renderer
from tunesmith.rendering.families import FAMILIES, PROBES, FamilyFormat
from tunesmith.rendering.formats import TemplateFormat
from tunesmith.rendering.templates import ChatTemplate

from tests.rendering.family_folders import LLAMA3, QWEN3, make_family_folder

TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
USER = {"role": "user", "content": "What is 1+2?"}
RESULT = {"role": "tool", "tool_call_id": "c", "content": "3"}


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Renderer:
    return Renderer.load(make_family_folder(tmp_path_factory.mktemp("models") / "q", "qwen3", QWEN3), "qwen")


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Renderer:
    return Renderer.load(make_family_folder(tmp_path_factory.mktemp("models") / "l", "llama", LLAMA3), "llama")


def own_template(renderer: Renderer, template: str) -> TemplateFormat:
    compiled = ChatTemplate(template, {"bos_token": "<|begin_of_text|>"}, "own")
    return TemplateFormat(compiled, renderer.encoder, renderer.vocabulary, renderer.eos_ids)


def sampled(renderer: Renderer, text: str, end: bool = True) -> list[int]:
    """Ids of a text, the family's markers as their own tokens, and the end of the turn."""
    return [*renderer.encode(text), *(renderer.eos_ids[:1] if end else ())]


def read(renderer: Renderer, text: str, ids: list[int] | None = None, tools: bool = True) -> dict[str, Any]:
    message = renderer.parse(text, tools, ids or sampled(renderer, text), [])
    for call in message.get("tool_calls", []):
        assert call.pop("id").startswith("call_")
    return message


def called(name: str, arguments: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


@pytest.mark.parametrize("messages_and_tools", PROBES, ids=[probe[0] for probe in PROBES])
def test_a_family_writes_what_the_models_own_template_writes(
    qwen: Renderer, llama: Renderer, messages_and_tools: tuple[str, list, list | None]
) -> None:
    _, messages, tools = messages_and_tools
    assert isinstance(qwen.chat_format, FamilyFormat)
    assert qwen.render(messages, tools) == own_template(qwen, QWEN3).render(messages, tools, True)
    assert isinstance(llama.chat_format, FamilyFormat)
    own = own_template(llama, LLAMA3)
    choices: list[dict[str, Any]] = [{"date_string": "26 Jul 2024"}]
    choices += [{"date_string": "1 Jan 2030", "tools_in_user_message": False}]
    for variables in choices:
        assert llama.render(messages, tools, **variables) == own.render(messages, tools, True, **variables)
    assert llama.render(messages, tools) == own.render(messages, tools, True, date_string="26 Jul 2024")


def test_a_template_that_drifted_from_its_family_renders_itself_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    drifted = QWEN3.replace("<tool_response>\\n' ~ m.content", "<tool_response>' ~ m.content")
    assert drifted != QWEN3
    folder = make_family_folder(tmp_path / "m", "qwen3", drifted)
    with caplog.at_level(logging.WARNING):
        named, unnamed = Renderer.load(folder, "drifted", "qwen3"), Renderer.load(folder, "drifted")
    assert "drifted is not rendered as qwen3, because its own chat template differs (a tool result)" in caplog.text
    assert isinstance(named.chat_format, TemplateFormat)
    assert (named.syntax.reasoning, unnamed.syntax.reasoning) == (True, False), (
        "the catalogue's word counts for reading"
    )


def test_a_tokenizer_that_cuts_words_otherwise_is_noticed(tmp_path: Path) -> None:
    folder = make_family_folder(tmp_path / "m", "llama", LLAMA3, words=None)
    assert isinstance(Renderer.load(folder).chat_format, TemplateFormat)


def test_a_tokenizer_without_the_familys_tokens_is_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = make_family_folder(tmp_path / "m", "llama", LLAMA3)
    tokenizer = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(tokenizer.replace("<|eom_id|>", "<|other|>"))
    with caplog.at_level(logging.WARNING):
        assert isinstance(Renderer.load(folder).chat_format, TemplateFormat)
    assert "<|eom_id|>" in caplog.text


def test_every_family_that_the_catalogue_names_is_known() -> None:
    named = {model.family for model in KNOWN.values() if model.family}
    assert named == set(FAMILIES)
    assert KNOWN["accounts/fireworks/models/qwen3-0p6b"].family == "qwen3"
    assert KNOWN["accounts/fireworks/models/qwen3-4b-instruct-2507"].family is None, "its template knows no reasoning"


@pytest.mark.parametrize("which", ["qwen", "llama"])
def test_special_tokens_spelled_in_messages_stay_text(which: str, request: pytest.FixtureRequest) -> None:
    renderer: Renderer = request.getfixturevalue(which)
    end = renderer.decode(renderer.eos_ids)
    plain = renderer.render([{"role": "system", "content": "a"}, {"role": "user", "content": "b"}])
    spoof = renderer.render([{"role": "system", "content": "a"}, {"role": "user", "content": f"b{end}c"}])
    assert spoof.count(renderer.eos_ids[0]) == plain.count(renderer.eos_ids[0])
    assert f"b{end}c" in renderer.decode(spoof)


CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": [2.5, "é"]}}\n</tool_call>'
ARGUMENTS = '{"a": 1, "b": [2.5, "é"]}'
QWEN_TEXTS = [
    ("It is 3.", {"content": "It is 3."}),
    (" \n3\n", {"content": " \n3\n"}),
    ("<think>\n1+2\n</think>\n\n3", {"content": "3", "reasoning_content": "1+2"}),
    ("<think>\n\n</think>\n\n3", {"content": "3"}),
    ("<think>still at it", {"content": "", "reasoning_content": "still at it"}),
    (CALL, {"content": None, "tool_calls": [called("add", ARGUMENTS)]}),
    (f"So:\n{CALL}\n{CALL}", {"content": "So:", "tool_calls": [called("add", ARGUMENTS)] * 2}),
    (
        f"<think>go</think>\n{CALL}",
        {"content": None, "reasoning_content": "go", "tool_calls": [called("add", ARGUMENTS)]},
    ),
    (f"<think>go {CALL}", {"content": None, "reasoning_content": "go", "tool_calls": [called("add", ARGUMENTS)]}),
    (
        f"<think>draft {CALL} no</think>3",
        {"content": "3", "reasoning_content": f"draft {CALL} no"},
    ),
    ("<tool_call>\n{nonsense}\n</tool_call>", {"content": "<tool_call>\n{nonsense}\n</tool_call>"}),
    (f"{CALL} and more", {"content": f"{CALL} and more"}),
    ("<tool_call>\n{", {"content": "<tool_call>\n{"}),
    (f"{CALL}<tool_call>[]</tool_call>", {"content": f"{CALL}<tool_call>[]</tool_call>"}),
]
LLAMA_TEXTS = [
    ("It is 3.", {"content": "It is 3."}),
    ('{"name": "add", "parameters": {"a": 1}}', {"content": None, "tool_calls": [called("add", '{"a": 1}')]}),
    ('<|python_tag|>{"name": "f", "parameters": {}}', {"content": None, "tool_calls": [called("f", "{}")]}),
    ('{"name": "add", "parameters": ', {"content": '{"name": "add", "parameters": '}),
    ('{"answer": 3}', {"content": '{"answer": 3}'}),
    ('Sure: {"name": "add", "parameters": {}}', {"content": 'Sure: {"name": "add", "parameters": {}}'}),
    ("<think>a</think>b", {"content": "<think>a</think>b"}),
]


@pytest.mark.parametrize(
    ("which", "text", "expected"), [("qwen", *case) for case in QWEN_TEXTS] + [("llama", *case) for case in LLAMA_TEXTS]
)
def test_messages_are_read_in_the_syntax_of_the_family(
    which: str, text: str, expected: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    assert read(request.getfixturevalue(which), text) == {"role": "assistant", **expected}


@pytest.mark.parametrize(
    ("which", "text"), [("qwen", text) for text, _ in QWEN_TEXTS] + [("llama", text) for text, _ in LLAMA_TEXTS]
)
@pytest.mark.parametrize("tools", [True, False])
def test_what_is_streamed_is_always_a_prefix_of_the_whole(
    which: str, text: str, tools: bool, request: pytest.FixtureRequest
) -> None:
    renderer: Renderer = request.getfixturevalue(which)
    for prompt in ([], renderer.encode("<think>\n")):
        whole = renderer.parse(text, tools, sampled(renderer, text), prompt)
        shown = [renderer.partial(text[:n], tools, prompt) for n in range(len(text) + 1)]
        for before, after in zip(shown, [*shown[1:], None], strict=True):
            content = after.content if after else whole["content"] or ""
            reasoning = after.reasoning_content if after else whole.get("reasoning_content", "")
            assert content.startswith(before.content)
            assert reasoning.startswith(before.reasoning_content)


def test_most_of_a_text_is_streamed_before_its_end(qwen: Renderer, llama: Renderer) -> None:
    assert qwen.partial("<think>one two", True, []).reasoning_content == "one two"
    assert qwen.partial("<think>one</think>\n\nthree <", True, []).content == "three"
    assert llama.partial("It is", True, []).content == "It is"


def test_markers_spelled_with_other_tokens_are_text(qwen: Renderer) -> None:
    letters = [id for character in CALL for id in qwen.encode(character)]
    assert qwen.decode(letters) == CALL
    assert read(qwen, CALL, [*letters, *qwen.eos_ids]) == {"role": "assistant", "content": CALL}


def test_reasoning_that_the_prompt_opened_is_reasoning(qwen: Renderer) -> None:
    message = qwen.parse("1+2</think>\n\n3", True, None, qwen.encode("<|im_start|>assistant\n<think>\n"))
    assert message == {"role": "assistant", "content": "3", "reasoning_content": "1+2"}


def test_reasoning_stays_within_a_tool_cycle_and_leaves_with_the_next_question(qwen: Renderer) -> None:
    prompt = qwen.render([USER], TOOLS)
    said = "<think>\nadd them\n</think>\n\n" + CALL + "\n" + CALL
    ids = sampled(qwen, said)
    more = [USER, qwen.parse(said, True, ids, prompt), RESULT, {**RESULT, "content": "4"}]
    extended = qwen.continue_turn(more, 1, prompt, ids, TOOLS)
    assert extended == prompt + ids + qwen.encode(
        "\n<|im_start|>user\n<tool_response>\n3\n</tool_response>\n<tool_response>\n4\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    question = [*more[:2], USER]
    assert qwen.continue_turn(question, 1, prompt, ids, TOOLS) is None
    assert "add them" not in qwen.decode(qwen.render(question, TOOLS))


def test_without_thinking_a_question_extends_the_recorded_turn(qwen: Renderer) -> None:
    prompt = qwen.render([USER], enable_thinking=False)
    assert qwen.decode(prompt).endswith("<think>\n\n</think>\n\n")
    ids = sampled(qwen, "3")
    more = [USER, {"role": "assistant", "content": "3"}, USER]
    extended = qwen.continue_turn(more, 1, prompt, ids, enable_thinking=False)
    assert extended is not None
    assert extended[: len(prompt) + len(ids)] == prompt + ids


@pytest.mark.parametrize("which", ["qwen", "llama"])
def test_a_turn_that_was_cut_is_closed_in_the_prompt(which: str, request: pytest.FixtureRequest) -> None:
    renderer: Renderer = request.getfixturevalue(which)
    tools = TOOLS if which == "qwen" else None
    prompt = renderer.render([USER], tools)
    ids = sampled(renderer, "I will", end=False)
    more = [USER, {"role": "assistant", "content": "I will"}, RESULT]
    extended = renderer.continue_turn(more, 1, prompt, ids, tools)
    assert extended is not None
    assert extended[: len(prompt) + len(ids) + 1] == [*prompt, *ids, renderer.eos_ids[0]]
    assert extended[len(prompt) + len(ids) :] == renderer.render(more, tools)[-len(extended) + len(prompt) + len(ids) :]


def test_messages_that_a_family_cannot_show_are_refused_with_the_reason(qwen: Renderer, llama: Renderer) -> None:
    with pytest.raises(InvalidArgument, match=r"messages\[1\] has the role 'alien'"):
        qwen.render([USER, {"role": "alien", "content": "x"}])
    two = {"role": "assistant", "content": "", "tool_calls": [called("f", "{}"), called("g", "{}")]}
    with pytest.raises(InvalidArgument, match="single tool call"):
        llama.render([USER, two, RESULT])
    with pytest.raises(InvalidArgument, match="llama-3 format cannot be set up"):
        llama.render([USER], tools_in_user_message="sideways")


def test_only_models_of_a_family_load_its_library() -> None:
    code = (
        "import sys, pathlib, tunesmith.gateway\n"
        "from tunesmith.catalog import available\n"
        "from tunesmith.rendering import Renderer\n"
        "entry = next(e for e in available(pathlib.Path('/nowhere')) if e.source == 'bundled')\n"
        "Renderer.load(entry.path, entry.name, entry.family).render([{'role': 'user', 'content': 'x'}])\n"
        "print(sorted({'torch', 'transformers', 'renderers', 'openai', 'httpx'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_family_loads_neither_torch_nor_transformers(tmp_path: Path) -> None:
    folder = make_family_folder(tmp_path / "m", "qwen3", QWEN3)
    code = (
        "import sys, pathlib, tunesmith.gateway\n"
        "from tunesmith.rendering import Renderer\n"
        f"kind = type(Renderer.load(pathlib.Path({str(folder)!r})).chat_format).__name__\n"
        "print(kind, sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "FamilyFormat []", done.stderr
