"""The conversation as text: the model's chat template, and the same text piece by piece for pre-training.

The template is append-only: what stands for a message depends on that message alone (and on the tools), so a conversation that
goes on begins with exactly the text it had before, and recorded turns can be continued without tokenizing them again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from scripts.tiny_model.tokenizer import TURN_END, TURN_START

MARKERS = ("<tool_call>", "</tool_call>", '{"name": "', '", "arguments": {"', '": "', '"}}')
"""Tokens of their own that stay in decoded text: the joints of a tool call."""


CHAT_TEMPLATE = r"""
{%- macro text_of(content) -%}
{%- if content is string %}{{- content }}
{%- elif content %}{%- for part in content %}{%- if part.text is defined %}{{- part.text }}{%- endif %}{%- endfor %}
{%- endif %}
{%- endmacro -%}
{%- set opens_with_system = messages and messages[0].role == 'system' %}
{%- if opens_with_system or tools %}
{{- '<|im_start|>system\n' }}
{%- if opens_with_system %}{{- text_of(messages[0].content) }}{%- endif %}
{%- if tools %}
{%- if opens_with_system %}{{- '\n' }}{%- endif %}
{{- 'Tools:' }}
{%- for tool in tools %}
{%- if tool.function %}{%- set tool = tool.function %}{%- endif %}
{{- '\n' + tool.name + '(' }}
{%- set parameters = tool.parameters or {} %}
{%- for name, schema in (parameters.properties or {}).items() %}
{{- ', ' if not loop.first }}
{{- name }}
{%- if name not in (parameters.required or []) %}{{- '?' }}{%- endif %}
{{- ': ' + (schema.type if schema.type is string else 'any') }}
{%- endfor %}
{{- ')' }}
{%- if tool.description %}{{- ' ' + tool.description }}{%- endif %}
{%- endfor %}
{%- endif %}
{{- '<|im_end|>\n' }}
{%- endif %}
{%- for message in messages %}
{%- if message.role == 'system' and loop.first %}{%- continue %}{%- endif %}
{{- '<|im_start|>' + message.role + '\n' + text_of(message.content) }}
{%- for call in message.tool_calls or [] %}
{%- if call.function %}{%- set call = call.function %}{%- endif %}
{{- '<tool_call>{"name": "' + call.name + '", "arguments": ' }}
{%- if call.arguments is string %}{{- call.arguments }}{%- else %}{{- call.arguments | tojson }}{%- endif %}
{{- '}</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}
""".strip()


def prompt_text(system: str, question: str, tools: Sequence[dict[str, Any]]) -> str:
    """Gives what the template makes of a system prompt and a question, up to where the assistant speaks."""
    shown = "".join(f"\n{_signature(tool['function'])}" for tool in tools)
    return (
        f"{TURN_START}system\n{system}\nTools:{shown}{TURN_END}\n"
        f"{TURN_START}user\n{question}{TURN_END}\n{TURN_START}assistant\n"
    )


def assistant_text(said: str) -> str:
    """Gives what the model says in one turn, its end included."""
    return said + TURN_END


def calls_text(calls: Sequence[dict[str, Any]]) -> str:
    """Gives tool calls, `{"name", "arguments"}` each, as the model writes them."""
    return "".join(f"<tool_call>{json.dumps(call, ensure_ascii=False)}</tool_call>" for call in calls)


def tool_turn_text(results: Sequence[str]) -> str:
    """Gives what stands between an assistant turn with calls and the next: the tools' results."""
    turns = "".join(f"{TURN_START}tool\n{result}{TURN_END}\n" for result in results)
    return f"\n{turns}{TURN_START}assistant\n"


def _signature(function: dict[str, Any]) -> str:
    parameters = function["parameters"]
    named = ", ".join(
        f"{name}{'' if name in parameters['required'] else '?'}: {schema['type']}"
        for name, schema in parameters["properties"].items()
    )
    return f"{function['name']}({named}) {function['description']}"
