"""The rows of a training dataset: read from JSONL, adapted as the evaluator asks, checked, written as they are uploaded.

Every fault names the line of the author's file. What is uploaded holds the content of a row only (messages, tools,
metadata, ground truth, extra fields): ids, status and times of a rollout belong to rollouts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from eval_protocol.datasets import default_dataset_adapter, load_jsonl
from eval_protocol.errors import DatasetError, EvalProtocolError
from eval_protocol.evaluation.experiments import experiments, preprocess
from eval_protocol.models.messages import ROLES
from eval_protocol.models.rows import NOT_CONTENT

if TYPE_CHECKING:
    from eval_protocol.datasets.adapters import DatasetAdapter
    from eval_protocol.evaluation.spec import EvaluationSpec
    from eval_protocol.models import EvaluationRow


@dataclass(frozen=True)
class RawRow:
    """One line of the author's file."""

    source: str
    """`file.jsonl, line 3`"""
    value: dict[str, Any]


@dataclass(frozen=True)
class Rows:
    """Rows ready to upload."""

    content: bytes
    """JSONL of EvaluationRows."""
    count: int
    first_messages: list[dict[str, Any]]
    """The prompt of the first row: messages as an OpenAI client sends them."""


def read_jsonl(source: str | Path) -> list[RawRow]:
    """Read a JSONL file or URL; blank lines are skipped. Raises DatasetError naming the line that is not a JSON object."""
    path = str(source)
    if path.startswith(("http://", "https://")):
        return [RawRow(f"row {number} of {path}", value) for number, value in enumerate(load_jsonl(path), 1)]
    try:
        text = Path(path).read_text("utf-8")
    except FileNotFoundError:
        raise DatasetError(
            f"The dataset {path} does not exist. Give a JSONL file or a dataset id with --dataset."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"The dataset {path} cannot be read: {error}. It must be a UTF-8 JSONL file.") from error
    rows = []
    # Only newlines end a line: splitlines() would also cut at separators that are legal inside JSON strings.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError as error:
            raise DatasetError(
                f"Dataset validation failed: invalid JSON on line {number} of {path} ({error}). Correct that line."
            ) from None
        if not isinstance(value, dict):
            raise DatasetError(
                f"Dataset validation failed: line {number} of {path} is not a JSON object. A row is one object a line."
            )
        rows.append(RawRow(f"line {number} of {path}", value))
    if not rows:
        raise DatasetError(f"Dataset validation failed: {path} has no rows. A row is one JSON object a line.")
    return rows


def dataset_paths(spec: EvaluationSpec) -> list[str]:
    """Files (or URLs) of a test's input_dataset, resolved; empty when its rows stand in the code."""
    return list(dict.fromkeys(path for experiment in experiments(spec) for path in experiment.datasets))


def rows_of_test(spec: EvaluationSpec) -> Rows:
    """The rows that a test names: its input_dataset, else those given in the code (first parametrization).

    Raises DatasetError naming the line, or saying that there are none.
    """
    if paths := dataset_paths(spec):
        return adapt([row for path in paths for row in read_jsonl(path)], spec)
    given = experiments(spec)[0].rows
    if not given:
        raise DatasetError(
            f"{spec.name} names no rows (input_dataset, input_rows, input_messages). "
            "Give them with --dataset: a dataset id, or a JSONL file."
        )
    return write((f"row {at + 1} of {spec.name}", row) for at, row in enumerate(preprocess(spec, list(given))))


def adapt(raw: Sequence[RawRow], spec: EvaluationSpec | None) -> Rows:
    """Apply the evaluator's dataset_adapter and preprocess_fn, and check every row.

    Args:
        spec: None: rows are EvaluationRows already.

    Raises DatasetError naming the line.
    """
    if spec is None or spec.parameters.dataset_adapter is default_dataset_adapter:
        rows = [_parse(row) for row in raw]
    else:
        rows = _run_adapter(raw, spec.parameters.dataset_adapter)
    if spec is not None:
        rows = preprocess(spec, rows)
    if not rows:
        raise DatasetError("Dataset validation failed: the dataset_adapter returned no rows.")
    same = len(rows) == len(raw)
    return write((raw[at].source if same else f"adapted row {at + 1}", row) for at, row in enumerate(rows))


def write(rows: Iterable[tuple[str, EvaluationRow]]) -> Rows:
    """Check rows, each with where it came from, and write them as they are uploaded. Raises DatasetError naming the row."""
    lines: list[str] = []
    prompt: list[dict[str, Any]] = []
    for source, row in rows:
        _check(source, row)
        prompt = prompt or _prompt(row)
        lines.append(row.model_dump_json(exclude_none=True, exclude=set(NOT_CONTENT)))
    return Rows(("\n".join(lines) + "\n").encode(), len(lines), prompt)


def _run_adapter(raw: Sequence[RawRow], adapter: DatasetAdapter) -> list[EvaluationRow]:
    try:
        return list(adapter([row.value for row in raw]))
    except Exception as error:
        for row in raw:  # the same again, one by one, to find the line
            try:
                adapter([row.value])
            except Exception as inner:
                raise DatasetError(_adapter_failed(row, inner)) from inner
        raise DatasetError(
            f"Dataset validation failed: the dataset_adapter raised {_words(error)} for the whole dataset, though for no "
            "single row of it."
        ) from error


def _adapter_failed(row: RawRow, error: Exception) -> str:
    missing = " Missing required field 'messages'." if "messages" not in row.value else ""
    return f"Dataset validation failed: the dataset_adapter raised {_words(error)} on {row.source}.{missing} Correct the row or the adapter."


def _parse(row: RawRow) -> EvaluationRow:
    from eval_protocol.models import EvaluationRow

    if "messages" not in row.value:
        raise DatasetError(f"Dataset validation failed: Missing required field 'messages' on {row.source}.")
    try:
        return EvaluationRow.model_validate(row.value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise DatasetError(f"Dataset validation failed: {where}: {first['msg']}, on {row.source}.") from error


def _check(source: str, row: Any) -> None:
    from eval_protocol.models import EvaluationRow

    if not isinstance(row, EvaluationRow):
        raise DatasetError(
            f"Dataset validation failed: the dataset_adapter made a {type(row).__name__} of {source}, not an EvaluationRow."
        )
    if wrong := next((message.role for message in row.messages if message.role not in ROLES), None):
        raise DatasetError(
            f"Dataset validation failed: {wrong!r} is no role of a message, on {source}. Roles are {', '.join(ROLES)}."
        )
    if not any(message.role != "assistant" for message in row.messages):
        raise DatasetError(
            f"Dataset validation failed: {source} has no messages to answer. Missing required field 'messages', or only "
            "assistant turns in it (those at the end are gold answers and are not shown to the model)."
        )


def _prompt(row: EvaluationRow) -> list[dict[str, Any]]:
    copy = row.model_copy(deep=True)
    copy.drop_trailing_assistant_messages()
    return [message.dump_model_for_chat_completion_request() for message in copy.messages]


def _words(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error) if isinstance(error, EvalProtocolError) else f"{type(error).__name__}: {error}"
