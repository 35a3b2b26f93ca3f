"""A scorer process: one request, with the runner's own scoring code, in the process's main thread."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

from eval_protocol.datasets import adapt_rows
from eval_protocol.errors import EvalProtocolError
from eval_protocol.evaluation import scoring
from eval_protocol.evaluation.aggregation import invalid_reason, valid_score
from eval_protocol.evaluation.experiments import preprocess
from eval_protocol.host.evaluator import HostedEvaluator
from eval_protocol.host.wire import dump_row, encode
from eval_protocol.models import EvaluationRow


def scorer_main(evaluator: HostedEvaluator, connection: socket.socket) -> None:
    """Answer requests until the other end closes."""
    with asyncio.Runner() as runner, connection.makefile("rb") as lines:
        for line in lines:
            connection.sendall(_reply(evaluator, runner, json.loads(line)))


def _reply(evaluator: HostedEvaluator, runner: asyncio.Runner, request: dict[str, Any]) -> bytes:
    if request["op"] == "adapt":
        return encode(_adapt(evaluator, request["rows"]))
    row = EvaluationRow.model_validate(request["row"])
    before = row.model_copy(deep=True)
    row = runner.run(scoring.score(evaluator.spec.function, row, evaluator.kwargs))
    try:
        return encode(_scored(row))
    except (ValueError, TypeError) as error:  # what the evaluator put on the row is no JSON
        reason = f"The evaluator put something on the row that cannot be written as JSON: {error}"
        return encode(_scored(scoring.invalidate(before, reason.splitlines()[0], error=str(error))))


def _scored(row: EvaluationRow) -> dict[str, Any]:
    score = valid_score(row)
    result = row.evaluation_result
    reason = invalid_reason(row) if score is None else (result.reason or "" if result else "")
    return {"row": dump_row(row), "score": score, "reason": reason}


def _adapt(evaluator: HostedEvaluator, raw: list[dict[str, Any]]) -> dict[str, Any]:
    """The dataset_adapter and preprocess_fn of the test; the rows get their ids."""
    try:
        rows = preprocess(evaluator.spec, adapt_rows(evaluator.spec.parameters.dataset_adapter, raw))
        for row in rows:
            row.ensure_row_id()
        return {"rows": [dump_row(row) for row in rows]}
    except (EvalProtocolError, ValueError, TypeError, AttributeError) as error:
        return {"error": str(error)}
