"""Model families whose prompts a maintained library writes (`renderers`, Apache-2.0), loaded only for models that need it.

Against the model's own template a family knows more: which tool calls are sampled as such, how a cut turn is closed, when old
reasoning leaves the prompt. It is used only where it gives the very ids of the model's own template on a set of conversations
(`PROBES`), which is checked when a model is loaded.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

from tunesmith.errors import InvalidArgument
from tunesmith.rendering.encoding import TextEncoder
from tunesmith.rendering.formats import Messages, TemplateFormat, Tools
from tunesmith.rendering.parsing import CallSyntax, Syntax

_ROLES = ("system", "user", "assistant", "tool")
_FAILURES = (ValueError, TypeError, LookupError, AttributeError, AssertionError, RecursionError)
"""What the library raises when messages do not fit; it has no error type of its own."""


@dataclass(frozen=True)
class Family:
    """What is known about a family before its code is loaded."""

    name: str
    """Its name in the library and in the catalogue."""
    module: str
    renderer: str
    config: str
    model_type: str
    """`model_type` of config.json."""
    marks: tuple[str, ...]
    """Words that all stand in the family's chat template: without them no model is tried as one of the family."""
    syntax: Syntax
    variables: tuple[str, ...]
    """Template variables that the family knows."""
    pinned: dict[str, Any]
    """Template variables that are set where nobody sets them: a prompt must not depend on the day it is rendered."""


FAMILIES = {
    family.name: family
    for family in (
        Family(
            name="qwen3",
            module="renderers.qwen3",
            renderer="Qwen3Renderer",
            config="Qwen3RendererConfig",
            model_type="qwen3",
            marks=("<|im_start|>", "<tool_response>", "reasoning_content", "enable_thinking"),
            syntax=Syntax(CallSyntax.HERMES, reasoning=True),
            variables=("enable_thinking",),
            pinned={},
        ),
        Family(
            name="llama-3",
            module="renderers.llama_3",
            renderer="Llama3Renderer",
            config="Llama3RendererConfig",
            model_type="llama",
            marks=("<|start_header_id|>", "ipython", "tools_in_user_message", "Cutting Knowledge Date"),
            syntax=Syntax(CallSyntax.LLAMA),
            variables=("date_string", "tools_in_user_message"),
            pinned={"date_string": "26 Jul 2024"},
        ),
    )
}
"""By name."""


def family_of(model_type: Any, template: str | None) -> Family | None:
    """The family that a model may belong to, from its config.json and the words of its template."""
    for family in FAMILIES.values():
        if model_type == family.model_type and template and all(mark in template for mark in family.marks):
            return family
    return None


class FamilyFormat:
    """A family's own code over our tokenizer. Loads the library on construction.

    Raises InvalidArgument when the tokenizer lacks the family's tokens.
    """

    def __init__(self, family: Family, tokenizer: Tokenizer, encoder: TextEncoder) -> None:
        self.family = family
        self._tokenizer = _TokenizerView(tokenizer, encoder)
        self._renderers: dict[tuple[tuple[str, Any], ...], Any] = {}
        self._renderer({})

    def mentions(self, variable: str) -> bool:
        """Whether the family knows a template variable."""
        return variable in self.family.variables

    def render(self, messages: Messages, tools: Tools, add_generation_prompt: bool, **variables: Any) -> list[int]:
        """Ids of a conversation."""
        self._check_roles(messages)
        renderer = self._renderer(variables)
        try:
            return renderer.render_ids(messages, tools=tools or None, add_generation_prompt=add_generation_prompt)
        except _FAILURES as error:
            raise InvalidArgument(
                f"The {self.family.name} format refuses these messages: {error}. Check roles, their order and the fields "
                "of each message."
            ) from error

    def extend(
        self,
        messages: Messages,
        turn: int,
        prompt_ids: Sequence[int],
        sampled_ids: Sequence[int],
        tools: Tools,
        **variables: Any,
    ) -> list[int] | None:
        """The recorded ids, an end of the turn where it was cut, and what was said since."""
        new = messages[turn + 1 :]
        self._check_roles(new)
        past = [*prompt_ids, *sampled_ids]
        bridge = self._renderer(variables).bridge_to_next_turn
        try:
            rendered = bridge(list(prompt_ids), list(sampled_ids), new, tools=tools or None)
        except _FAILURES:
            return None  # the whole conversation is rendered next, and says what is wrong
        if rendered is None or rendered.token_ids[: len(past)] != past:
            return None
        return rendered.token_ids

    def confirms(self, token_ids: Sequence[int], prompt_ids: Sequence[int], calls: int) -> bool:
        """Whether so many calls were sampled with the family's own tokens, all of them whole."""
        if self.family.syntax.calls is not CallSyntax.HERMES:
            return True  # nothing but text tells a call from content
        parsed = self._renderer({}).parse_response(list(token_ids), prompt_ids=list(prompt_ids))
        return len(parsed.tool_calls) == calls and all(call.status == "ok" for call in parsed.tool_calls)

    def difference(self, own: TemplateFormat) -> str | None:
        """The first probe on which the model's own template gives other ids; None when there is none."""
        for name, messages, tools in PROBES:
            for variables in self._variants(messages):
                try:
                    same = self.render(messages, tools, True, **variables) == own.render(
                        messages, tools, True, **self.family.pinned | variables
                    )
                except InvalidArgument as error:
                    return f"{name}: {error.message}"
                if not same:
                    return name + "".join(f", {key}={value}" for key, value in variables.items())
        return None

    def _variants(self, messages: Messages) -> list[dict[str, Any]]:
        # Without thinking the library keeps the empty think block of earlier turns, which it was sampled behind.
        first_turn = not any(message["role"] == "assistant" for message in messages)
        known = "enable_thinking" in self.family.variables
        return [{}, {"enable_thinking": False}] if known and first_turn else [{}]

    def _renderer(self, variables: dict[str, Any]) -> Any:
        key = tuple(sorted((self.family.pinned | variables).items()))
        if key not in self._renderers:
            module = importlib.import_module(self.family.module)
            try:
                config = getattr(module, self.family.config)(**dict(key))
                self._renderers[key] = getattr(module, self.family.renderer)(self._tokenizer, config)
            except _FAILURES as error:
                raise InvalidArgument(f"The {self.family.name} format cannot be set up: {error}.") from error
        return self._renderers[key]

    def _check_roles(self, messages: Messages) -> None:
        for index, message in enumerate(messages):
            if message["role"] not in _ROLES:
                raise InvalidArgument(
                    f"messages[{index}] has the role {message['role']!r}; this model knows {', '.join(_ROLES)}."
                )


class _TokenizerView:
    """Our tokenizer as the library wants one. What it encodes is text: special tokens it looks up by name."""

    unk_token_id = None

    def __init__(self, tokenizer: Tokenizer, encoder: TextEncoder) -> None:
        self._tokenizer = tokenizer
        self._encoder = encoder

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        return self._encoder.encode_text(text)

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = False, **_options: Any) -> str:
        return self._tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens)

    def convert_tokens_to_ids(self, token: str) -> int | None:
        return self._tokenizer.token_to_id(token)


def _call(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"id": "c", "type": "function", "function": {"name": name, "arguments": arguments}}


_SYSTEM = {"role": "system", "content": "Be brief.\nAnswer in Größe."}
_USER = {"role": "user", "content": "What is <b>17 * 3</b>? 漢字 🙂"}
_ANSWER = {"role": "assistant", "content": "51\n\nof course"}
_THOUGHT = {"role": "assistant", "content": "fifty-one", "reasoning_content": "17 * 3 = 51"}
_CALL = {
    "role": "assistant",
    "content": "",
    "tool_calls": [_call("add", {"a": [1, 2.5], "b": {"x": "é\n"}, "c": True})],
}
_TALK = {"role": "assistant", "content": "", "reasoning_content": "ask", "tool_calls": [_call("add", {})]}
_RESULT = {"role": "tool", "tool_call_id": "c", "content": '{"sum": "3 <ü>"}'}
_TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "add",
            "description": "Adds <ü>",
            "parameters": {"type": "object", "properties": {"a": {"type": "number"}}},
        },
    }
]

PROBES: list[tuple[str, Messages, Tools]] = [
    ("a question", [_USER], None),
    ("a system message", [_SYSTEM, _USER], None),
    ("several turns", [_USER, _ANSWER, _USER, _ANSWER, _USER], None),
    ("old reasoning", [_SYSTEM, _USER, _THOUGHT, _USER], None),
    ("tools", [_USER], _TOOLS),
    ("tools and a system message", [_SYSTEM, _USER], _TOOLS),
    ("a tool result", [_USER, _CALL, _RESULT], _TOOLS),
    ("a tool result after reasoning", [_USER, _TALK, _RESULT], _TOOLS),
    ("a question after a tool result", [_SYSTEM, _USER, _CALL, _RESULT, _ANSWER, _USER], _TOOLS),
]
"""Conversations on which a family must agree with the model's own template, each ending in a generation prompt."""
