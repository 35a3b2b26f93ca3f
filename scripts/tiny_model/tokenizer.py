"""Trains the tokenizers of the tiny models: byte-level BPE, Qwen's special tokens, a ChatML template.

Byte-level means that every string can be encoded and comes back unchanged. A task's corpus gets a page of other text
(drawings, tool calls, plain sentences) beside it, so that the vocabulary is of some use outside the task as well.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

VOCABULARY = 1024
CONTEXT = 4096
END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SPECIAL = (END_OF_TEXT, TURN_START, TURN_END)
# Markers that stay in decoded text, as in Qwen3's tokenizer.
MARKERS = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")

# Qwen2's pattern: contractions, words with one leading mark, single digits, punctuation, line ends, spaces.
PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

ROLES = "system\nuser\nassistant\ntool"

OTHER_TEXT = """\
You are a helpful assistant. Solve the problem step by step. Think first, then give the final answer.
The answer is right. The answer is wrong. Please explain your answer and check every step of the solution.
Hello! How can I help you today? Thank you very much. Yes, of course. No, I am sorry, I do not know that.
What is the capital of the country? Which of these words is the longest? Write a short story about a dog.
Draw a red circle in the center. Draw a large blue square at the top left and a small green triangle at the bottom right.
Draw a yellow bar in the middle. Draw a black star, a white moon, an orange sun and a purple house on a gray background.
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 100 100" width="100" height="100"></svg>
<circle cx="50" cy="50" r="10" fill="red"/> <rect x="20" y="30" width="40" height="20" fill="blue" stroke="black"/>
<polygon points="50,20 80,70 20,70" fill="green"/> <path d="M10 10 L90 90 Z" fill="none"/> <text x="5" y="9">label</text>
<ellipse cx="5" cy="5" rx="2" ry="3" fill="#ff0000"/> <line x1="1" y1="2" x2="3" y2="4" stroke-width="2"/> <g transform="translate(1)">
# Tools\n\nYou may call one or more functions to assist with the user query.
You are provided with function signatures within <tools></tools> XML tags:
For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
{"type": "function", "function": {"name": "get_weather", "description": "Gets the weather of a city.", "parameters":
{"type": "object", "properties": {"city": {"type": "string"}, "number": {"type": "integer"}}, "required": ["city"]}}}
{"name": "calculator", "arguments": {"expression": "1 + 2"}} {"result": 3, "error": null, "ok": true}
SELECT name, count(*) FROM users WHERE status = 'active' GROUP BY name ORDER BY name;
def main(value: int) -> str:\n    return str(value)\n\nif True:\n    print(main(1))\nelse:\n    raise ValueError("message")
It was the first day of the new year, and they were all there: the old man, the young woman, and their three children.
Some people like the summer, others would rather have the winter; but who could say that spring and autumn are not better?
This is a test of the system with a user, an assistant and a tool. The model should learn from every message and reward.
Because there was no water under the bridge, we could walk over to the other side, where another road went up the hill.
"""

CHAT_TEMPLATE = r"""
{%- if tools %}
{{- '<|im_start|>system\n' }}
{%- if messages and messages[0].role == 'system' %}{{- messages[0].content + '\n\n' }}{%- endif %}
{{- '# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided with function signatures within <tools></tools> XML tags:\n<tools>' }}
{%- for tool in tools %}{{- '\n' + (tool | tojson) }}{%- endfor %}
{{- '\n</tools>\n\nFor each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call><|im_end|>\n' }}
{%- elif messages and messages[0].role == 'system' %}
{{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}
{%- endif %}
{%- for message in messages %}
{%- if message.content is string %}{%- set content = message.content %}
{%- elif message.content %}
{%- set parts = namespace(text='') %}
{%- for part in message.content %}{%- if part.text is defined %}{%- set parts.text = parts.text + part.text %}{%- endif %}{%- endfor %}
{%- set content = parts.text %}
{%- else %}{%- set content = '' %}{%- endif %}
{%- if message.role == 'user' or (message.role == 'system' and not loop.first) %}
{{- '<|im_start|>' + message.role + '\n' + content + '<|im_end|>\n' }}
{%- elif message.role == 'assistant' %}
{{- '<|im_start|>assistant\n' }}
{%- if message.reasoning_content is string and message.reasoning_content %}{{- '<think>\n' + message.reasoning_content.strip('\n') + '\n</think>\n' }}{%- endif %}
{{- content }}
{%- for call in message.tool_calls or [] %}
{%- if call.function %}{%- set call = call.function %}{%- endif %}
{%- if content or not loop.first %}{{- '\n' }}{%- endif %}
{{- '<tool_call>\n{"name": "' + call.name + '", "arguments": ' }}
{%- if call.arguments is string %}{{- call.arguments }}{%- else %}{{- call.arguments | tojson }}{%- endif %}
{{- '}\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>' }}
{{- '\n' }}
{%- elif message.role == 'tool' %}
{%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}{{- '<|im_start|>user' }}{%- endif %}
{{- '\n<tool_response>\n' + content + '\n</tool_response>' }}
{%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{- '<|im_end|>\n' }}{%- endif %}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}
""".strip()


def train(corpus: Iterable[str], *, pieces: str = PIECES, markers: Sequence[str] = MARKERS) -> Tokenizer:
    """Trains a tokenizer; deterministic.

    Args:
        corpus: Texts to learn merges from.
        pieces: Pattern of the pieces that merges never cross.
        markers: Tokens of their own that stay in decoded text.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pieces), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    added = [AddedToken(text, special=True, normalized=False) for text in SPECIAL]
    added += [AddedToken(text, special=False, normalized=False) for text in markers]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(added),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=2,
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.add_tokens(added)
    return tokenizer


def save(tokenizer: Tokenizer, out: Path, chat_template: str = CHAT_TEMPLATE) -> None:
    """Writes ``tokenizer.json`` and ``tokenizer_config.json``."""
    out.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(out / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": CONTEXT,
        "bos_token": None,
        "eos_token": TURN_END,
        "pad_token": END_OF_TEXT,
        "unk_token": None,
        "additional_special_tokens": [TURN_START, TURN_END],
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "errors": "replace",
        "chat_template": chat_template,
    }
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
