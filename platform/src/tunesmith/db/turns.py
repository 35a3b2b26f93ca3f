"""Whose turn it is: the order in which jobs of a kind are taken, as a pure function.

Jobs that have begun (their worker died or gave them back) and deletions come first. Then places are shared: the next is the oldest job of
whoever (user of an account) has the fewest jobs of that kind running; of equals, of whoever was served longest ago. So a hundred jobs
of one user do not keep another's first one waiting for more than one end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Share = tuple[str, str]
"""Account and user: who shares the places."""


@dataclass(frozen=True)
class Waiting:
    """A job that could be taken."""

    name: str
    share: Share
    created: float
    first: bool
    """It has begun, or is to be deleted: it is not held against anybody's share."""


def in_turn(waiting: Iterable[Waiting], running: Mapping[Share, int], served: Mapping[Share, float]) -> list[str]:
    """Names of the jobs in the order in which they would be taken if none of those that run ended meanwhile.

    Args:
        waiting: what could be taken.
        running: how many jobs each share has running.
        served: when a job of each share was last begun (Unix seconds).
    """
    left = sorted(waiting, key=lambda job: (job.created, job.name))
    order = [job.name for job in left if job.first]
    queues: dict[Share, list[Waiting]] = {}
    for job in left:
        if not job.first:
            queues.setdefault(job.share, []).append(job)
    counts, last = Counter(dict(running)), dict(served)
    turn = max(last.values(), default=0.0)
    while queues:
        share = min(queues, key=lambda each: (counts[each], last.get(each, 0.0), queues[each][0].created, each))
        order.append(queues[share].pop(0).name)
        counts[share] += 1
        turn += 1.0
        last[share] = turn
        if not queues[share]:
            del queues[share]
    return order
