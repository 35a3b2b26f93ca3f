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


def test_agents_on_other_machines_are_told_the_public_address() -> None:
    assert Settings().gateway_url == "http://127.0.0.1:7777/litellm-gateway"
    assert Settings(public_url="https://t.example/").gateway_url == "https://t.example/litellm-gateway"
    assert Settings(public_url="https://t.example/sub").base_url == "http://127.0.0.1:7777"
    assert Settings(public_url="").public_url is None


@pytest.mark.parametrize(
    "url", ["t.example", "ftp://t.example", "https://", "https://k@t.example", "https://t.example?x=1"]
)
def test_a_public_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="address of this platform"):
        Settings(public_url=url)
