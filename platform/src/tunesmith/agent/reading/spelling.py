"""Slips of one letter in the words that rules look for: `epocs`, `lerning`, `modle`, `procede`. Names and short words are left alone."""

from __future__ import annotations

from functools import cache

from tunesmith.agent.reading.coverage import IDLE, KNOWN_WORDS, words

WORDS = words(
    """
    epochs epoch learning rates ranks dataset model models please proceed approve approved approval evaluator generate validation deploy
    deployment parallel samples sweep candidate candidates subsample classification winning winner continue instead without training
    evaluation confirm confirmed cancel
    """
)
"""What is mended to."""
SHORTEST = 5
"""Letters: shorter words have too many neighbours. A pair of swapped letters (`fien`) is mended from four on."""
_OWN = words(
    """
    match matches patch catch latch hatch modal medal trail trails text tests taste lost rated ration teach beach winners trained
    steps stamp deploys sample simple simply store stories spilt exact excepts accept where there these those which while their
    moved mode modes rather later latter longer lower tested resting leaning trait traits
    """
)
"""Words of their own that are one letter away from one of ours."""


@cache
def mended(word: str) -> str:
    """The word, or the one word of ours that is one slip away (a letter more, less or other, or two swapped; the first one right)."""
    if word in IDLE or word in KNOWN_WORDS or word in _OWN or word in WORDS or len(word) < 4 or not word.isalpha():
        return word
    near = [ours for ours in WORDS | {"fine", "tune"} if ours[0] == word[0] and _slip(word, ours)]
    near = [ours for ours in near if ours + "s" not in near or word.endswith("s")] if len(near) > 1 else near
    near = [ours for ours in near if not (word.endswith("s") and ours + "s" in near)]
    return near[0] if len(near) == 1 else word


def _slip(word: str, ours: str) -> bool:
    if len(word) == len(ours):
        other = [index for index, (one, two) in enumerate(zip(word, ours, strict=True)) if one != two]
        swapped = (
            len(other) == 2
            and other[1] == other[0] + 1
            and word[other[0]] == ours[other[1]]
            and word[other[1]] == ours[other[0]]
        )
        return swapped or (len(other) == 1 and len(word) >= SHORTEST)
    longer, shorter = (word, ours) if len(word) > len(ours) else (ours, word)
    if len(longer) - len(shorter) != 1 or len(shorter) < SHORTEST:
        return False
    if longer == shorter + "s" or longer == shorter + "d":
        return False  # a form of a word, not a slip
    return any(longer[:index] + longer[index + 1 :] == shorter for index in range(len(longer)))
