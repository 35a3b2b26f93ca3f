"""Trains the tool-calling model's tokenizer: byte-level BPE with single digits, and whole tokens for the joints of tool calls.

A call like `<tool_call>{"name": "lookup", "arguments": {"item": "lamp"}}</tool_call>` takes nine tokens. Byte-level means that
every other text can be encoded too and comes back unchanged.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from examples.tool_agent.server.shop import ITEMS
from scripts.tiny_model.tokenizer import CONTEXT, END_OF_TEXT, OTHER_TEXT, PIECES, SPECIAL, TURN_END
from scripts.tiny_model.tools.demonstrations import SYSTEM_PROMPTS, Habit, demonstration
from scripts.tiny_model.tools.questions import PLURALS, Part, question
from scripts.tiny_model.tools.template import CHAT_TEMPLATE

VOCABULARY = 1024
MARKERS = ("<tool_call>", "</tool_call>", '{"name": "', '", "arguments": {"', '": "', '"}}')
"""Tokens of their own that stay in decoded text."""

_ROUNDS = 5


def _corpus(conversations: int) -> Iterator[str]:
    for index in range(conversations):
        rng = random.Random(f"tokenizer/{index}")
        item = question("tokenizer", index, Part.PRETRAIN)
        for segment in demonstration(item, rng.choice(list(Habit)), rng):
            yield segment.text
    for _ in range(_ROUNDS):
        yield from SYSTEM_PROMPTS
        for item in ITEMS:
            yield f"{item} {PLURALS[item]}"
        yield OTHER_TEXT


def train(conversations: int = 3000) -> Tokenizer:
    """Trains the tokenizer; deterministic."""
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(PIECES), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    added = [AddedToken(text, special=True, normalized=False) for text in SPECIAL]
    added += [AddedToken(text, special=False, normalized=False) for text in MARKERS]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(added),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=2,
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(conversations), trainer)
    tokenizer.add_tokens(added)
    return tokenizer


def save(tokenizer: Tokenizer, out: Path) -> None:
    """Writes `tokenizer.json` and `tokenizer_config.json`."""
    out.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(out / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": CONTEXT,
        "bos_token": None,
        "eos_token": TURN_END,
        "pad_token": END_OF_TEXT,
        "unk_token": None,
        "additional_special_tokens": list(SPECIAL[1:]),
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "errors": "replace",
        "chat_template": CHAT_TEMPLATE,
    }
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
