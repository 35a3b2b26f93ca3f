"""What the platform no longer needs: found by rules, removed in an order that a kill cannot hurt (`tunesmith gc`, `retention_days`).

Nothing that a job in flight, a job that can be resumed (FAILED), a deployment or a model needs is ever among it. Whatever is removed
is renamed into `.trash/` first, so that a name is there whole or not at all; the next collection empties what a killed one left.
"""

from tunesmith.jobs.retention.collector import Collected, collect
from tunesmith.jobs.retention.removed import check_not_removed

__all__ = ["Collected", "check_not_removed", "collect"]
