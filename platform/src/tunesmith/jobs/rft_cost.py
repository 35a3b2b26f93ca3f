"""What an RFT job has cost so far, where the operator set prices."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from tunesmith.catalog.prices import load_prices
from tunesmith.errors import InvalidArgument

log = logging.getLogger(__name__)


def rft_cost(data_dir: Path, base_model: str, sampled: int, trained: int, hours: float) -> dict[str, Any]:
    """`{"cost", "currency"}`, or nothing where no price is set (or the price list cannot be read: a job does not fail for that).

    Args:
        data_dir: of the platform, with `prices.json`.
        base_model: catalogue name.
        sampled: tokens that rollouts sampled. Prompts are not counted.
        trained: tokens of all optimizer steps.
        hours: wall time since the job was taken up.
    """
    try:
        prices = load_prices(data_dir)
    except InvalidArgument as error:
        log.warning("no job shows its cost: %s", error.message)
        return {}
    if prices.currency is None:
        return {}
    price = prices.of(base_model)
    cost = trained / 1e6 * price.training_per_million + sampled / 1e6 * price.inference_per_million
    return {"cost": round(cost + hours * prices.machine_hour, 4), "currency": prices.currency}
