"""HTTP/1.1 to upstreams as it comes over a wire: every shape of an answer, in every cut, and what becomes of the connection."""

from __future__ import annotations

import asyncio
import datetime
import gzip
import random
import ssl
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tunesmith.errors import FailedPrecondition
from tunesmith.gateway import connections as module
from tunesmith.gateway.addresses import AddressGuard, UpstreamRefused
from tunesmith.gateway.connections import Connections
from tunesmith.gateway.wire import Malformed, WireAnswer
from yarl import URL

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\n"
BODY = b'{"choices": []}\r\n\r\n' * 50  # blank lines, as behind a head
CHUNKED = b"".join(b"%x\r\n%s\r\n" % (len(BODY[i : i + 97]), BODY[i : i + 97]) for i in range(0, len(BODY), 97))
SHAPES = {
    "length": OK + b"content-length: %d\r\n\r\n" % len(BODY) + BODY,
    "chunked": OK + b"transfer-encoding: chunked\r\n\r\n" + CHUNKED + b"0\r\n\r\n",
    "trailer": OK + b"transfer-encoding: chunked\r\n\r\n" + CHUNKED + b"0\r\ncontent-type: text/evil\r\n\r\n",
    "continue": b"HTTP/1.1 100 Continue\r\nx: y\r\n\r\n" + OK + b"content-length: %d\r\n\r\n" % len(BODY) + BODY,
    "line ends": b"HTTP/1.1 200 OK\ncontent-type: application/json\ncontent-length: %d\n\n" % len(BODY) + BODY,
}
UNTIL_THE_END = b"HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n" + BODY


class Server:
    """Answers each request with the next of `answers`; an empty one closes the connection after that."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.heads: list[bytes] = []
        self.accepted = 0
        self.url = URL()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            while self.answers:
                self.heads.append(await reader.readuntil(b"\r\n\r\n"))
                await reader.readexactly(int(self.heads[-1].lower().partition(b"content-length: ")[2].split(b"\r")[0]))
                writer.write(self.answers.pop(0))
                await writer.drain()
                if self.answers and not self.answers[0]:
                    self.answers.pop(0)
                    break
            else:
                await reader.read()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving(
    *answers: bytes, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[tuple[Server, Connections]]:
    server = Server(*answers)
    listening = await asyncio.start_server(server.handle, "127.0.0.1", 0, ssl=tls)
    port = listening.sockets[0].getsockname()[1]
    server.url = URL(f"{'https' if tls else 'http'}://{host}:{port}/v1/chat/completions")
    connections = Connections(AddressGuard(["127.0.0.1", "localhost"]), silence=5.0)
    try:
        yield server, connections
    finally:
        await connections.close()
        listening.close()


async def whole(connections: Connections, url: URL) -> tuple[WireAnswer, bytes]:
    answer = await connections.post(url, b"{}", {"authorization": "Bearer sk-1"})
    body = await answer.read()
    answer.release()
    return answer, body


@pytest.mark.parametrize("shape", SHAPES)
async def test_every_shape_is_read_and_its_connection_used_again(shape: str) -> None:
    async with serving(*[SHAPES[shape]] * 3) as (server, connections):
        for _ in range(3):
            answer, body = await whole(connections, server.url)
            assert (answer.status, body) == (200, BODY)
            assert answer.content_type == "application/json"
            assert answer.headers["content-type"].startswith("application/json")
        assert server.accepted == 1
    assert server.heads[0].startswith(b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:%d\r\n" % server.url.port)
    assert b"authorization: Bearer sk-1\r\n" in server.heads[0]


async def test_a_body_without_a_length_ends_with_its_connection() -> None:
    async with serving(UNTIL_THE_END, b"", UNTIL_THE_END, b"") as (server, connections):
        for _ in range(2):
            answer, body = await whole(connections, server.url)
            assert (answer.status, body) == (200, BODY)
        assert server.accepted == 2


@pytest.mark.parametrize("shape", [*SHAPES, "until the end"])
async def test_no_cut_changes_what_is_read(shape: str) -> None:
    """The same bytes in pieces of any size, one byte each among them."""
    raw, rng = SHAPES.get(shape, UNTIL_THE_END), random.Random(shape)
    ends = shape == "until the end"
    for limit in [1, 2, 3, *rng.sample(range(4, len(raw)), 40), len(raw)]:
        async with serving(b"") as (server, connections):
            asking = asyncio.create_task(connections.post(server.url, b"{}", {}))
            connection = await connection_of(asking)
            start = 0
            while start < len(raw):
                end = start + rng.randint(1, limit)
                connection.data_received(raw[start:end])
                start = end
            if ends:
                connection.connection_lost(None)
            answer = await asking
            parts = [part async for part in answer.iter_any()]
            assert b"".join(parts) == BODY, limit
            assert answer.is_eof()
            answer.close()


async def connection_of(asking: asyncio.Task[WireAnswer]) -> module.Connection:
    """Of a request, once it was sent."""
    async with asyncio.timeout(10):
        while True:
            await asyncio.sleep(0)
            frame = asking.get_coro().cr_frame  # type: ignore[union-attr]
            if frame is not None and frame.f_locals.get("answer") is not None:
                return frame.f_locals["connection"]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n", "no HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 20_000, "longer than"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 5_000, "longer than"),
        (b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n", "switches"),
        (OK + b"content-length: 1\r\ncontent-length: 2\r\n\r\n..", "no HTTP"),
        (OK + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "no HTTP"),
        (OK + b"transfer-encoding: chunked\r\n\r\nzz\r\n", "no HTTP"),
        (OK + b"content-length: 100\r\n\r\nonly this", "closed"),
        (OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n", "closed"),
        (b"", "closed"),
    ],
)
async def test_what_breaks_is_an_error_and_ends_the_connection(answer: bytes, says: str) -> None:
    async with serving(answer, b"", SHAPES["length"]) as (server, connections):
        with pytest.raises(ConnectionError, match=says):
            await whole(connections, server.url)
        assert (await whole(connections, server.url))[1] == BODY
        assert server.accepted == 2


@pytest.mark.parametrize("more", [SHAPES["length"].replace(b"200 OK", b"201 No"), b"garbage", b"\0"])
@pytest.mark.parametrize("shape", ["length", "chunked"])
async def test_bytes_behind_an_answer_are_nobodys(shape: str, more: bytes) -> None:
    """They neither change the answer nor become that of the next request."""
    async with serving(SHAPES[shape] + more, SHAPES["chunked"]) as (server, connections):
        first, body = await whole(connections, server.url)
        assert (first.status, body) == (200, BODY)
        second, body = await whole(connections, server.url)
        assert (second.status, body, server.accepted) == (200, BODY, 2)


@pytest.mark.parametrize("close", [b"connection: close\r\n", b""])
async def test_a_connection_that_the_server_closes_is_not_used(close: bytes) -> None:
    async with serving(SHAPES["length"].replace(OK, OK + close), b"", SHAPES["length"]) as (server, connections):
        await whole(connections, server.url)
        async with asyncio.timeout(10):
            while any(each.is_usable() for idle in connections._idle.values() for each in idle):
                await asyncio.sleep(0.001)
        assert (await whole(connections, server.url))[1] == BODY
        assert server.accepted == 2


async def test_an_answer_that_was_left_ends_its_connection() -> None:
    async with serving(SHAPES["length"][:-10], SHAPES["length"]) as (server, connections):
        answer = await connections.post(server.url, b"{}", {})
        answer.release()
        assert (await whole(connections, server.url))[1] == BODY
        assert server.accepted == 2


@pytest.mark.parametrize(
    ("name", "pack"), [("gzip", gzip.compress), ("x-gzip", gzip.compress), ("deflate", zlib.compress)]
)
async def test_packed_answers_are_unpacked_in_bounded_pieces(name: str, pack: Callable[[bytes], bytes]) -> None:
    packed = pack(BODY * 10_000)
    sent = OK + b"content-encoding: %s\r\ncontent-length: %d\r\n\r\n" % (name.encode(), len(packed)) + packed
    async with serving(sent) as (server, connections):
        answer = await connections.post(server.url, b"{}", {})
        parts = [part async for part in answer.iter_any()]
        assert b"".join(parts) == BODY * 10_000
        assert max(map(len, parts)) <= 2**20


@pytest.mark.parametrize("name", [b"br", b"gzip"])
async def test_what_cannot_be_unpacked_is_an_error(name: bytes) -> None:
    async with serving(OK + b"content-encoding: %s\r\ncontent-length: 4\r\n\r\nnope" % name) as (server, connections):
        answer = await connections.post(server.url, b"{}", {})
        with pytest.raises(Malformed, match="packed"):
            _ = [part async for part in answer.iter_any()]
        answer.close()


async def test_nothing_more_is_read_while_nobody_takes_it() -> None:
    size = 32 * 2**20
    async with serving(OK + b"content-length: %d\r\n\r\n" % size + bytes(size)) as (server, connections):
        answer = await connections.post(server.url, b"{}", {})
        async with asyncio.timeout(20):
            while not answer._paused:
                await asyncio.sleep(0)
        assert answer._ahead < 2**21
        assert sum([len(part) async for part in answer.iter_any()]) == size


async def test_silence_is_a_timeout() -> None:
    async with serving(OK + b"content-length: 100\r\n\r\nonly this") as (server, connections):
        connections._silence = 0.05
        with pytest.raises(TimeoutError):
            await whole(connections, server.url)


async def test_a_key_with_a_line_end_is_refused_before_anything_is_sent() -> None:
    async with serving(SHAPES["length"]) as (server, connections):
        for key in ("sk-1\r\nx-evil: 1", "sk-1\n", "sk\0"):
            with pytest.raises(FailedPrecondition, match="line end"):
                await connections.post(server.url, b"{}", {"authorization": key})
        assert server.accepted == 0


async def test_an_address_that_is_not_allowed_is_not_connected_to() -> None:
    async with serving(SHAPES["length"]) as (server, _):
        strict = Connections(AddressGuard(), silence=5.0)
        for host in ("127.0.0.1", "localhost"):
            with pytest.raises(UpstreamRefused):
                await strict.post(server.url.with_host(host), b"{}", {})
        await strict.close()
        assert server.accepted == 0


async def test_tls_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the authorities that this machine trusts, and for the host's own name."""
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(certificate(tmp_path, "localhost"))
    module._trusting.cache_clear()
    async with serving(SHAPES["length"], SHAPES["length"], tls=served, host="localhost") as (server, connections):
        with pytest.raises(ssl.SSLCertVerificationError):
            await whole(connections, server.url)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "pem"))
        module._trusting.cache_clear()
        for _ in range(2):
            assert (await whole(connections, server.url))[1] == BODY
        with pytest.raises(ssl.SSLCertVerificationError):
            await whole(connections, server.url.with_host("127.0.0.1"))
    module._trusting.cache_clear()


def certificate(folder: Path, name: str) -> Path:
    """A self-signed certificate and its key, in one file."""
    key, subject = (
        ec.generate_private_key(ec.SECP256R1()),
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]),
    )
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return pem
