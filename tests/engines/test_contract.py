"""The built-in engine, as its own process, passes the Engine API's contract."""

from __future__ import annotations

from tests.contract.engine import EngineContract


class TestBuiltinEngine(EngineContract):
    """The fixture `engine` is this room's."""
