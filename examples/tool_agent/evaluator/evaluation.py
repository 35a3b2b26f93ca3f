"""Evaluates an agent with tools that runs on a server of its own: does it find the right number, by looking things up?

Start the agent (`python -m server` in the folder above), then run this with `python evaluation.py` or `pytest evaluation.py -vs`;
train against it with `ep create rft`.
"""

from pathlib import Path

import pytest
from eval_protocol.models import EvaluateResult, EvaluationRow, MetricResult
from eval_protocol.pytest import RemoteRolloutProcessor, evaluation_test
from scoring import judge

HERE = Path(__file__).parent


@evaluation_test(
    input_dataset=[str(HERE / "shop_questions.jsonl")],
    completion_params=[{"model": "accounts/tunesmith/models/tiny-tools-v1", "temperature": 0.7, "max_tokens": 64}],
    rollout_processor=RemoteRolloutProcessor(remote_base_url="http://127.0.0.1:3100"),
    max_dataset_rows=20,
    num_runs=1,
    passed_threshold=0.0,
    mode="pointwise",
)
def tool_agent(row: EvaluationRow) -> EvaluationRow:
    """1 for the right answer after looking everything up, 0.2 for looking everything up alone, else 0; see `scoring.py`."""
    gold = row.ground_truth
    if not isinstance(gold, dict) or not {"answer", "items"} <= gold.keys():
        row.evaluation_result = EvaluateResult(
            score=0.0, is_score_valid=False, reason='The row\'s ground_truth is not {"answer": N, "items": [...]}.'
        )
        return row
    verdict = judge([message.model_dump() for message in row.messages], gold["answer"], gold["items"])
    row.evaluation_result = EvaluateResult(
        score=verdict.score,
        reason=verdict.reason,
        metrics={
            "right_answer": MetricResult(score=float(verdict.is_right), reason="However it was found."),
            "looked_up": MetricResult(score=verdict.looked_up, reason="Share of the question's items."),
            "calculated": MetricResult(score=float(verdict.calculated), reason="The calculator gave a result."),
        },
    )
    return row


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__, "-vs"]))
