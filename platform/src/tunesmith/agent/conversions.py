"""What would have to change before rows can be trained on: proposed with a count and an example, applied to copies.

Nothing of the user's is changed, and nothing is changed that was not listed. Conversions look at one row at a time, so
that a dataset of any size streams through; only where some lists of labels hold one label and others several, all become JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from typing import Any

from tunesmith.agent.rows import Row, RowFormat, columns_of, format_of, text_of
from tunesmith.schemas.wire import JobInput


class ConversionName(StrEnum):
    """The conversions, in the order in which they are applied."""

    COLUMNS = "columns"
    CONTENT_PARTS = "content_parts"
    TOOL_ROLES = "tool_roles"
    SYSTEM_FIRST = "system_first"
    GROUND_TRUTH_LABEL = "ground_truth_label"
    GROUND_TRUTH = "ground_truth"


DESCRIPTIONS = {
    ConversionName.COLUMNS: "the columns of prompt and answer become a user and an assistant message",
    ConversionName.CONTENT_PARTS: "content in text parts becomes plain text",
    ConversionName.TOOL_ROLES: "messages of role `function` become `tool` messages, and `function_call` becomes `tool_calls`, with ids",
    ConversionName.SYSTEM_FIRST: "system messages move to the front, as one",
    ConversionName.GROUND_TRUTH_LABEL: "`ground_truth`, a list of one label, becomes the assistant message at the end",
    ConversionName.GROUND_TRUTH: "`ground_truth` becomes the assistant message at the end",
}
SHOWN_TEXT, SHOWN_ITEMS = 500, 50
"""Characters of a text, items of a list, that the example of a conversion shows."""


class Conversion(JobInput):
    """One conversion that a dataset needs."""

    name: ConversionName
    description: str
    rows: int
    """How many rows it changes."""
    line: int
    """The first of them, from 1."""
    before: dict[str, Any]
    after: dict[str, Any]
    """That row before and after this conversion (and those applied before it); long texts and lists are cut short."""


class Proposal:
    """Collects what the rows of a dataset need, row by row."""

    def __init__(self, names: Iterable[ConversionName] = tuple(ConversionName)) -> None:
        self._names = [name for name in ConversionName if name in set(names)]
        self._found: dict[ConversionName, Conversion] = {}
        self._lists = False  # whether a list of other than one label became JSON

    def convert(self, row: Row, line: int) -> Row:
        """The row with every conversion applied that it needs; the same object where it needs none."""
        for name in self._names:
            changed = _FUNCTIONS[name](row)
            if changed is None:
                continue
            found = self._found.get(name)
            self._lists |= name is ConversionName.GROUND_TRUTH and isinstance(row["ground_truth"], list)
            if found is None:
                self._found[name] = Conversion(
                    name=name,
                    description=DESCRIPTIONS[name],
                    rows=1,
                    line=line,
                    before=_shortened(row),
                    after=_shortened(changed),
                )
            else:
                found.rows += 1
            row = changed
        return row

    @property
    def conversions(self) -> list[Conversion]:
        """What was needed so far, in the order of application."""
        found = [self._found[name] for name in self._names if name in self._found]
        single = self._found.get(ConversionName.GROUND_TRUTH_LABEL)
        if not (self._lists and single):
            return found
        several = self._found[ConversionName.GROUND_TRUTH]
        both = several.model_copy(update={"rows": several.rows + single.rows})
        return [*(item for item in found if item.name not in (single.name, several.name)), both]


def propose(rows: Iterable[Row], names: Sequence[ConversionName] = tuple(ConversionName)) -> list[Conversion]:
    """What the rows need, of the named conversions."""
    proposal = Proposal(names)
    for line, row in enumerate(rows, start=1):
        proposal.convert(row, line)
    return proposal.conversions


def apply(rows: Iterable[Row], names: Iterable[ConversionName | str]) -> Iterator[Row]:
    """The rows with the named conversions applied where they are needed. What is given stays as it is.

    Raises ValueError for a name that is no conversion.
    """
    proposal = Proposal([ConversionName(name) for name in names])
    return (proposal.convert(row, line) for line, row in enumerate(rows, start=1))


def answer_text(ground_truth: Any) -> str:
    """A gold answer as the assistant would write it: text as it is, the rest as JSON."""
    return ground_truth if isinstance(ground_truth, str) else json.dumps(ground_truth, ensure_ascii=False)


def one_label(ground_truth: Any) -> str | None:
    """The label of a list of one label; None for anything else."""
    single = isinstance(ground_truth, list) and len(ground_truth) == 1 and isinstance(ground_truth[0], str)
    return ground_truth[0] if single else None


def _shortened(value: Any) -> Any:
    """A JSON value for people to look at."""
    if isinstance(value, dict):
        return {key: _shortened(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_shortened(item) for item in value[:SHOWN_ITEMS]] + (["…"] if len(value) > SHOWN_ITEMS else [])
    return f"{value[:SHOWN_TEXT]}…" if isinstance(value, str) and len(value) > SHOWN_TEXT else value


def _columns(row: Row) -> Row | None:
    columns = columns_of(row)
    if columns is None or format_of(row) is not RowFormat.COLUMNS:
        return None
    prompt, answer = columns
    asked = row[prompt]
    used = {prompt, answer}
    if prompt == "instruction" and isinstance(row.get("input"), str):
        used.add("input")
        asked = f"{asked}\n\n{row['input']}" if row["input"].strip() else asked
    messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": row[answer]}]
    if isinstance(row.get("system"), str) and row["system"].strip():
        used.add("system")
        messages.insert(0, {"role": "system", "content": row["system"]})
    return {"messages": messages, **{key: value for key, value in row.items() if key not in used}}


def _content_parts(row: Row) -> Row | None:
    return _each_conversation(
        row, lambda messages: [_plain(message) for message in messages] if any(map(_has_parts, messages)) else None
    )


def _has_parts(message: Any) -> bool:
    """Whether the content is a list of nothing but text parts."""
    content = message.get("content") if isinstance(message, dict) else None
    return isinstance(content, list) and all(
        isinstance(part, str)
        or (isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str))
        for part in content
    )


def _plain(message: Any) -> Any:
    return {**message, "content": text_of(message)} if _has_parts(message) else message


def _tool_roles(row: Row) -> Row | None:
    return _each_conversation(row, _rename_tools)


def _rename_tools(messages: list[Any]) -> list[Any] | None:
    if not any(isinstance(m, dict) and (m.get("role") == "function" or m.get("function_call")) for m in messages):
        return None
    renamed: list[Any] = []
    open_ids: list[tuple[str, str]] = []  # (function name, call id) of calls without a result yet
    for number, message in enumerate(messages):
        if not isinstance(message, dict):
            renamed.append(message)
            continue
        message = dict(message)
        call = message.pop("function_call", None)
        if isinstance(call, dict) and call and not message.get("tool_calls"):
            message["tool_calls"] = [{"id": f"call_{number}", "type": "function", "function": call}]
        for made in message.get("tool_calls") or []:
            if isinstance(made, dict) and isinstance(made.get("function"), dict):
                open_ids.append((str(made["function"].get("name")), str(made.get("id", f"call_{number}"))))
        if message.get("role") == "function":
            message["role"] = "tool"
            named = [item for item in open_ids if item[0] == message.get("name")] or open_ids
            if named:
                open_ids.remove(named[0])
            message.setdefault("tool_call_id", named[0][1] if named else f"call_{number}")
        renamed.append(message)
    return renamed


def _system_first(row: Row) -> Row | None:
    return _each_conversation(row, _move_system)


def _move_system(messages: list[Any]) -> list[Any] | None:
    places = [i for i, m in enumerate(messages) if isinstance(m, dict) and m.get("role") in ("system", "developer")]
    if not places or places == [0]:
        return None
    text = "\n\n".join(text for i in places if (text := text_of(messages[i])))
    rest = [message for i, message in enumerate(messages) if i not in places]
    return [{"role": "system", "content": text}, *rest]


def _ground_truth_label(row: Row) -> Row | None:
    text = one_label(row.get("ground_truth"))
    return _answered(row, text) if text is not None else None


def _ground_truth(row: Row) -> Row | None:
    return _answered(row, answer_text(row.get("ground_truth")))


def _answered(row: Row, text: str) -> Row | None:
    if format_of(row) is not RowFormat.PROMPTS_WITH_ANSWER:
        return None
    return {**row, "messages": [*row["messages"], {"role": "assistant", "content": text}]}


def _each_conversation(row: Row, change: Callable[[list[Any]], list[Any] | None]) -> Row | None:
    """Change the messages of a row, and those of a preference pair; None where nothing changes."""
    changed = dict(row)
    for key in ("messages", "preferred_output", "non_preferred_output"):
        if isinstance(row.get(key), list) and (messages := change(row[key])) is not None:
            changed[key] = messages
    inner = row.get("input")
    asked = inner.get("messages") if isinstance(inner, dict) else None
    if isinstance(asked, list) and (messages := change(asked)) is not None:
        changed["input"] = {**row["input"], "messages": messages}
    return changed if any(changed[key] is not row[key] for key in row) else None


_FUNCTIONS: dict[ConversionName, Callable[[Row], Row | None]] = {
    ConversionName.COLUMNS: _columns,
    ConversionName.CONTENT_PARTS: _content_parts,
    ConversionName.TOOL_ROLES: _tool_roles,
    ConversionName.SYSTEM_FIRST: _system_first,
    ConversionName.GROUND_TRUTH_LABEL: _ground_truth_label,
    ConversionName.GROUND_TRUTH: _ground_truth,
}
