"""Where the SVG example's modules are found: its evaluator is a project of its own, whose files import one another by name."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

REPO = Path(__file__).parents[2]
EXAMPLE = REPO / "examples" / "svg_agent"
EVALUATOR = EXAMPLE / "evaluator"


def evaluator_module(name: str) -> ModuleType:
    """A module of `evaluator/`, as its neighbours see it."""
    if str(EVALUATOR) not in sys.path:
        sys.path.insert(0, str(EVALUATOR))
    return importlib.import_module(name)
