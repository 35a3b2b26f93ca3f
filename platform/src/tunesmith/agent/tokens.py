"""Lengths of rows in tokens, as a training run of one base model would see them: what a plan is priced by."""

from __future__ import annotations

from dataclasses import replace

from tunesmith.agent.rows import Row, RowFormat, Sample, format_of
from tunesmith.rendering.examples import ExampleRenderer
from tunesmith.rendering.pairs import PairRenderer
from tunesmith.rendering.renderer import Renderer
from tunesmith.schemas.wire import JobInput

TOKENS_COUNTED = 50_000
"""Rows whose tokens are counted; of larger datasets a sample of so many, from which the totals are estimated."""
UNLIMITED = 1 << 40
"""A context length that cuts nothing."""


class Tokens(JobInput):
    """Lengths in tokens, as one base model's tokenizer and chat template give them. Longer rows count as far as they are trained on."""

    total: int
    trained: int
    """Those that count in the loss: of the assistant."""
    mean: float
    p50: int
    p95: int
    longest: int
    """Before anything is cut."""
    over_context: int
    """Rows that are longer than the context and will be cut."""
    context_length: int
    is_estimate: bool = False
    """Whether only a sample was counted."""


class TokenCounter:
    """Counts the tokens of rows as a training run of one base model would see them."""

    def __init__(self, renderer: Renderer, max_context_length: int | None = None) -> None:
        """`max_context_length`: where longer rows are cut; None: the model's context. Raises InvalidArgument outside of 2..that."""
        self.context_length = max_context_length or renderer.context_length
        ExampleRenderer(renderer, max_tokens=self.context_length)
        uncut = replace(renderer, context_length=UNLIMITED)
        self._renderer = renderer
        self._examples, self._pairs = ExampleRenderer(uncut), PairRenderer(uncut)
        self._sample: Sample[tuple[int, int, int]] = Sample(TOKENS_COUNTED)

    def count(self, row: Row, key: int) -> None:
        """Add a row, if it belongs to the sample. Raises InvalidArgument when it cannot be rendered."""
        if self._sample.wants(key):
            self._sample.add(key, self._lengths(row))

    def found(self) -> Tokens | None:
        """What was counted; None without a row."""
        counted = self._sample.items
        if not counted:
            return None
        scale = self._sample.seen / len(counted)
        longest = sorted(length for length, _, _ in counted)
        total, trained = (sum(each[place] for each in counted) for place in (1, 2))
        return Tokens(
            total=round(total * scale),
            trained=round(trained * scale),
            mean=total / len(counted),
            p50=longest[len(longest) // 2],
            p95=longest[int(len(longest) * 0.95)],
            longest=longest[-1],
            over_context=round(sum(length > self.context_length for length in longest) * scale),
            context_length=self.context_length,
            is_estimate=not self._sample.is_whole,
        )

    def _lengths(self, row: Row) -> tuple[int, int, int]:
        """(longest sequence uncut, tokens, trained tokens); the last two as far as the context goes."""
        kind = format_of(row)
        if kind is RowFormat.PROMPTS:
            length = len(self._renderer.render(row["messages"], row.get("tools") or None))
            return length, min(length, self.context_length), 0
        made = (self._pairs if kind is RowFormat.PAIRS else self._examples).examples(row)
        lengths = [len(example.token_ids) for example in made]
        trained = sum(sum(map(bool, example.weights[: self.context_length])) for example in made)
        return max(lengths, default=0), sum(min(length, self.context_length) for length in lengths), trained
