"""Evaluator projects as a user would write them, for tests of the whole loop."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

BASE = "accounts/tunesmith/models/tiny-math-v1"

HEADER = """
from pathlib import Path
from eval_protocol.models import EvaluateResult, EvaluationRow, MetricResult
from eval_protocol.pytest import SingleTurnRolloutProcessor, evaluation_test


@evaluation_test(
    input_dataset=[str(Path(__file__).parent / "rows.jsonl")],
    completion_params=[{"model": "BASE", "temperature": 1.0, "max_tokens": 48}],
    rollout_processor=SingleTurnRolloutProcessor(),
    mode="pointwise",
)
def scored(row: EvaluationRow) -> EvaluationRow:
    text = row.last_assistant_message().content or ""
    number = int(row.input_metadata.dataset_info["number"]) if row.input_metadata.dataset_info else 0
""".replace("BASE", BASE)

BODIES = {
    # A dense score that any model can raise: the share of characters that are one of "aeiou0123456789".
    "dense": "    wanted = sum(c in 'aeiou0123456789' for c in text) / max(1, len(text))\n    score = round(wanted, 6)\n",
    "constant": "    score = 1.0\n",
    "raises": "    if number % 5 == 0:\n        raise KeyError('no such answer')\n    score = len(text) % 7 / 6\n",
    "raises_mostly": "    if number % 5:\n        raise KeyError('no such answer')\n    score = len(text) % 7 / 6\n",
    "hangs": "    import time\n    if number % 5 == 0 and len(text) % 2:\n        time.sleep(3600)\n    score = len(text) % 7 / 6\n",
    "crashes": "    import os\n    if number % 5 == 0 and len(text) % 2:\n        os._exit(3)\n    score = len(text) % 7 / 6\n",
    "nan": "    score = float('nan') if number % 5 == 0 else len(text) % 7 / 6\n",
    "too_big": "    score = 1.5 if number % 5 == 0 else len(text) % 7 / 6\n",
}
FOOTER = "    row.evaluation_result = EvaluateResult(score=score, reason='scored')\n    return row\n"


def rows(count: int) -> list[dict[str, Any]]:
    """Short prompts with a number in their metadata.

    None that the tiny model knows the answer to: it would say the same four times, and a group without a difference makes no step.
    """
    return [
        {
            "messages": [
                {"role": "user", "content": f"Why did Tom buy {i % 9 + 1} apples and eat {i % 7 + 2}?"},
            ],
            "input_metadata": {"dataset_info": {"number": i}},
        }
        for i in range(count)
    ]


def write(
    folder: Path,
    body: str = "dense",
    *,
    dataset: Sequence[dict[str, Any]] | str | None = None,
    requirements: str | None = "eval-protocol\n",
    source: str | None = None,
) -> Path:
    """Write a project folder; `dataset` may be raw text, to be broken on purpose."""
    folder.mkdir(parents=True)
    (folder / "evaluation.py").write_text(source if source is not None else HEADER + BODIES[body] + FOOTER)
    if requirements is not None:
        (folder / "requirements.txt").write_text(requirements)
    content = dataset if isinstance(dataset, str) else "".join(json.dumps(row) + "\n" for row in dataset or rows(20))
    (folder / "rows.jsonl").write_text(content)
    return folder
