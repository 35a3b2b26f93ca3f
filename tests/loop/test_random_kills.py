"""kill -9 at exact places of a running job, short form (`make check-kills` is the long one): nothing is lost, nothing doubled, the weights are the same.

What is killed, and right before which act, is in `benchmarks/kills`; so is what must hold afterwards.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.kills.campaign import ALONE, EVERYTHING, Fire, Size, run
from benchmarks.kills.held import claims
from benchmarks.kills.instants import PLACES, Place

SIZE = Size(rows=8, chunk=4, epochs=3)


def place(process: str, what: str) -> Place:
    """The place where a process is about to do something."""
    (found,) = [each for each in PLACES if each.process == process and what in each.what]
    return found


PLAN = (
    (place("learner", "header missing"), ALONE),
    (place("web", "completion committed"), ALONE),
    (place("orchestrator", "batch written, not renamed"), ALONE),
    (place("learner", "adapter whole, not renamed"), EVERYTHING),
)


def test_a_job_that_is_killed_where_it_hurts_loses_and_doubles_nothing(short_tmp: Path) -> None:
    ended = run(short_tmp / "h", SIZE, Fire(len(PLAN), 1, PLAN))
    try:
        found = claims(ended, short_tmp / "again")
    finally:
        ended.platform.stop()
    assert [kill.instant for kill in ended.kills] == [instant for instant, _ in PLAN], "each place was hit"
    assert [claim for claim in found if not claim.holds] == []
