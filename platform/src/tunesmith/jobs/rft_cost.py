"""What an RFT job has cost so far and will cost, where the operator set prices."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from tunesmith.catalog.prices import load_prices
from tunesmith.errors import InvalidArgument
from tunesmith.jobs.handler import ClaimedJob

log = logging.getLogger(__name__)


class RunCost:
    """The reckoning of one claim of a job, which goes on from what earlier claims reported.

    Time is that in which somebody had the job, by a clock that nobody sets: `run.seconds` of its progress.
    """

    def __init__(self, data_dir: Path, base_model: str, job: ClaimedJob) -> None:
        self._data_dir, self._base_model = data_dir, base_model
        run = job.progress.get("run") or {}
        unmeasured = time.time() - job.started if "sampled_tokens" in run else 0.0  # a claim of an earlier version
        self._seconds_before = float(run.get("seconds", unmeasured))
        self._begun = time.monotonic()
        self._so_far: tuple[tuple[int, int], dict[str, Any]] | None = None
        self._expected: dict[str, Any] | None = None
        """What the preflight's estimate comes to; empty where no price is set."""

    def so_far(self, tokens: tuple[int, int]) -> dict[str, Any]:
        """(sampled, trained) tokens so far and the time up to the last of them, and what they cost where prices are set."""
        if self._so_far is None or self._so_far[0] != tokens:
            sampled, trained = tokens
            seconds = round(self._seconds_before + time.monotonic() - self._begun, 1)
            found = {"sampled_tokens": sampled, "trained_tokens": trained, "seconds": seconds}
            self._so_far = tokens, {**found, **self._cost(sampled, trained, seconds)}
        return self._so_far[1]

    def expected(self, preflight: dict[str, Any] | None) -> dict[str, Any]:
        """`{"preflight"}` as it is in `status.json`, with what the job would cost by its estimate; empty where there is no estimate."""
        estimate = (preflight or {}).get("estimate")
        if not preflight or not estimate or not estimate["seconds"]:
            return {}
        if self._expected is None:
            tokens, seconds = estimate["sampled_tokens"] or 0, estimate["seconds"]
            low = self._cost(tokens, 0, seconds["low"])
            high = self._cost(tokens, tokens, seconds["high"])
            both = low and high
            self._expected = {"low": low["cost"], "high": high["cost"], "currency": low["currency"]} if both else {}
        return {"preflight": {**preflight, "estimate": {**estimate, "cost": self._expected or None}}}

    def _cost(self, sampled: int, trained: int, seconds: float) -> dict[str, Any]:
        """`{"cost", "currency"}`, or nothing where no price is set (or the price list cannot be read: a job does not fail for that).

        `sampled` are tokens of answers; prompts are not counted.
        """
        try:
            prices = load_prices(self._data_dir)
        except InvalidArgument as error:
            log.warning("no job shows its cost: %s", error.message)
            return {}
        if prices.currency is None:
            return {}
        price = prices.of(self._base_model)
        cost = trained / 1e6 * price.training_per_million + sampled / 1e6 * price.inference_per_million
        return {"cost": round(cost + seconds / 3600 * prices.machine_hour, 4), "currency": prices.currency}
