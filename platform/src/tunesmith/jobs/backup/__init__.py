"""One file that holds a whole platform, written while it runs, and a data folder made of it again.

A backup is a tar, compressed with zstd. Its last member, `manifest.json`, has the SHA-256 of every other: an archive that was cut has none.
It holds the keys and is as secret as the data folder: both are readable by their owner only.

Consistent it is by order. `tunesmith.db` comes first: what it names was there before. Of a run directory whatever rests on something else
is taken before it (events before batches, batches before rollouts), so that the copy looks like one that a kill -9 left, which every part
of the platform takes up. `completions.db` comes after all rollouts that were taken, and the answers that it names after it.
"""

from tunesmith.jobs.backup.reading import Restored, restore
from tunesmith.jobs.backup.writing import BackedUp, back_up

__all__ = ["BackedUp", "Restored", "back_up", "restore"]
