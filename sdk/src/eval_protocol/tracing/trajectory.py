"""From the traces of a rollout to its trajectory, and onto its row.

A trace is one model call: `input` is what the model was shown, `output` what it said. The call with the longest conversation holds the
trajectory; the others add their usage, and with payloads their token ids.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from eval_protocol.datasets.loaders import EvaluationDataLoader
from eval_protocol.exceptions import DataLossError, NotFoundError
from eval_protocol.models import CompletionUsage, EvaluationRow, Message
from eval_protocol.models.remote import DataLoaderConfig
from eval_protocol.tracing.payloads import Decompress, decode

TAKEN = ("role", "content", "reasoning_content", "name", "tool_call_id", "tool_calls", "function_call")

OutputDataLoader = Callable[[DataLoaderConfig], EvaluationDataLoader]
"""From a rollout to a loader of its trajectory, in place of the gateway's traces."""

log = logging.getLogger("eval_protocol.adapters.fireworks_tracing")


@dataclass
class Trajectory:
    """What a rollout did."""

    messages: list[Message]
    tools: list[dict[str, Any]] | None = None
    usage: dict[str, Any] | None = None
    """Summed over the traces that were fetched, unless the gateway says it for the whole rollout."""
    finish_reason: str | None = None
    session_data: dict[str, Any] = field(default_factory=dict)
    """Where it was found; goes beside what the row's own has."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Decoded payloads."""


def trajectory_of(traces: list[dict[str, Any]], decompress: Decompress | None = None) -> Trajectory | None:
    """The trajectory, or None when there is no trace with a message.

    Args:
        decompress: unpacks payloads; None = they are not wanted.

    Raises:
        DataLossError: a message that cannot be read.
    """
    found = [(trace, messages) for trace in traces if (messages := _messages(trace))]
    log.info("Successfully converted %d traces to evaluation rows", len(found))
    if not found:
        return None
    place = max(range(len(found)), key=lambda at: (len(found[at][1]), at))
    trace, messages = found[place]
    metadata = _dict(trace.get("metadata"))
    tools = _dict(trace.get("input")).get("tools")
    trajectory = Trajectory(
        messages=messages,
        tools=tools if isinstance(tools, list) and tools else None,
        usage=_dict(metadata.get("rollout_usage")) or _summed([one for one, _ in found]),
        finish_reason=metadata.get("finish_reason") if isinstance(metadata.get("finish_reason"), str) else None,
        session_data={"langfuse_trace_id": str(trace["id"])} if trace.get("id") else {},
    )
    if decompress is not None:
        _add_payloads(trajectory, found, place, decompress)
    return trajectory


def put_on(row: EvaluationRow, trajectory: Trajectory) -> None:
    """Give a row its trajectory. Ids, status, what the dataset said and what `extra` holds already stay."""
    calls = sum(len(message.tool_calls or ()) for message in trajectory.messages[len(row.messages) :])
    row.messages = trajectory.messages
    row.tools = trajectory.tools or row.tools
    execution = row.execution_metadata
    execution.usage = CompletionUsage.model_validate(trajectory.usage) if trajectory.usage else execution.usage
    execution.finish_reason = trajectory.finish_reason or execution.finish_reason
    execution.tool_call_count = calls
    if trajectory.extra:
        execution.extra = {**trajectory.extra, **(execution.extra or {})}
    if trajectory.session_data:
        row.input_metadata.session_data = {**trajectory.session_data, **(row.input_metadata.session_data or {})}


def loaded(make: OutputDataLoader, config: DataLoaderConfig) -> Trajectory:
    """The longest conversation that an `output_data_loader` finds.

    Raises:
        NotFoundError: it finds none.
    """
    rows = [row for result in make(config).load() for row in result.rows if row.messages]
    if not rows:
        raise NotFoundError(
            f"No remote data found for rollout {config.rollout_id}: output_data_loader loaded no row with messages.",
            retryable=False,
        )
    longest = max(rows, key=lambda row: len(row.messages))
    execution = longest.execution_metadata
    return Trajectory(
        messages=longest.messages,
        tools=longest.tools,
        usage=execution.usage.model_dump() if execution.usage else None,
        finish_reason=execution.finish_reason,
        session_data=longest.input_metadata.session_data or {},
        extra=execution.extra or {},
    )


def _messages(trace: dict[str, Any]) -> list[Message]:
    """Input, then output; where both are empty, those of the last generation observed."""
    messages = _said(trace.get("input"), "user") + _said(trace.get("output"), "user")
    if not messages:
        observed = [_dict(one) for one in trace.get("observations") or ()]
        generations = [one for one in observed if one.get("type") == "GENERATION"]
        if generations:
            last = max(generations, key=lambda one: str(one.get("start_time") or ""))
            messages = _said(last.get("input"), "user") + _said(last.get("output"), "user")
    return messages


def _said(value: Any, role: str) -> list[Message]:
    if isinstance(value, str):
        return [Message(role=role, content=value)] if value else []
    if isinstance(value, list):
        return [_message(one) for one in value if isinstance(one, dict)]
    if not isinstance(value, dict):
        return []
    if isinstance(value.get("messages"), list):
        return [_message(one) for one in value["messages"] if isinstance(one, dict)]
    if "role" in value:
        return [_message(value)]
    if "prompt" in value:
        return [Message(role="user", content=str(value["prompt"]))]
    if "content" in value:
        return [Message(role="assistant", content=str(value["content"]))]
    return []


def _message(raw: dict[str, Any]) -> Message:
    fields = {name: raw[name] for name in TAKEN if raw.get(name) is not None}
    if "content" not in fields and fields.get("tool_calls"):
        fields["content"] = None
    try:
        return Message.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DataLossError(f"A traced message cannot be read: `{where}`: {first['msg']}.", retryable=False) from error


def _summed(traces: list[dict[str, Any]]) -> dict[str, Any] | None:
    total: dict[str, int] = {}
    for trace in traces:
        for name, value in _dict(_dict(trace.get("metadata")).get("usage")).items():
            if name in ("prompt_tokens", "completion_tokens", "total_tokens") and isinstance(value, int):
                total[name] = total.get(name, 0) + value
    if total:
        total.setdefault("total_tokens", total.get("prompt_tokens", 0) + total.get("completion_tokens", 0))
    return total or None


def _add_payloads(
    trajectory: Trajectory, found: list[tuple[dict[str, Any], list[Message]]], place: int, decompress: Decompress
) -> None:
    """Fields of the longest call's payloads, those of every turn, and log-probabilities on the assistant messages."""
    turns: list[dict[str, Any]] = []
    assistants = [message for message in trajectory.messages if message.role == "assistant"]
    for at, (trace, messages) in enumerate(found):
        fields = decode(trace.get("payloads"), decompress)
        if not fields:
            continue
        turn = sum(message.role == "assistant" for message in messages) - 1
        turns.append({**fields, "assistant_turn_index": turn})
        if at == place:
            trajectory.extra.update(fields)
        # A forked conversation's turn is not the message that stands in this one at its place.
        same = messages == trajectory.messages[: len(messages)]
        if same and 0 <= turn < len(assistants) and "completion_logprobs" in fields:
            assistants[turn].logprobs = {"content": _logprobs(fields)}
    if turns:
        trajectory.extra["assistant_turn_payloads"] = sorted(turns, key=lambda one: one["assistant_turn_index"])


def _logprobs(fields: dict[str, Any]) -> list[dict[str, Any]]:
    ids = fields.get("completion_token_ids")
    return [
        {"logprob": logprob, **({"token_id": ids[at]} if ids else {})}
        for at, logprob in enumerate(fields["completion_logprobs"])
    ]


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
