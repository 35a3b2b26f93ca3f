"""Whoever writes a message cannot write a special token: property over families, places in a conversation, and spellings.

A prompt holds as many of each special id as the same conversation with harmless words in the place of the spellings, and its text
is the whole text.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tunesmith.rendering import Renderer
from tunesmith.rendering.examples import ExampleRenderer

from tests.rendering.family_folders import LLAMA3, QWEN3, make_family_folder
from tests.rendering.template_folders import TEMPLATES, make_template_folder

KINDS = ["qwen3", "llama", *TEMPLATES, *(f"{family} with a prefix space" for family in TEMPLATES)]
HARMLESS = "word"
FOREIGN = ["<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<s>", "</s>", "[INST]", "<|endoftext|>", "<|start_header_id|>"]


@pytest.fixture(scope="module")
def renderers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Renderer]:
    folder = tmp_path_factory.mktemp("models")
    made = {
        "qwen3": make_family_folder(folder / "qwen3", "qwen3", QWEN3),
        "llama": make_family_folder(folder / "llama", "llama", LLAMA3),
    }
    for family, prefix in itertools.product(TEMPLATES, (False, True)):
        name = f"{family} with a prefix space" if prefix else family
        made[name] = make_template_folder(folder / name.replace(" ", "-"), family, prefix)
    return {name: Renderer.load(path, name) for name, path in made.items()}


def specials(renderer: Renderer) -> dict[str, int]:
    tokens = renderer.tokenizer.get_added_tokens_decoder()
    return {token.content: id for id, token in tokens.items() if token.special}


def conversation(texts: list[str]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """System, user, a call with its name and arguments, its result, an answer, a question; and a tool's description."""
    system, user, name, argument, result, answer, question, about = texts
    call = {"id": "c", "type": "function", "function": {"name": name, "arguments": json.dumps({"x": argument})}}
    messages = [
        {"role": "system", "content": system},
        {"role": "user", "content": user},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": result},
        {"role": "assistant", "content": answer},
        {"role": "user", "content": question},
    ]
    return messages, [{"type": "function", "function": {"name": "f", "description": about, "parameters": {}}}]


def counted(renderer: Renderer, ids: list[int]) -> Counter[int]:
    known = set(specials(renderer).values())
    return Counter(id for id in ids if id in known)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_spelled_tokens_stay_text_wherever_they_stand(renderers: dict[str, Renderer], kind: str, data: Any) -> None:
    renderer = renderers[kind]
    spelling = st.sampled_from([*specials(renderer), *FOREIGN])
    around = st.sampled_from(["", "a", " ", "and ", "é", "\n", "<", "|>"])
    text = st.lists(st.tuples(around, spelling, around).map("".join), min_size=1, max_size=3).map("".join)
    texts = [data.draw(st.one_of(st.just(HARMLESS), text)) for _ in range(8)]
    messages, tools = conversation(texts)
    harmless, harmless_tools = conversation([HARMLESS] * 8)
    ids = renderer.render(messages, tools)
    assert counted(renderer, ids) == counted(renderer, renderer.render(harmless, harmless_tools))
    shown = renderer.decode(ids)
    for written in (texts[0], texts[1], texts[5], texts[6]):
        assert written.strip() in shown


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_an_sft_dataset_cannot_either(renderers: dict[str, Renderer], kind: str) -> None:
    renderer = renderers[kind]
    examples = ExampleRenderer(renderer)

    def counts(text: str) -> Counter[int]:
        row = {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": text}]}
        (example,) = examples.examples(row)
        return counted(renderer, example.token_ids)

    for token in specials(renderer):
        assert counts(f"a{token}b {token}") == counts(HARMLESS), token


def test_the_check_sees_a_special_token(renderers: dict[str, Renderer]) -> None:
    """The same count with the letters encoded as the tokenizer does by itself: it must differ."""
    for renderer in renderers.values():
        token = next(iter(specials(renderer)))
        assert counted(renderer, renderer.encode(f"a{token}b")) != counted(renderer, renderer.encode("ab"))


def test_folders_are_small(tmp_path: Path) -> None:
    assert Renderer.load(make_template_folder(tmp_path / "m", "gemma", False), "m").vocab_size < 400
