"""vLLM, in an environment of its own, passes the Engine API's contract."""

from __future__ import annotations

import pytest

from tests.contract.engine import EngineContract

pytestmark = pytest.mark.vllm


class TestVllmEngine(EngineContract):
    """The fixture `engine` is this room's."""
