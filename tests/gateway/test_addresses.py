"""Which upstreams may be called: the address that is connected to is the one that is checked."""

from __future__ import annotations

import socket

import aiohttp
import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from tunesmith.errors import InvalidArgument
from tunesmith.gateway.addresses import AddressGuard, GuardedConnector, UpstreamRefused

PRIVATE = [
    "http://127.0.0.1",
    "http://127.0.0.1:7777/v1",
    "http://127.1",
    "http://127.255.255.254",
    "http://localhost",
    "http://LOCALHOST:80/",
    "http://0.0.0.0",
    "http://0",
    "http://2130706433",
    "http://0x7f000001",
    "http://0x7f.0.0.1",
    "http://0177.0.0.1",
    "http://017700000001",
    "http://10.0.0.1",
    "http://172.31.255.255",
    "http://192.168.1.1",
    "http://169.254.169.254/latest/meta-data",
    "http://100.64.0.1",
    "http://192.0.0.192",
    "http://198.18.0.1",
    "http://224.0.0.1",
    "http://255.255.255.255",
    "http://[::]",
    "http://[::1]",
    "http://[0:0:0:0:0:0:0:1]:8000",
    "http://[::ffff:127.0.0.1]",
    "http://[::ffff:7f00:1]",
    "http://[::ffff:0:127.0.0.1]",
    "http://[::127.0.0.1]",
    "http://[2002:7f00:1::]",
    "http://[2002:a9fe:a9fe::1]",
    "http://[64:ff9b::7f00:1]",
    "http://[64:ff9b:1::808:808]",
    "http://[2001:0:7f00:1::]",
    "http://[2607:f8b0::5efe:10.0.0.1]",
    "http://[fe80::1]",
    "http://[fec0::1]",
    "http://[fd00:ec2::254]",
    "http://[ff02::1]",
    "http://user@127.0.0.1",
    "http://user:password@api.openai.com/v1",
    "http://api.openai.com@127.0.0.1",
    "http://127\uff0e0\uff0e0\uff0e1",
    "http://\u2460\u2461\u2466.0.0.1",
]
MALFORMED = [
    "",
    "api.openai.com",
    "//api.openai.com",
    "file:///etc/passwd",
    "ftp://api.openai.com",
    "gopher://127.0.0.1:6379/_SET",
    "unix:///run/docker.sock",
    "javascript:alert(1)",
    "http://",
    "http:///v1",
    "http://api.openai.com:99999",
    "http://api.openai.com:0",
    "http://api.openai.com\\@127.0.0.1",
    "http://[fe80::1%25eth0]",
    "http://[::1",
    "http://api.openai.com/v1?key=1",
    "http://api.openai.com/v1#x",
    "http://a b",
    "http://api.openai.com\r\nX-Injected: 1/",
]
PUBLIC = [
    "https://api.openai.com/v1",
    "http://1.1.1.1:8080",
    "https://[2606:4700:4700::1111]/v1",
    "http://[::ffff:8.8.8.8]",
    "http://[64:ff9b::808:808]",
    "http://[2002:808:808::1]",
    "https://m\u00fcller.example/v1",
    "https://v1.api-2.example",
]


async def refuse(guard: AddressGuard, url: str) -> None:
    """Check a URL as a call does: its text, then the addresses that it would be connected to."""
    parsed = guard.check_url(url)
    connector = GuardedConnector(guard)
    try:
        assert parsed.raw_host
        assert parsed.port
        await connector._resolve_host(parsed.raw_host, parsed.port)
    finally:
        await connector.close()


@pytest.mark.parametrize("url", PRIVATE)
async def test_private_upstreams_are_refused(url: str) -> None:
    with pytest.raises(UpstreamRefused) as caught:
        await refuse(AddressGuard(), url)
    assert caught.value.status == 403
    assert caught.value.reason == "upstream_refused"
    if "@" not in url and "number" not in caught.value.message:
        assert "TUNESMITH_ALLOWED_UPSTREAMS" in caught.value.message


@pytest.mark.parametrize("url", MALFORMED)
def test_what_is_no_url_of_an_upstream_is_an_error(url: str) -> None:
    with pytest.raises(InvalidArgument):
        AddressGuard(["0.0.0.0/0", "::/0"]).check_url(url)


@pytest.mark.parametrize("url", PUBLIC)
async def test_public_literals_and_names_pass_the_check_of_the_text(url: str) -> None:
    AddressGuard().check_url(url)


@pytest.mark.parametrize(
    ("entry", "good", "bad"),
    [
        ("127.0.0.1", "http://127.0.0.1:11434", "http://127.0.0.2"),
        ("127.0.0.1:11434", "http://127.0.0.1:11434/v1", "http://127.0.0.1:7777"),
        ("10.0.0.0/8", "http://10.9.8.7", "http://192.168.0.1"),
        ("[::1]:8000", "http://[::1]:8000", "http://[::1]:8001"),
        ("fd00::/8", "http://[fd12::1]", "http://[fe80::1]"),
        ("localhost", "http://localhost:5000", "http://127.0.0.1:5000"),
        ("LOCALHOST:5000", "http://Localhost:5000", "http://localhost:5001"),
    ],
)
async def test_the_operator_allows_hosts_ports_and_networks(entry: str, good: str, bad: str) -> None:
    await refuse(AddressGuard([entry]), good)
    with pytest.raises(UpstreamRefused):
        await refuse(AddressGuard([entry]), bad)


@pytest.mark.parametrize("entry", ["", "http://x", "10.0.0.0/33", "a b", "host:port", "10.0.0.1/8"])
def test_an_entry_that_means_nothing_is_an_error(entry: str) -> None:
    with pytest.raises(InvalidArgument, match="TUNESMITH_ALLOWED_UPSTREAMS"):
        AddressGuard([entry])


class Rebinding(AbstractResolver):
    """A name server that answers the first question with one address and the next with another."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=ip, port=port, family=socket.AF_INET, proto=0, flags=0)
            for ip in self.answers.pop(0)
        ]

    async def close(self) -> None:
        pass


async def test_a_name_that_changes_its_meaning_reaches_nothing_private() -> None:
    hits: list[str] = []

    async def handle(request: web.Request) -> web.Response:
        hits.append(request.path)
        return web.Response()

    app = web.Application()
    app.router.add_get("/{rest:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    resolver = Rebinding(["93.184.215.14", "127.0.0.1"], ["127.0.0.1"], ["127.0.0.1"])
    connector = GuardedConnector(AddressGuard(), resolver)
    # Of a mixed answer only the public address is left: this is all that would be connected to.
    assert [found["host"] for found in await connector._resolve_host("rebind.example", port)] == ["93.184.215.14"]
    async with aiohttp.ClientSession(connector=connector) as session:
        with pytest.raises(UpstreamRefused):
            await session.get(f"http://rebind.example:{port}/")
    assert hits == []
    allowed = GuardedConnector(AddressGuard([f"rebind.example:{port}"]), resolver)
    async with aiohttp.ClientSession(connector=allowed) as session:
        async with session.get(f"http://rebind.example:{port}/ok") as response:
            assert response.status == 200
    assert hits == ["/ok"]
    await runner.cleanup()
