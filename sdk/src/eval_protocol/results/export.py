"""An experiment as JSONL, for other programs: one row per line, with its score in flat keys."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from eval_protocol.errors import ResultsError
from eval_protocol.models import EvaluationRow

DETAILS = {"score", "is_score_valid", "reason", "metrics"}


def export_experiment(folder: Path, experiment_id: str, rows: Iterable[EvaluationRow]) -> Path:
    """Write `{folder}/experiment_results/{experiment_id}.jsonl`, renamed into place.

    Each line is the row plus `evals` ({"score"}) and `eval_details` (score, is_score_valid, reason, metrics).

    Raises:
        ResultsError: the folder cannot be written.
    """
    path = folder.expanduser() / "experiment_results" / f"{experiment_id}.jsonl"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        with open(temporary, "w", encoding="utf-8") as file:
            for row in rows:
                file.write(json.dumps(_line(row), ensure_ascii=False) + "\n")
        temporary.replace(path)
    except OSError as error:
        raise ResultsError(f"The results could not be written to {path}: {error}. Check EP_OUTPUT_DIR.") from error
    return path


def _line(row: EvaluationRow) -> dict[str, Any]:
    record = row.model_dump(mode="json", exclude_none=True, by_alias=True)
    result = row.evaluation_result
    if result is None:
        details = {
            "score": 0.0,
            "is_score_valid": False,
            "reason": row.rollout_status.message or "No evaluation result",
        }
        details["metrics"] = {}
    else:
        details = {key: value for key, value in result.model_dump(mode="json").items() if key in DETAILS}
    return {**record, "evals": {"score": details["score"]}, "eval_details": details}
