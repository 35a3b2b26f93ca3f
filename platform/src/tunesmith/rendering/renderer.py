"""`Renderer`: the tokenizer and chat template of one model folder.

Conversations of several turns keep the ids that were sampled: `continue_turn` puts a recorded turn and what was said since
behind each other without tokenizing the model's own words a second time.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from tunesmith.errors import InvalidArgument
from tunesmith.rendering.encoding import TextEncoder
from tunesmith.rendering.families import FAMILIES, Family, FamilyFormat, family_of
from tunesmith.rendering.formats import ChatFormat, TemplateFormat
from tunesmith.rendering.messages import normalize_messages
from tunesmith.rendering.parsing import PartialMessage, Syntax
from tunesmith.rendering.templates import ChatTemplate
from tunesmith.rendering.vocabulary import Vocabulary

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Renderer:
    """Messages to ids and back. Make it with `Renderer.load`; safe for several threads."""

    name: str
    """The model, in error messages."""
    tokenizer: Tokenizer
    vocabulary: Vocabulary
    encoder: TextEncoder
    chat_format: ChatFormat | None
    """How conversations become ids; None where the model has no chat template."""
    syntax: Syntax
    """How what the model wrote is read."""
    context_length: int
    """Longest sequence the model can hold, in tokens, prompt and completion together."""
    vocab_size: int
    """Rows of the embedding; ids of the tokenizer may be fewer."""
    eos_ids: tuple[int, ...]
    """Ids that end a turn."""

    @classmethod
    def load(cls, folder: Path, name: str | None = None, family: str | None = None) -> Renderer:
        """Read tokenizer.json, config.json, generation_config.json and the chat template of a model folder.

        `family` is the catalogue's word for the model's family; without it the family is found from config.json and the
        template. Raises InvalidArgument when a file is missing or cannot be read.
        """
        name = name or str(folder)
        config = _read_json(folder / "config.json", name)
        generation = _read_json(folder / "generation_config.json", name, optional=True)
        settings = _read_json(folder / "tokenizer_config.json", name, optional=True)
        text_config = {**config, **(config.get("text_config") or {})}
        try:
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:
            raise InvalidArgument(f"{folder / 'tokenizer.json'} of {name} cannot be read: {error}") from error
        tokenizer.no_padding()
        tokenizer.no_truncation()
        try:
            context_length, vocab_size = int(text_config["max_position_embeddings"]), int(text_config["vocab_size"])
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidArgument(f"config.json of {name} gives no max_position_embeddings or vocab_size.") from error
        vocabulary, encoder = Vocabulary(tokenizer), TextEncoder(tokenizer)
        eos_ids = _eos_ids(generation, text_config)
        source = _template_source(folder, settings)
        chat_format: ChatFormat | None = None
        syntax = Syntax.of_template(source or "")
        if source:
            own = TemplateFormat(ChatTemplate(source, _special_tokens(settings), name), encoder, vocabulary, eos_ids)
            chat_format = own
            known = FAMILIES[family] if family else family_of(config.get("model_type"), source)
            if known:
                of_family = _of_family(known, tokenizer, encoder, own, name)
                chat_format = of_family or own
                syntax = known.syntax if family or of_family else syntax
        return cls(
            name=name,
            tokenizer=tokenizer,
            vocabulary=vocabulary,
            encoder=encoder,
            chat_format=chat_format,
            syntax=syntax,
            context_length=context_length,
            vocab_size=vocab_size,
            eos_ids=eos_ids,
        )

    @property
    def format_name(self) -> str:
        """The family whose code renders, or `chat_template`."""
        return self.chat_format.family.name if isinstance(self.chat_format, FamilyFormat) else "chat_template"

    def mentions(self, variable: str) -> bool:
        """Whether a template variable (`enable_thinking`, ...) has an effect on what is rendered."""
        return self.chat_format is not None and self.chat_format.mentions(variable)

    def render(
        self,
        messages: Sequence[Any],
        tools: list[dict[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        **variables: Any,
    ) -> list[int]:
        """The prompt's token ids. `variables` reach the template (`enable_thinking`, ...).

        A special token that is spelled in a message stays text. Raises InvalidArgument when a message is not understood or
        the template refuses them.
        """
        return self._format().render(normalize_messages(messages), tools, add_generation_prompt, **variables)

    def continue_turn(
        self,
        messages: Sequence[Any],
        turn: int,
        prompt_ids: Sequence[int],
        sampled_ids: Sequence[int],
        tools: list[dict[str, Any]] | None = None,
        **variables: Any,
    ) -> list[int] | None:
        """Ids of `messages` whose item number `turn` is an assistant message that was sampled as `sampled_ids` after `prompt_ids`.

        They begin with both. None when the past is shown differently from how it was sampled (the template drops old
        reasoning, say): then the conversation forks and is rendered anew.
        """
        return self._format().extend(normalize_messages(messages), turn, prompt_ids, sampled_ids, tools, **variables)

    def encode(self, text: str) -> list[int]:
        """Token ids of text; special tokens spelled in it become their ids, none are added."""
        return self.encoder.encode(text)

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        """Text of token ids."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens)

    def token_bytes(self, id: int) -> bytes:
        """The bytes of one token; a token may be part of a character."""
        return self.vocabulary.token_bytes(id)

    def parse(
        self,
        text: str,
        tools: bool = True,
        token_ids: Sequence[int] | None = None,
        prompt_ids: Sequence[int] | None = None,
    ) -> dict[str, Any]:
        """The assistant message of a completion: `content`, and `reasoning_content` and `tool_calls` where there are any.

        Tool calls are read when `tools` were offered; what is no valid call stays in the content word for word. `text` is
        the completion as the user sees it, `token_ids` what was sampled and `prompt_ids` what it was sampled after.
        """
        in_reasoning = self._in_reasoning(prompt_ids)
        message = self.syntax.parse(text, tools, in_reasoning)
        calls = message.get("tool_calls")
        if calls and token_ids and not self._format().confirms(token_ids, prompt_ids or (), len(calls)):
            return self.syntax.parse(text, False, in_reasoning)  # spelled with other tokens than calls are: only text
        return message

    def partial(self, text: str, tools: bool = True, prompt_ids: Sequence[int] | None = None) -> PartialMessage:
        """What of an unfinished completion's text may be streamed: a prefix of what `parse` gives for the whole of it."""
        return self.syntax.partial(text, tools, self._in_reasoning(prompt_ids))

    def _format(self) -> ChatFormat:
        if self.chat_format is None:
            raise InvalidArgument(
                f"{self.name} has no chat template (tokenizer_config.json or chat_template.jinja), so it cannot chat."
            )
        return self.chat_format

    def _in_reasoning(self, prompt_ids: Sequence[int] | None) -> bool:
        """Whether the prompt ends with an open think block."""
        return self.syntax.reasoning and self.decode((prompt_ids or ())[-8:]).rstrip().endswith("<think>")


def _of_family(
    family: Family, tokenizer: Tokenizer, encoder: TextEncoder, own: TemplateFormat, name: str
) -> FamilyFormat | None:
    """The family's format if it gives the ids of the model's own template, else None with a line in the log."""
    try:
        found = FamilyFormat(family, tokenizer, encoder)
        difference = found.difference(own)
    except InvalidArgument as error:
        difference = error.message
    else:
        if difference is None:
            return found
    log.warning(
        "%s is not rendered as %s, because its own chat template differs (%s); its template renders it.",
        name,
        family.name,
        difference,
    )
    return None


def _read_json(path: Path, name: str, optional: bool = False) -> dict[str, Any]:
    if optional and not path.exists():
        return {}
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InvalidArgument(f"{path} of {name} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise InvalidArgument(f"{path} of {name} is not a JSON object.")
    return content


def _template_source(folder: Path, settings: dict[str, Any]) -> str | None:
    file = folder / "chat_template.jinja"
    if file.exists():
        return file.read_text()
    source = settings.get("chat_template")
    if isinstance(source, list):  # several named templates: the one called "default"
        source = next((item.get("template") for item in source if item.get("name") == "default"), None)
    return source if isinstance(source, str) else None


def _special_tokens(settings: dict[str, Any]) -> dict[str, str]:
    tokens = {}
    for key in ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"):
        value = settings.get(key)
        if isinstance(value, dict):
            value = value.get("content")
        if isinstance(value, str):
            tokens[key] = value
    return tokens


def _eos_ids(generation: dict[str, Any], config: dict[str, Any]) -> tuple[int, ...]:
    ids: list[int] = []
    for source in (generation, config):
        value = source.get("eos_token_id")
        if value is not None:
            ids += value if isinstance(value, list) else [int(value)]
    return tuple(dict.fromkeys(ids))
