"""From a row of an SFT dataset to what is trained: token ids, and for each of them what it counts in the loss.

Loss falls on what the model would have sampled: an assistant turn with the id that ends it, not the prompt in front of it. That
prompt is the one that the gateway would send at this point (`Renderer.render(messages[:i])`), id for id.

A template that drops earlier thinking traces shows an earlier turn differently from how it was sampled. Such a conversation is
unrolled at its user messages: one example per user turn, so that each assistant message is trained exactly once, as it is sampled.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tunesmith.errors import InvalidArgument
from tunesmith.rendering.messages import normalize_messages
from tunesmith.rendering.renderer import Renderer

History = Literal["default", "interleaved", "preserved"]
"""Which of the earlier thinking traces are shown: as the template does by itself, those after the last user message, all."""
ROLES = ("system", "developer", "user", "assistant", "tool", "function")
TRAIN_ON = "all_assistant_messages"
_VARIABLES: tuple[dict[str, bool], ...] = (
    {},
    {"preserve_thinking": True},
    {"preserve_thinking": False},
    {"clear_thinking": False},
    {"clear_thinking": True},
)
"""Template variables by which published models choose a history mode, in the order they are tried."""
_EARLY, _LATE = "earlyprobe", "lateprobe"
_PROBE = [
    {"role": "user", "content": "a"},
    {"role": "assistant", "content": "b", "reasoning_content": _EARLY},
    {"role": "user", "content": "c"},
    {"role": "assistant", "content": "d", "reasoning_content": _LATE},
]


@dataclass(frozen=True)
class Example:
    """One sequence to train on."""

    token_ids: list[int]
    weights: list[float]
    """One a token: 0 = given, else what it counts in the loss."""
    text_bytes: int
    """UTF-8 bytes of the trained text; special tokens are none."""


@dataclass(frozen=True)
class HistoryMode:
    """A way of showing earlier thinking traces that a model offers."""

    mode: History
    default: bool
    unrolls: bool
    """Whether conversations of several user turns with traces become several examples."""
    variables: dict[str, bool]


@dataclass(frozen=True)
class Segment:
    """A stretch of an example with one weight, for people to read."""

    text: str
    loss_weight: float


def history_modes(renderer: Renderer) -> list[HistoryMode]:
    """What a model's template can do, its default first; empty where it shows no thinking traces at all."""
    found: dict[str, HistoryMode] = {}
    for variables in _VARIABLES:
        if not all(renderer.mentions(name) for name in variables):
            continue
        try:
            text = renderer.decode(renderer.render(_PROBE, None, False, **variables))
        except InvalidArgument:
            continue
        if _LATE not in text:
            continue
        mode: History = "preserved" if _EARLY in text else "interleaved"
        found.setdefault(mode, HistoryMode(mode, not found, mode == "interleaved", variables))
    return list(found.values())


class ExampleRenderer:
    """Turns the rows of one dataset into examples for one model.

    Attributes:
        renderer: of the model.
        mode: the history mode in use; None where the model shows no thinking traces.
    """

    def __init__(self, renderer: Renderer, history: History = "default", max_tokens: int | None = None) -> None:
        """`max_tokens`: longer examples are cut there; None = the model's context length.

        Raises InvalidArgument when the template cannot do `history`, or `max_tokens` is above the model's context length.
        """
        if max_tokens is not None and not 2 <= max_tokens <= renderer.context_length:
            raise InvalidArgument(
                f"The max context length is {max_tokens}; {renderer.name} takes 2 to {renderer.context_length} tokens."
            )
        self.renderer = renderer
        self._max_tokens = max_tokens or renderer.context_length
        modes = history_modes(renderer)
        self.mode = next((mode for mode in modes if history in ("default", mode.mode)), None)
        if self.mode is None and history != "default":
            can = " and ".join(mode.mode for mode in modes) or "shows no thinking traces at all"
            raise InvalidArgument(
                f"The chat template of {renderer.name} cannot do thinking history {history!r}; it can do: {can}. "
                "Leave the thinking trace history mode unset to use the model's own."
            )
        self._eos = set(renderer.eos_ids)
        self._lengths: dict[int, int] = {}
        self._weighted: bool | None = None

    def examples(self, row: Any) -> list[Example]:
        """The examples of one row, those without a trained token left out (weight 0, or cut away).

        A sample-level weight must be on all rows or on none that this object sees. Raises InvalidArgument with what is wrong.
        """
        if not isinstance(row, dict) or not isinstance(row.get("messages"), list) or not row["messages"]:
            raise InvalidArgument('a row is a JSON object with a list "messages" that is not empty')
        sample_weight = self._sample_weight(row)
        tools = row.get("tools") or None
        if tools is not None and not (isinstance(tools, list) and all(isinstance(tool, dict) for tool in tools)):
            raise InvalidArgument('"tools" is not a list of objects')
        messages, message_weights = self._messages(row["messages"])
        examples = []
        for end, first in self._parts(messages):
            weights = [weight if index >= first else 0.0 for index, weight in enumerate(message_weights[:end])]
            if sample_weight and any(weights):
                examples.append(
                    self.conversation(messages[:end], [sample_weight * weight for weight in weights], tools)
                )
        return [example for example in examples if any(example.weights)]

    def conversation(
        self, messages: list[dict[str, Any]], weights: Sequence[float], tools: list[dict[str, Any]] | None = None
    ) -> Example:
        """One example from a whole conversation (normalized) in which assistant message i counts `weights[i]`.

        Raises InvalidArgument when the template shows an assistant message differently from how it would be sampled.
        """
        variables = self.mode.variables if self.mode else {}
        targets = [index for index, message in enumerate(messages) if message["role"] == "assistant" and weights[index]]
        last = targets[-1]
        whole = self.renderer.render(messages[: last + 1], tools, add_generation_prompt=False, **variables)
        ids: list[int] = []
        token_weights: list[float] = []

        def put(new: Sequence[int], weight: float) -> None:
            ids.extend(new)
            token_weights.extend([weight] * len(new))

        copied = 0  # tokens of `whole` that are in `ids`
        for index in targets:
            if len(ids) >= self._max_tokens:
                break
            prompt = self.renderer.render(messages[:index], tools, add_generation_prompt=True, **variables)
            same = _common(whole, prompt)
            end = self._turn_end(whole, max(same, copied))
            if same == len(prompt) and same >= copied:
                put(whole[copied:same], 0.0)
                put(whole[same:end], weights[index])
            else:
                # The first characters of the answer were tokenized together with the end of the prompt; they are not when sampled.
                put(whole[copied:same], 0.0)
                put(prompt[same:], 0.0)
                put(self._rest(whole[same:end], prompt[same:], same >= copied, index), weights[index])
            copied = end
        ids, token_weights = ids[: self._max_tokens], token_weights[: self._max_tokens]
        if token_weights and token_weights[0]:
            token_weights[0] = 0.0  # nothing predicts the first token
        return Example(ids, token_weights, self._text_bytes(ids, token_weights))

    def _parts(self, messages: list[dict[str, Any]]) -> Iterable[tuple[int, int]]:
        """(end, first trained message) of each example of a conversation."""
        assistants = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
        starts = [0, *(index for index, message in enumerate(messages) if message["role"] == "user" and index)]
        last_user = max(start for start in starts if start <= assistants[-1])
        early_traces = any(messages[index].get("reasoning_content") for index in assistants if index < last_user)
        if not (self.mode and self.mode.unrolls and early_traces):
            return [(assistants[-1] + 1, 0)]
        bounds = zip(starts, [*starts[1:], len(messages)], strict=True)
        return [
            (max(inside) + 1, start)
            for start, end in bounds
            if (inside := [index for index in assistants if start <= index < end])
        ]

    def _sample_weight(self, row: dict[str, Any]) -> float:
        weight = row.get("weight")
        if self._weighted is None:
            self._weighted = weight is not None
        if self._weighted != (weight is not None):
            raise InvalidArgument(
                'a "weight" at the root must be on all rows or on none: this row '
                + ("lacks it, the first row has one" if self._weighted else "has one, the first row has none")
            )
        return 1.0 if weight is None else _number(weight, 'the "weight" at the root')

    def _messages(self, given: list[Any]) -> tuple[list[dict[str, Any]], list[float]]:
        """The messages as templates take them, and what each counts: 0 or 1 for an assistant's, 0 for all others."""
        weights = []
        for index, message in enumerate(given):
            role = message.get("role") if isinstance(message, dict) else None
            if isinstance(message, dict) and role not in ROLES:
                raise InvalidArgument(f"messages[{index}] has the role {role!r}; use one of {', '.join(ROLES)}")
            if role in ("system", "developer") and index:
                raise InvalidArgument(f"messages[{index}] is a system message; only the first message may be one")
            weight = message.get("weight") if isinstance(message, dict) else None
            if weight is not None and (isinstance(weight, bool) or weight not in (0, 1)):
                raise InvalidArgument(f"messages[{index}] has the weight {weight!r}; a message's weight is 0 or 1")
            weights.append((1.0 if weight is None else float(weight)) if role == "assistant" else 0.0)
        if not any(isinstance(message, dict) and message.get("role") == "assistant" for message in given):
            raise InvalidArgument("there is no assistant message, so nothing could be trained")
        messages = normalize_messages(given)
        for index, message in enumerate(messages):
            message.pop("weight", None)
            if self.mode is None and message.get("reasoning_content"):
                raise InvalidArgument(
                    f"messages[{index}] has reasoning_content, which the chat template of {self.renderer.name} does not show; "
                    "remove it, write it into the content, or choose a thinking model"
                )
        return messages, weights

    def _turn_end(self, whole: list[int], start: int) -> int:
        """Behind the first id that ends a turn, from `start` on; the end where the template writes none."""
        return next((at + 1 for at in range(start, len(whole)) if whole[at] in self._eos), len(whole))

    def _rest(self, turn: list[int], prompt: list[int], in_order: bool, index: int) -> list[int]:
        """Ids of a turn whose beginning `turn` shares text, but not tokens, with the end of its prompt."""
        text, given = (self._bytes(ids) for ids in (turn, prompt))
        if not in_order or not text.startswith(given):
            raise InvalidArgument(
                f"messages[{index}] is shown by the chat template of {self.renderer.name} differently from how it would be "
                "sampled (the prompt in front of it is not where it begins), so it cannot be trained"
            )
        ends = turn[-1:] if turn and turn[-1] in self._eos else []
        said = text[len(given) : len(text) - len(self._bytes(ends))]
        return [*self.renderer.encoder.encode_text(said.decode(errors="replace")), *ends]

    def _bytes(self, ids: Sequence[int]) -> bytes:
        return b"".join(map(self.renderer.token_bytes, ids))

    def _text_bytes(self, ids: list[int], weights: list[float]) -> int:
        return sum(self._length(id) for id, weight in zip(ids, weights, strict=True) if weight)

    def _length(self, id: int) -> int:
        found = self._lengths.get(id)
        if found is None:
            special = self.renderer.vocabulary.is_special(id)
            found = self._lengths[id] = 0 if special else len(self.renderer.token_bytes(id))
        return found


def segments(renderer: Renderer, example: Example) -> list[Segment]:
    """An example as text; the texts behind each other are all of it."""
    found: list[tuple[float, list[int]]] = []
    for id, weight in zip(example.token_ids, example.weights, strict=True):
        if not found or found[-1][0] != weight:
            found.append((weight, []))
        found[-1][1].append(id)
    return [Segment(b"".join(map(renderer.token_bytes, ids)).decode(errors="replace"), weight) for weight, ids in found]


def render_record(renderer: Renderer, example: Example, row: int, line: int, split: int = 0) -> dict[str, Any]:
    """An example token by token, as Render Samples documents it. `row` counts rows from 0, `line` lines from 1."""
    return {
        "source_jsonl_row_index": row,
        "source_jsonl_line_number": line,
        "split_index": split,
        "worker_id": 0,
        "renderer": renderer.format_name,
        "train_on_what": TRAIN_ON,
        "token_ids": example.token_ids,
        "decoded_tokens": [renderer.vocabulary.spelled(id)[0] for id in example.token_ids],
        "token_weights": example.weights,
        "training_target_token_ids": example.token_ids[1:],
        "training_loss_weights": example.weights[1:],
    }


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the longest common beginning."""
    if list(one[: len(other)]) == list(other):
        return len(other)
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _number(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or value - value != 0:
        raise InvalidArgument(f"{what} is {value!r}, not a number")
    return float(value)
