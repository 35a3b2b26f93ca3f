"""The text around the templates of a generated evaluator, and the sentences that say what counts."""

from __future__ import annotations

from tunesmith.agent.answers import AnswerKind, Marker

HEAD = '''"""{What}: 1 when it is that of the row's `ground_truth`, else 0.

Written by Tunesmith's Agent from the data; `eval_spec.md` says what counts. Edit it as you like.
Put rows beside it as `rows.jsonl` to run it with `pytest evaluator.py`.
"""
'''
READ_TEXT = '''def gold_of(ground_truth: Any) -> Any:
    """The gold answer of a row; None when there is none that can be read."""
{unwrap}    text = ground_truth if isinstance(ground_truth, str) else json.dumps(ground_truth, ensure_ascii=False)
    text = marked(text) or text
    return {gold}


def answer_of(message: Message) -> Any:
    """The answer in what the model wrote; None when there is none."""
    text = marked(str(message.content or ""))
    return None if text is None else {answer}
'''
UNWRAP = """    if isinstance(ground_truth, list) and len(ground_truth) == 1 and isinstance(ground_truth[0], str):
        ground_truth = ground_truth[0]
"""
READ_CALLS = '''def gold_of(ground_truth: Any) -> Any:
    """The gold calls of a row; None when there are none that can be read."""
    return calls_of(ground_truth)


def answer_of(message: Message) -> Any:
    """The calls that the model made; None when it made none."""
    calls = message.tool_calls or []
    return calls_of([{"name": call.function.name, "arguments": call.function.arguments} for call in calls])
'''
TEST = '''@evaluation_test(
    input_dataset=[str(Path(__file__).parent / "rows.jsonl")],
    completion_params=[{{"model": "the-model-to-evaluate", "temperature": 0.0, "max_tokens": 1024}}],
    rollout_processor=SingleTurnRolloutProcessor(),
    mode="pointwise",
)
def {function}(row: EvaluationRow) -> EvaluationRow:
    """{What}: 1 when it is that of `ground_truth`, else 0."""
    gold = gold_of(row.ground_truth)
    if gold is None:
        row.evaluation_result = EvaluateResult(
            score=0.0, is_score_valid=False, reason="The row's ground_truth holds no answer that can be read."
        )
        return row
    message = row.last_assistant_message()
    answer = answer_of(message) if message else None
    is_readable = answer is not None
    is_right = is_readable and {same}(answer, gold)
    reason = "Right." if is_right else "Wrong." if is_readable else "No answer that can be read."
    row.evaluation_result = EvaluateResult(
        score=float(is_right),
        reason=reason,
        metrics={{
            "readable": MetricResult(score=float(is_readable), reason=reason),
{metrics}        }},
    )
    return row
'''
JSON_METRICS = """            "fields": MetricResult(score=right_share(answer, gold), reason="Share of the fields that are right."),
            "schema": MetricResult(
                score=float(is_readable and not problems(answer, SCHEMA)),
                reason="; ".join(problems(answer, SCHEMA)[:3]) if is_readable else reason,
            ),
"""

NOUNS = {
    AnswerKind.NUMBER: "the number",
    AnswerKind.JSON: "the JSON",
    AnswerKind.LABEL: "the label",
    AnswerKind.EXACT: "the text",
    AnswerKind.TOOL_CALLS: "the tool calls",
}
COUNTS = {
    AnswerKind.NUMBER: [
        "Numbers are compared as numbers: `1,234` is `1234`, `0.50` is `1/2`. Whole numbers must be equal, others to one part in a million.",
        "A unit or currency may be left out. Where both have one, they must share a word: `5 km` is not `5 m`.",
        "If the answer is more than one number, its last number counts.",
    ],
    AnswerKind.JSON: [
        "The answer must be JSON, with or without a code fence around it; other text around it makes it unreadable.",
        "All of it must be equal. The order of keys does not count, the order of lists does; `1` is `1.0`, `true` is not `1`.",
        "The metric `fields` is the share of top-level fields that are right, the metric `schema` whether it fits the schema below.",
    ],
    AnswerKind.LABEL: [
        "Upper case, white space, quotes and full stops around a label do not count.",
        "A sentence that names exactly one of the labels counts as that label (labels of one or two characters must stand alone).",
    ],
    AnswerKind.EXACT: ["The text must be the same, upper case included; white space does not count."],
    AnswerKind.TOOL_CALLS: [
        "The same functions must be called with the same arguments, compared as JSON, in any order.",
        "What the model writes beside its calls does not count.",
    ],
}
FOUND = {
    Marker.WHOLE: "The answer is all that the model writes behind its thinking (`</think>`).",
    Marker.TAGS: "The answer is what stands in the last `<answer>...</answer>`; without such tags there is none.",
    Marker.BOX: "The answer is what stands in the last `\\boxed{...}`; without one there is none.",
    Marker.HASHES: "The answer is what stands behind the last `####`; without one there is none.",
    Marker.ANSWER_IS: 'The answer is what follows the last "answer is" or "answer:", to the end of the sentence; without one there is none.',
}
