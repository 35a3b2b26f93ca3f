"""The settings that every process of a platform shares."""

from __future__ import annotations

import pytest
from tunesmith.settings import Settings


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:7777"),
        ("0.0.0.0", "http://127.0.0.1:7777"),
        ("::", "http://[::1]:7777"),
        ("::1", "http://[::1]:7777"),
        ("gpu.example", "http://gpu.example:7777"),
    ],
)
def test_jobs_reach_the_platform_wherever_it_listens(host: str, url: str) -> None:
    assert Settings(host=host).base_url == url
