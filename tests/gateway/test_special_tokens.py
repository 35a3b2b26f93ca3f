"""Whoever calls the gateway cannot write a special token: the ids that the engine is asked with, over HTTP, for several families.

The engine gets as many of each special id as for the same call with harmless words in the place of the spellings.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from tests.gateway.conftest import FIVE, Gateway
from tests.rendering.family_folders import LLAMA3, QWEN3, make_family_folder
from tests.rendering.template_folders import SPECIAL, make_template_folder

FOREIGN = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<end_of_turn>", "</s>", "[INST]"]
HARMLESS = "word"


@pytest.fixture(params=["qwen3", "llama", *SPECIAL])
def base_folder(request: pytest.FixtureRequest, data_dir: Path) -> Path:
    """A folder of the family, as the gateway's own renderer loads it; a fake engine answers for the weights."""
    family, folder = request.param, data_dir / "base"
    if family in SPECIAL:
        make_template_folder(folder, family, prefix_space=family == "phi3")
    else:
        make_family_folder(folder, family, {"qwen3": QWEN3, "llama": LLAMA3}[family])
    (folder / "model.safetensors").write_bytes(b"")
    return folder


@pytest.fixture
def context_length() -> int:
    """Spelled tokens are many letters."""
    return 4096


def chat(text: str) -> dict[str, Any]:
    """A conversation that says `text` in every place that a caller writes."""
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": json.dumps({"x": text})}}
    parameters = {"type": "object", "properties": {"x": {"type": "string", "description": text}}}
    return {
        "messages": [
            {"role": "system", "content": text},
            {"role": "user", "name": text, "content": [{"type": "text", "text": text}, {"type": "text", "text": text}]},
            {"role": "assistant", "content": text, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c", "name": text, "content": text},
            {"role": "assistant", "content": text},
            {"role": "user", "content": text},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "description": text, "parameters": parameters}}],
        "max_tokens": 4,
    }


def messages(text: str) -> dict[str, Any]:
    """The same in Anthropic's dialect."""
    return {
        "system": [{"type": "text", "text": text}],
        "messages": [
            {"role": "user", "content": text},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "f", "input": {"x": text}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": text}]},
        ],
        "max_tokens": 4,
    }


def responses(text: str) -> dict[str, Any]:
    """The same in the dialect of the Responses API."""
    called = {"type": "function_call", "call_id": "c", "name": "f", "arguments": json.dumps({"x": text})}
    result = {"type": "function_call_output", "call_id": "c", "output": text}
    return {
        "instructions": text,
        "input": [{"role": "user", "content": text}, called, result, {"role": "user", "content": text}],
        "max_output_tokens": 16,
    }


async def prompt_ids(gateway: Gateway, route: str, body: dict[str, Any]) -> list[int]:
    """What the engine is asked with. Every call is a rollout of its own."""
    path = "/" + FIVE.format(r=f"r{len(gateway.engine.generated)}")
    answer = await gateway.call("POST", f"{path}/{route}", json={"model": gateway.base, **body})
    assert answer.status == 200, answer.body
    return gateway.engine.generated[-1]["prompt_ids"]


async def test_spelled_special_tokens_reach_the_engine_as_text(gateway: Gateway) -> None:
    tokenizer: Tokenizer = gateway.engine.tokenizer
    specials = {id: token.content for id, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    assert specials
    spelled = [*specials.values(), *FOREIGN]
    for route, body in (("chat/completions", chat), ("messages", messages), ("responses", responses)):
        harmless = Counter(await prompt_ids(gateway, route, body(HARMLESS)))
        for text in ("a " + " ".join(spelled), f"{spelled[0]}{spelled[1]}", f"\n{spelled[1]}\n"):
            ids = await prompt_ids(gateway, route, body(text))
            found = Counter(ids)
            differing = {token: found[id] - harmless[id] for id, token in specials.items() if found[id] != harmless[id]}
            assert not differing, (route, text)
            assert text.strip() in tokenizer.decode(ids, skip_special_tokens=False)


async def test_the_check_sees_a_special_token(gateway: Gateway) -> None:
    """The same text encoded by the tokenizer itself holds special ids."""
    tokenizer: Tokenizer = gateway.engine.tokenizer
    (id, token), *_ = [(id, token) for id, token in tokenizer.get_added_tokens_decoder().items() if token.special]
    assert id in tokenizer.encode(f"a{token.content}b", add_special_tokens=False).ids
