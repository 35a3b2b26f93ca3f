"""The body of `POST /init`: what an agent server is told of a row. Never the gold answer."""

from __future__ import annotations

import base64
from typing import Any

from eval_protocol.exceptions import FailedPreconditionError, InvalidArgumentError
from eval_protocol.models import CompletionParams, EvaluationRow
from eval_protocol.rollouts.destination import id_path
from eval_protocol.tracing.route import TracingGateway

MESSAGE_FIELDS = (
    "role",
    "content",
    "reasoning_content",
    "name",
    "tool_call_id",
    "tool_calls",
    "function_call",
    "control_plane_step",
    "weight",
    "logprobs",
)
"""All that is sent of a message; what else a dataset wrote on it stays here."""


def init_body(row: EvaluationRow, params: CompletionParams, gateway: TracingGateway) -> dict[str, Any]:
    """The body for a row whose trailing assistant turns are dropped.

    Raises:
        RolloutError: no model, no messages, or an id is missing.
    """
    if not params.get("model"):
        raise InvalidArgumentError('completion_params names no model: add "model" to it.')
    if not row.messages:
        raise InvalidArgumentError("The row has no messages to send to the agent.")
    model = str(params["model"])
    if model.startswith("accounts/"):
        model = f"fireworks_ai/{model}"
    return {
        "completion_params": {**params, "model": model},
        "messages": [_message_body(message) for message in row.messages],
        "tools": row.tools,
        "model_base_url": model_base_url(row, params, gateway),
        "metadata": _ids(row),
        "api_key": gateway.key,
    }


def model_base_url(row: EvaluationRow, params: CompletionParams, gateway: TracingGateway) -> str:
    """The gateway's URL for this rollout's model calls; `base_url` of the parameters goes along as the upstream."""
    url = gateway.base + id_path(row)
    upstream = params.get("base_url")
    if upstream:
        url += f"/encoded_base_url/{base64.urlsafe_b64encode(str(upstream).encode()).decode()}"
    return url


def _message_body(message: Any) -> dict[str, Any]:
    dumped = message.model_dump(mode="json", include=set(MESSAGE_FIELDS))
    return {name: dumped[name] for name in MESSAGE_FIELDS}


def _ids(row: EvaluationRow) -> dict[str, str]:
    ids = row.execution_metadata
    found = {
        "invocation_id": ids.invocation_id,
        "experiment_id": ids.experiment_id,
        "rollout_id": ids.rollout_id,
        "run_id": ids.run_id,
        "row_id": row.input_metadata.row_id,
    }
    for name, value in found.items():
        if not value:
            raise FailedPreconditionError(f"The row has no {name}; a remote rollout is traced by all five ids.")
    return {name: str(value) for name, value in found.items()}
