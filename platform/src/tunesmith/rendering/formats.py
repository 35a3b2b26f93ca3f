"""How a conversation becomes ids: with the model's own chat template, or with the code of its family (`families.py`).

Both render whole conversations and extend a recorded turn; both take messages as `normalize_messages` leaves them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from tunesmith.errors import InvalidArgument
from tunesmith.rendering.encoding import TextEncoder
from tunesmith.rendering.templates import ChatTemplate
from tunesmith.rendering.vocabulary import Vocabulary

Messages = list[dict[str, Any]]
Tools = list[dict[str, Any]] | None


class ChatFormat(Protocol):
    """One way to turn conversations into ids."""

    def mentions(self, variable: str) -> bool:
        """Whether a template variable has an effect."""
        ...

    def render(self, messages: Messages, tools: Tools, add_generation_prompt: bool, **variables: Any) -> list[int]:
        """Ids of a conversation. Raises InvalidArgument when it cannot be shown."""
        ...

    def extend(
        self,
        messages: Messages,
        turn: int,
        prompt_ids: Sequence[int],
        sampled_ids: Sequence[int],
        tools: Tools,
        **variables: Any,
    ) -> list[int] | None:
        """Ids of a conversation whose item `turn` was sampled as `sampled_ids` after `prompt_ids`, and begin with both.

        None when the format does not show that past in this way.
        """
        ...

    def confirms(self, token_ids: Sequence[int], prompt_ids: Sequence[int], calls: int) -> bool:
        """Whether the sampled ids hold so many tool calls, as far as ids tell more than their text."""
        ...


class TemplateFormat:
    """The model's own chat template."""

    def __init__(
        self, template: ChatTemplate, encoder: TextEncoder, vocabulary: Vocabulary, eos_ids: Sequence[int]
    ) -> None:
        self._template = template
        self._encoder = encoder
        self._vocabulary = vocabulary
        self._eos_ids = eos_ids

    def mentions(self, variable: str) -> bool:
        """Whether the template reads a variable."""
        return self._template.mentions(variable)

    def render(self, messages: Messages, tools: Tools, add_generation_prompt: bool, **variables: Any) -> list[int]:
        """Ids of a conversation."""
        (messages, tools), marked = self._mark(messages, tools)
        text = self._template.render(messages, tools, add_generation_prompt, **variables)
        return self._encoder.encode_marked(text) if marked else self._encoder.encode(text)

    def extend(
        self,
        messages: Messages,
        turn: int,
        prompt_ids: Sequence[int],
        sampled_ids: Sequence[int],
        tools: Tools,
        **variables: Any,
    ) -> list[int] | None:
        """The recorded ids and behind them what the template writes after that turn, if it writes the same before it."""
        (messages, tools), marked = self._mark(messages, tools)
        closed = bool(sampled_ids) and sampled_ids[-1] in self._eos_ids
        end = self._vocabulary.token_bytes(sampled_ids[-1]).decode() if closed else ""
        thought = "</think>" in self._vocabulary.text(sampled_ids)
        tail = self._tail_of_stand_in(messages, turn, thought, tools, variables)
        if tail is None and not thought:
            tail = self._tail_of_turn(messages, turn, end, tools, variables)
        if tail is None or not tail.startswith(end):  # the model ended its turn itself: the template must not again
            return None
        tail = tail[len(end) :]
        rest = self._encoder.encode_marked(tail) if marked else self._encoder.encode(tail)
        return [*prompt_ids, *sampled_ids, *rest]

    def confirms(self, token_ids: Sequence[int], prompt_ids: Sequence[int], calls: int) -> bool:
        """Always: of a template nothing more is known than the text."""
        return True

    def _mark(self, messages: Messages, tools: Tools) -> tuple[tuple[Messages, Tools], bool]:
        """Mark special tokens that are spelled in messages or tools, so that they stay text."""
        (messages, tools), marked = self._encoder.mark([messages, tools])
        return (messages, tools), marked

    def _tail_of_stand_in(
        self, messages: Messages, turn: int, thought: bool, tools: Tools, variables: dict[str, Any]
    ) -> str | None:
        """What the template writes behind the turn, seen by putting a stand-in at its place.

        None when the template writes something else in front of it than when it was sampled, or takes a think block away.
        """
        stand_in = f"<think>\n{_SENTINEL}\n</think>\n\n{_SENTINEL}" if thought else _SENTINEL
        conversation = [*messages]
        conversation[turn] = {"role": "assistant", "content": stand_in}
        try:
            before = self._template.render(conversation[:turn], tools, True, **variables)
            whole = self._template.render(conversation, tools, True, **variables)
        except InvalidArgument:  # the template wants to see the turn itself, its tool calls say
            return None
        head, found, tail = whole.partition(stand_in)
        return tail if found and head == before else None

    def _tail_of_turn(
        self, messages: Messages, turn: int, end: str, tools: Tools, variables: dict[str, Any]
    ) -> str | None:
        """The same for templates that want to see the turn's tool calls: what is written behind the turn as it came back."""
        if not messages[turn].get("tool_calls"):
            return None
        try:
            before = self._template.render(messages[:turn], tools, True, **variables)
            until = self._template.render(messages[: turn + 1], tools, False, **variables)
            whole = self._template.render(messages, tools, True, **variables)
        except InvalidArgument:
            return None
        at = until.rfind(end, len(before)) if end else -1
        if not (until.startswith(before) and whole.startswith(until)) or at < 0:
            return None  # without an end of the turn that is known, nobody can tell what the template wrote behind it
        return whole[at:]


_SENTINEL = "\ue000recorded turn\ue000"
"""Stands in for a recorded assistant turn while the text around it is rendered; private-use characters, seen in no chat."""
