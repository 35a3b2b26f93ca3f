"""Reading JSONL, from a file or a URL, with the line number in every complaint."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eval_protocol.errors import DatasetError

DOWNLOAD_TIMEOUT_SECONDS = 60.0


def load_jsonl(
    source: str | Path, limit: int | None = None, check: Callable[[dict[str, Any]], str | None] | None = None
) -> list[dict[str, Any]]:
    """The objects of a JSONL file or http(s) URL, blank lines left out.

    Args:
        source: path or URL.
        limit: stop after this many objects; None = all.
        check: says what is wrong with an object, or None.

    Raises:
        DatasetError: the file is missing or empty, or a line is not a JSON object or fails the check (the line number is named).
    """
    rows: list[dict[str, Any]] = []
    with _lines(str(source)) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            if limit is not None and len(rows) >= limit:
                break
            row = _parse(str(source), number, line)
            if check is not None and (problem := check(row)):
                raise DatasetError(f"{source}, line {number}: {problem}")
            rows.append(row)
    if not rows and limit != 0:
        raise DatasetError(f"{source} has no rows. Each line must be one JSON object with `messages`.")
    return rows


def _parse(source: str, number: int, line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise DatasetError(f"{source}, line {number}: not valid JSON ({error}). Fix or remove the line.") from error
    if not isinstance(value, dict):
        raise DatasetError(f"{source}, line {number}: a {type(value).__name__}, where a JSON object is needed.")
    return value


@contextmanager
def _lines(source: str) -> Iterator[Iterable[bytes]]:
    if source.startswith(("http://", "https://")):
        import urllib.request  # noqa: PLC0415 - costs as much as the rest of the package, and few need it

        try:
            with urllib.request.urlopen(source, timeout=DOWNLOAD_TIMEOUT_SECONDS) as response:
                yield response
        except OSError as error:
            raise DatasetError(f"The dataset {source} could not be fetched: {error}.") from error
        return
    try:
        with open(source, "rb") as file:
            yield file
    except FileNotFoundError:
        raise DatasetError(f"There is no dataset {source} (working directory: {Path.cwd()}).") from None
    except OSError as error:
        raise DatasetError(f"The dataset {source} cannot be read: {error}.") from error


def resolve_dataset_path(source: str, test_file: Path | None) -> str:
    """Where a relative `input_dataset` lies: beside the test file, else under the working directory. URLs stay as they are."""
    if source.startswith(("http://", "https://")) or Path(source).is_absolute() or test_file is None:
        return source
    beside = test_file.parent / source
    return str(beside) if beside.exists() else source
