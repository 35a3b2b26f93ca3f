"""The rows of a run, tokenized once: `data/samples.safetensors` and, where rows are held out, `data/held_out.safetensors`.

Rows come from `evaluation_dataset`, or a tenth of the training rows (drawn from the seed) is carved out, or nothing is held out.
A wrong row ends the run before anything is trained, with its line.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.errors import FailedPrecondition, InvalidArgument, NotFound
from tunesmith.rendering.examples import Example, render_record
from tunesmith.rendering.renderer import Renderer
from tunesmith.runs.carve_out import CARVE_OUT_MOST, CARVE_OUT_SHARE
from tunesmith.runs.files import write_atomic
from tunesmith.runs.tuning import TuningConfig
from tunesmith.training.samples import Samples, SampleWriter

RENDER_SAMPLES = 20
ERRORS_SHOWN = 3
REPORT_EVERY = 1000
"""Rows between two words on how far it is."""

Examples = Callable[[Any], list[Example]]
"""From a row to its examples; raises InvalidArgument with what is wrong with it."""


@dataclass(frozen=True)
class Prepared:
    """The samples of a run."""

    train: Samples
    held_out: Samples | None

    @property
    def rows(self) -> int:
        """Rows that were read."""
        return self._noted("rows")

    @property
    def rows_left_out(self) -> int:
        """Those of them without a token to train on: weight 0, or cut away."""
        return self._noted("dropped")

    def _noted(self, name: str) -> int:
        return sum(int(samples.notes.get(name, 0)) for samples in (self.train, self.held_out) if samples is not None)


def prepare(
    run_dir: Path,
    config: TuningConfig,
    renderer: Renderer,
    examples: Callable[[], Examples],
    say: Callable[[str], None],
) -> Prepared:
    """Tokenize what is not tokenized yet, and open it.

    `examples()` gives a fresh function from rows to examples, one for each dataset; `say` is told how far it is.
    Raises InvalidArgument naming wrong lines, FailedPrecondition when no token is left to train, NotFound without the file.
    """
    train, held_out = (run_dir / "data" / f"{name}.safetensors" for name in ("samples", "held_out"))
    holds_out = config.evaluation_dataset is not None or config.eval_carve_out
    # `held_out` is renamed into place first: with `samples` there, all is there.
    if not train.exists():
        carved = _carve(config) if config.eval_carve_out and config.evaluation_dataset is None else set[int]()
        with ExitStack() as stack:
            # Left in reverse: the held-out file is joined before the training file.
            writer = stack.enter_context(SampleWriter(train))
            other = stack.enter_context(SampleWriter(held_out)) if holds_out else None
            shown = _tokenize(config.dataset, examples(), writer, renderer, say, carved, other)
            if config.evaluation_dataset is not None and other is not None:
                _tokenize(config.evaluation_dataset, examples(), other, renderer, say)
            for name, one in (("training", writer), ("held-out", other)):
                if one is not None and not one.samples:
                    raise FailedPrecondition(
                        f"Dataset validation failed: none of the {name} rows has a token to train on. Give assistant messages "
                        "a weight of 1, rows a weight other than 0, or raise the max context length."
                    )
            write_atomic(run_dir / "render_samples.jsonl", "".join(json.dumps(record) + "\n" for record in shown))
    return Prepared(Samples(train), Samples(held_out) if holds_out else None)


def rows_of(path: Path) -> Iterator[tuple[int, bytes]]:
    """(line number from 1, line) of each row of a JSONL file; blank lines are none. Raises NotFound without the file."""
    if not path.is_file():
        raise NotFound(f"The dataset {path} is missing; upload it again.")
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, line


def _tokenize(
    path: Path,
    examples: Examples,
    writer: SampleWriter,
    renderer: Renderer,
    say: Callable[[str], None],
    carved: set[int] | None = None,
    held_out: SampleWriter | None = None,
) -> list[dict[str, Any]]:
    """Write the samples of a dataset, those of `carved` rows to `held_out`; return the first ones for people to read."""
    shown: list[dict[str, Any]] = []
    wrong: list[str] = []
    errors = dropped = held = kept = row = 0
    for row, (line, content) in enumerate(rows_of(path)):
        if row % REPORT_EVERY == 0:
            say(f"tokenizing {path.name}: {row} rows")
        try:
            made = examples(_parse(content))
        except InvalidArgument as error:
            errors += 1
            wrong += [f"{error.message} (line {line})"] if len(wrong) < ERRORS_SHOWN else []
            continue
        if errors:
            continue
        target, number = writer, kept
        if held_out is not None and carved and row in carved:
            target, number = held_out, held
            held += 1
        else:
            kept += 1
        dropped += not made
        for split, example in enumerate(made):
            target.add(example.token_ids, example.weights, number, example.text_bytes)
            if target is writer and len(shown) < RENDER_SAMPLES:
                shown.append(render_record(renderer, example, row, line, split))
    if errors:
        more = f"; and {errors - len(wrong)} more wrong rows" if errors > len(wrong) else ""
        raise InvalidArgument(f"Dataset validation failed: {path.name}: {'; '.join(wrong)}{more}.")
    writer.notes = {"rows": str(kept), "dropped": str(dropped)}
    if held_out is not None and carved:
        held_out.notes = {"rows": str(held)}
    return shown


def _parse(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"this is no JSON: {error}") from error


def _carve(config: TuningConfig) -> set[int]:
    """Rows (from 0) that are held out, drawn from the seed."""
    rows = sum(1 for _ in rows_of(config.dataset))
    if rows < 2:
        raise FailedPrecondition(
            f"{config.dataset.name} has {rows} row(s); holding some out needs at least 2. Turn the carve-out off, or add rows."
        )
    held = min(CARVE_OUT_MOST, max(1, round(CARVE_OUT_SHARE * rows)))
    return set(np.random.default_rng([abs(config.seed), rows]).permutation(rows)[:held].tolist())
