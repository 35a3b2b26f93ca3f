"""One model call per row: the processor that most evaluations use."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from eval_protocol.errors import RolloutError
from eval_protocol.models import CompletionParams, CompletionUsage, EvaluationRow, Message, Status, ToolCall
from eval_protocol.models.status import Code
from eval_protocol.rollouts.destination import ModelRouting
from eval_protocol.rollouts.processor import RolloutProcessor, RolloutProcessorConfig

if TYPE_CHECKING:
    from eval_protocol.rollouts.chat import ChatAnswer, ChatClient

NOT_IN_BODY = frozenset({"model", "api_base", "base_url", "api_key", "extra_body", "extra_headers", "timeout"})
DEFAULT_TIMEOUT_SECONDS = 600.0


class SingleTurnRolloutProcessor(RolloutProcessor):
    """Sends a row's messages to the model once and appends its answer.

    Args:
        drop_trailing_assistant_messages: remove assistant turns at the end first (a dataset's gold answer must not reach the model).
    """

    def __init__(self, *, drop_trailing_assistant_messages: bool = True) -> None:
        self.drop_trailing_assistant_messages = drop_trailing_assistant_messages
        self._routing: ModelRouting | None = None
        self._client: ChatClient | None = None

    def setup(self) -> None:
        """Read where calls go."""
        self._routing = ModelRouting.read()

    async def acleanup(self) -> None:
        """Close the connections."""
        if self._client is not None:
            client, self._client = self._client, None
            await client.close()
        self.cleanup()

    def __call__(self, rows: list[EvaluationRow], config: RolloutProcessorConfig) -> list[asyncio.Task[EvaluationRow]]:
        """One task per row, `config.semaphore` of them at work at a time."""

        async def limited(row: EvaluationRow) -> EvaluationRow:
            async with config.semaphore:
                return await self._roll_out(row, config.completion_params)

        return [asyncio.create_task(limited(row)) for row in rows]

    async def _roll_out(self, row: EvaluationRow, params: CompletionParams) -> EvaluationRow:
        started = time.perf_counter()
        if self.drop_trailing_assistant_messages:
            row.drop_trailing_assistant_messages()
        if not row.messages:
            raise RolloutError("The row has no messages to send to the model.", code=Code.INVALID_ARGUMENT)
        if self._routing is None:
            self.setup()
        assert self._routing is not None
        answer = await self._connections().complete(
            self._routing.destination(params, row),
            request_body(params, row),
            timeout=float(params.get("timeout") or DEFAULT_TIMEOUT_SECONDS),
            headers=params.get("extra_headers"),
        )
        take_answer(row, answer)
        row.execution_metadata.rollout_duration_seconds = time.perf_counter() - started
        return row

    def _connections(self) -> ChatClient:
        from eval_protocol.rollouts.chat import ChatClient  # noqa: PLC0415 - aiohttp costs 0.15 s; scoring alone needs none

        if self._client is None:
            self._client = ChatClient()
        return self._client


def request_body(params: CompletionParams, row: EvaluationRow) -> dict[str, Any]:
    """The request without `model`: the parameters as they are, `extra_body` merged in, nulls left out."""
    body = {key: value for key, value in params.items() if key not in NOT_IN_BODY and value is not None}
    body.update({key: value for key, value in (params.get("extra_body") or {}).items() if value is not None})
    if body.get("n", 1) != 1:
        raise RolloutError(
            f"completion_params asks for n = {body['n']} answers, but a rollout has one. Use num_runs for more.",
            code=Code.INVALID_ARGUMENT,
        )
    body["messages"] = [message.dump_model_for_chat_completion_request() for message in row.messages]
    if row.tools:
        body["tools"] = row.tools
    if body.get("stream"):
        body.setdefault("stream_options", {"include_usage": True})
    return body


def take_answer(row: EvaluationRow, answer: ChatAnswer) -> None:
    """Append the model's message to the row and record how the call went."""
    message = answer.message
    calls = [ToolCall.model_validate(call) for call in message.get("tool_calls") or []]
    row.messages.append(
        Message(
            role=message.get("role") or "assistant",
            content=message.get("content") if message.get("content") is not None else ("" if not calls else None),
            reasoning_content=message.get("reasoning_content") or message.get("reasoning"),
            tool_calls=calls or None,
            logprobs=answer.logprobs,
        )
    )
    execution = row.execution_metadata
    execution.finish_reason = answer.finish_reason
    execution.tool_call_count = len(calls)
    execution.usage = CompletionUsage.model_validate(answer.usage) if answer.usage else None
    execution.raw_output = answer.raw_output if isinstance(answer.raw_output, dict) else None
    row.rollout_status = Status.rollout_finished(answer.finish_reason)
