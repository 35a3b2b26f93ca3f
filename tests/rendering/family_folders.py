"""Model folders of known families without a trained model: their special tokens, a small tokenizer trained on the spot, and a
chat template that writes the documented format of the family in our own words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

CORPUS = [
    "You may call one or more functions to assist with the user query. You are provided with function signatures.",
    'assistant user system tool {"name": "add", "arguments": {"a": 1}} {"type": "function", "parameters": {}}',
    "What is the answer? The answer is 42.\n\nBe brief. Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n",
]

QWEN3 = """\
{%- macro call(c) %}<tool_call>
{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments if c.function.arguments is string else c.function.arguments | tojson }}}
</tool_call>{% endmacro %}
{%- set ns = namespace(query=messages | length - 1, found=false) %}
{%- for m in messages | reverse %}
{%- if m.role == 'user' and not ns.found and not (m.content.startswith('<tool_response>') and m.content.endswith('</tool_response>')) %}
{%- set ns.found = true %}{%- set ns.query = messages | length - loop.index %}{%- endif %}
{%- endfor %}
{%- set leading = messages[0].content if messages[0].role == 'system' else none %}
{%- if tools %}
{{- '<|im_start|>system\\n' }}{{- leading + '\\n\\n' if leading is not none else '' }}
{{- '# Tools\\n\\nYou may call one or more functions to assist with the user query.\\n\\nYou are provided with function signatures' }}
{{- ' within <tools></tools> XML tags:\\n<tools>' }}
{%- for tool in tools %}{{- '\\n' ~ (tool | tojson) }}{%- endfor %}
{{- '\\n</tools>\\n\\nFor each function call, return a json object with function name and arguments within <tool_call></tool_call>' }}
{{- ' XML tags:\\n<tool_call>\\n{"name": <function-name>, "arguments": <args-json-object>}\\n</tool_call><|im_end|>\\n' }}
{%- elif leading is not none %}{{- '<|im_start|>system\\n' ~ leading ~ '<|im_end|>\\n' }}{%- endif %}
{%- for m in messages %}
{%- if m.role == 'user' or (m.role == 'system' and not loop.first) %}
{{- '<|im_start|>' ~ m.role ~ '\\n' ~ m.content ~ '<|im_end|>\\n' }}
{%- elif m.role == 'assistant' %}
{%- set ns.content = m.content %}{%- set ns.thought = m.reasoning_content if m.reasoning_content is string else '' %}
{%- if not ns.thought and '</think>' in m.content %}
{%- set ns.thought = m.content.split('</think>')[0].split('<think>')[-1] %}
{%- set ns.content = m.content.split('</think>')[-1].lstrip('\\n') %}{%- endif %}
{{- '<|im_start|>assistant\\n' }}
{%- if loop.index0 > ns.query and (loop.last or ns.thought) %}
{{- '<think>\\n' ~ ns.thought.strip('\\n') ~ '\\n</think>\\n\\n' ~ ns.content.lstrip('\\n') }}
{%- else %}{{- ns.content }}{%- endif %}
{%- for c in m.tool_calls or [] %}
{%- if ns.content or not loop.first %}{{- '\\n' }}{%- endif %}{{- call(c) }}{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- elif m.role == 'tool' %}
{%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}{{- '<|im_start|>user' }}{%- endif %}
{{- '\\n<tool_response>\\n' ~ m.content ~ '\\n</tool_response>' }}
{%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{- '<|im_end|>\\n' }}{%- endif %}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}
{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}{%- endif %}
"""

LLAMA3 = """\
{%- macro head(role) %}{{- '<|start_header_id|>' ~ role ~ '<|end_header_id|>\\n\\n' }}{% endmacro %}
{%- if tools_in_user_message is not defined %}{%- set tools_in_user_message = true %}{%- endif %}
{%- if date_string is not defined %}{%- set date_string = strftime_now('%d %b %Y') %}{%- endif %}
{%- set how = 'Respond in the format {"name": function name, "parameters": dictionary of argument name and its value}.Do not use variables.\\n\\n' %}
{%- set system = '' %}
{%- if messages[0].role == 'system' %}{%- set system = messages[0].content | trim %}{%- set messages = messages[1:] %}{%- endif %}
{{- bos_token }}{{- head('system') }}
{%- if tools %}{{- 'Environment: ipython\\n' }}{%- endif %}
{{- 'Cutting Knowledge Date: December 2023\\nToday Date: ' ~ date_string ~ '\\n\\n' }}
{%- if tools and not tools_in_user_message %}
{{- 'You have access to the following functions. To call a function, please respond with JSON for a function call.' ~ how }}
{%- for tool in tools %}{{- tool | tojson(indent=4) }}{{- '\\n\\n' }}{%- endfor %}{%- endif %}
{{- system ~ '<|eot_id|>' }}
{%- if tools and tools_in_user_message %}
{{- head('user') }}
{{- 'Given the following functions, please respond with a JSON for a function call with its proper arguments that best answers' }}
{{- ' the given prompt.\\n\\n' ~ how }}
{%- for tool in tools %}{{- tool | tojson(indent=4) }}{{- '\\n\\n' }}{%- endfor %}
{{- messages[0].content | trim ~ '<|eot_id|>' }}{%- set messages = messages[1:] %}{%- endif %}
{%- for m in messages %}
{%- if m.role in ('tool', 'ipython') %}{{- head('ipython') ~ (m.content | tojson) ~ '<|eot_id|>' }}
{%- elif m.tool_calls %}
{%- if m.tool_calls | length != 1 %}{{- raise_exception('one tool call at a time') }}{%- endif %}
{%- set f = m.tool_calls[0].function %}
{{- head('assistant') ~ '{"name": "' ~ f.name ~ '", "parameters": ' ~ (f.arguments | tojson) ~ '}<|eot_id|>' }}
{%- else %}{{- head(m.role) ~ (m.content | trim) ~ '<|eot_id|>' }}{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- head('assistant') }}{%- endif %}
"""

SPECIAL = {
    "qwen3": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    "llama": [
        "<|begin_of_text|>",
        "<|end_of_text|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eom_id|>",
        "<|eot_id|>",
        "<|python_tag|>",
    ],
}
ADDED = {
    "qwen3": ["<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>"],
    "llama": [],
}
"""Single tokens that are no special tokens, as in the family's own vocabulary."""
END = {"qwen3": "<|im_end|>", "llama": "<|eot_id|>"}


WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
"""How both families cut text into words; line feeds stay together whatever follows."""


def make_family_folder(folder: Path, model_type: str, template: str, words: str | None = WORDS) -> Path:
    """Write config, tokenizer and template; no weights. `words` None cuts words as GPT-2 does."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.BPE())
    split = [pre_tokenizers.Split(Regex(words), "isolated")] if words else []
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not words)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*split, bytes_])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        CORPUS * 3, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    )
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL[model_type]])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in ADDED[model_type]])
    tokenizer.save(str(folder / "tokenizer.json"))
    config: dict[str, Any] = {
        "model_type": model_type,
        "max_position_embeddings": 4096,
        "vocab_size": tokenizer.get_vocab_size(),
        "eos_token_id": tokenizer.token_to_id(END[model_type]),
    }
    (folder / "config.json").write_text(json.dumps(config))
    settings = {"bos_token": "<|begin_of_text|>" if model_type == "llama" else None, "eos_token": END[model_type]}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "chat_template.jinja").write_text(template)
    return folder
