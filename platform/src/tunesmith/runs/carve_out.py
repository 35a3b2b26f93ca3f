"""How many rows of a dataset are held out for evaluations while it is trained on, where no evaluation dataset is given."""

from __future__ import annotations

CARVE_OUT_SHARE = 0.1
CARVE_OUT_MOST = 100
"""Evaluations inside training use at most 100 problems (docs/decisions)."""


def carved_out(rows: int) -> int:
    """Rows held out of so many by an RFT job: a tenth, at least one."""
    return max(1, min(CARVE_OUT_MOST, int(rows * CARVE_OUT_SHARE)))
