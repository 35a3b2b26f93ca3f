"""GSM8K-style evaluation: does the model put the right number inside `<answer>` tags?

Run it with `python evaluation.py` or `pytest evaluation.py -vs`; train against it with `ep create rft`.
"""

import re
from pathlib import Path

import pytest
from eval_protocol.models import EvaluateResult, EvaluationRow, MetricResult
from eval_protocol.pytest import SingleTurnRolloutProcessor, evaluation_test

HERE = Path(__file__).parent
ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
DIGITS = re.compile(r"\d+")


def answer_digits(text):
    """The first digits inside the first `<answer>...</answer>`; None when there are no such tags, or no digits in them."""
    tagged = ANSWER.search(text)
    digits = DIGITS.search(tagged.group(1)) if tagged else None
    return digits.group() if digits else None


@evaluation_test(
    input_dataset=[str(HERE / "gsm8k_sample.jsonl")],
    completion_params=[{"model": "accounts/tunesmith/models/tiny-math-v1", "temperature": 0.7, "max_tokens": 128}],
    rollout_processor=SingleTurnRolloutProcessor(),
    max_dataset_rows=20,
    num_runs=1,
    passed_threshold=0.0,
    mode="pointwise",
)
def gsm8k_example(row: EvaluationRow) -> EvaluationRow:
    """1 when the first digits inside the answer tags are those of the ground truth, else 0."""
    message = row.last_assistant_message()
    predicted = answer_digits(str(message.content or "")) if message else None
    expected = answer_digits(str(row.ground_truth))
    if expected is None:
        row.evaluation_result = EvaluateResult(
            score=0.0, is_score_valid=False, reason="The row's ground_truth has no digits inside <answer> tags."
        )
        return row

    is_tagged = predicted is not None
    is_correct = predicted == expected
    if is_correct:
        reason = f"Correct: {predicted}."
    elif is_tagged:
        reason = f"Wrong: {predicted} instead of {expected}."
    else:
        reason = "No digits inside <answer> tags."
    row.evaluation_result = EvaluateResult(
        score=float(is_correct),
        reason=reason,
        metrics={
            "exact_match": MetricResult(score=float(is_correct), reason=reason),
            "answer_tags": MetricResult(
                score=float(is_tagged), reason="Digits inside answer tags." if is_tagged else "No such tags."
            ),
        },
    )
    return row


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__, "-vs"]))
