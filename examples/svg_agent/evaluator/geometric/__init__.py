"""Judges a drawing by its geometry: reads the rendered scene and checks requirements that can be verified.

    >>> verdicts = judge('<svg viewBox="0 0 100 100"><circle cx="18" cy="18" r="16" fill="red"/></svg>',
    ...                  ["a large red circle in the top-left corner", "exactly one shape"])
    >>> [v.met for v in verdicts], score(verdicts)
    ([1.0, 1.0], 1.0)

Deterministic, offline, a few milliseconds a drawing, standard library only. `language.py` says which sentences it
understands, `scene.py` what counts as a visible object.
"""

from .document import UnreadableDrawing
from .language import UnknownRequirement
from .verdicts import Verdict, judge, score

__all__ = ["UnknownRequirement", "UnreadableDrawing", "Verdict", "judge", "score"]
