"""What an evaluation has done so far, in files: a job that was killed goes on from them, and every figure is computed from them.

`rows.jsonl` holds the adapted rows, `asked.json` the highest attempt number that the host was asked for, `rollouts.jsonl` one line a
finished row. Rows are read when they are needed and not held in memory. One writer: the handler that holds the job, under
`evaluation.lock`.
"""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from tunesmith.errors import FailedPrecondition, Unavailable
from tunesmith.runs.files import JsonLines, lock, read_json_lines, write_atomic

MOST_ATTEMPTS = 4
"""A row whose rollout the platform made fail this often counts as failed."""
NAMED_REASONS = 3
REASON_LENGTH = 300


class EvaluationRows:
    """The folder of one evaluation. Raises Unavailable when another process writes it still."""

    def __init__(self, folder: Path) -> None:
        try:
            self._lock = lock(folder / "evaluation.lock")
        except FailedPrecondition as error:
            raise Unavailable(f"An earlier worker has not let go of this evaluation yet: {error.message}") from error
        self.rows_path, self._asked_path = folder / "rows.jsonl", folder / "asked.json"
        """The rows that are evaluated, once they were adapted."""
        self._log = JsonLines(folder / "rollouts.jsonl")
        self.count = 0
        """Of the rows."""
        self._records: list[dict[str, Any]] = []
        """Without their rows, with the place of each in the log."""
        self._last: dict[int, dict[str, Any]] = {}
        self._platform_failures: Counter[int] = Counter()
        start = 0
        for end, record in read_json_lines(self._log.path):
            self._take(record, start)
            start = end
        self.look()

    def close(self) -> None:
        """Let go of the folder."""
        self._log.close()
        self._lock.close()

    def look(self) -> None:
        """Count the rows, after they were brought to `rows_path`: once, as an adapter need not give the same ones twice."""
        self.count = sum(1 for _ in read_json_lines(self.rows_path))

    def rows(self, indices: list[int]) -> Iterator[tuple[int, dict[str, Any]]]:
        """(index, row) of these, in ascending order, each read when it is asked for."""
        wanted = set(indices)
        for index, (_, row) in enumerate(read_json_lines(self.rows_path)):
            if index in wanted:
                yield index, row

    def missing(self) -> list[int]:
        """Indices of the rows that have no result yet."""
        return [index for index in range(self.count) if not self._is_done(index)]

    @property
    def scored(self) -> int:
        """Rows that have a result."""
        return self.count - len(self.missing())

    def next_attempt(self) -> int:
        """A number that no rollout id of this evaluation carries yet; noted before anybody is asked."""
        asked = json.loads(self._asked_path.read_text())["attempt"] if self._asked_path.exists() else -1
        attempt = max([asked, *(record["attempt"] for record in self._records)]) + 1
        write_atomic(self._asked_path, json.dumps({"attempt": attempt}))
        return attempt

    def append(self, record: dict[str, Any]) -> None:
        """Keep one finished row: `{"row_index", "attempt", "rollout_id", "score", "is_score_valid", "reason", "platform_failure",
        "input_tokens", "output_tokens", "seconds", "row"}`; `seconds` count from when its attempt was asked for.
        """
        start = self._log.path.stat().st_size
        self._log.append(record)
        self._take(record, start)

    def metrics(self) -> dict[str, Any]:
        """Figures over the rows that have a result; `score` and `standard_error` over the valid ones, None where there are too few."""
        scores = self._scores()
        seconds: dict[int, float] = {}
        for record in self._records:
            attempt = record["attempt"]
            seconds[attempt] = max(seconds.get(attempt, 0.0), record["seconds"])
        return {
            "score": statistics.fmean(scores) if scores else None,
            "standard_error": statistics.stdev(scores) / math.sqrt(len(scores)) if len(scores) > 1 else None,
            "rows": len(self._last),
            "invalid": len(self._last) - len(scores),
            "input_tokens": sum(record["input_tokens"] for record in self._records),
            "output_tokens": sum(record["output_tokens"] for record in self._records),
            "seconds": round(sum(seconds.values()), 3),
        }

    def reasons(self) -> str:
        """The commonest reasons of invalid rows, with how many have each; empty when all are valid."""
        counted = Counter(record["reason"] for record in self._last.values() if not record["is_score_valid"])
        shown = [f"{count} x {reason[:REASON_LENGTH]}" for reason, count in counted.most_common(NAMED_REASONS)]
        more = len(counted) - len(shown)
        return "; ".join(shown) + (f"; and {more} other reasons" if more > 0 else "")

    def write_results(self, target: IO[bytes]) -> None:
        """One scored EvaluationRow a line, in the order of the rows."""
        with open(self._log.path, "rb") as log:
            for index in sorted(self._last):
                log.seek(self._last[index]["start"])
                target.write(_result(json.loads(log.readline())))

    def _scores(self) -> list[float]:
        return [record["score"] for record in self._last.values() if record["is_score_valid"]]

    def _take(self, record: dict[str, Any], start: int) -> None:
        """Count a record of the log that begins at byte `start` of it."""
        index, record = record["row_index"], {**record, "row": None, "start": start}
        self._records.append(record)
        self._platform_failures[index] += record["platform_failure"]
        self._last[index] = record

    def _is_done(self, index: int) -> bool:
        record = self._last.get(index)
        if record is None:
            return False
        return not record["platform_failure"] or self._platform_failures[index] >= MOST_ATTEMPTS


def _result(record: dict[str, Any]) -> bytes:
    row = record["row"]
    verdict = {
        **(row.get("evaluation_result") or {}),
        "score": record["score"] if record["is_score_valid"] else 0.0,
        "is_score_valid": record["is_score_valid"],
        "reason": record["reason"],
    }
    return json.dumps({**row, "evaluation_result": verdict}, allow_nan=False).encode() + b"\n"
