"""Clients that are slow, huge, malformed or gone: the server answers the next one."""

from __future__ import annotations

import re
import socket
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import trustme

from mpmetrics import Page
from mpmetrics.web import limits
from mpmetrics.web.server import Serving
from mpmetrics.web.web_config import WebConfig, read_web_config
from tests.servers import fetch
from tests.workers import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LINES = 40_000

# More than the buffers of a connection hold, in few lines, so that it is soon made.
LARGE = "".join(f'big{{n="{number}{"x" * 16_000}"}} 1\n' for number in range(2_000))


@contextmanager
def serving(lines: int = 1) -> Iterator[Serving]:
    """Serve a page of so many lines; at the end the server has to answer still."""
    text = "".join(f'big{{n="{number}"}} 1\n' for number in range(lines))
    server = Serving(Page([lambda: text]), "127.0.0.1:0")
    server.start()
    try:
        yield server
        assert fetch(server.address + "/metrics").status == 200
    finally:
        server.stop()


def connect(server: Serving) -> socket.socket:
    """Return a connection that has sent nothing yet."""
    parts = urlsplit(server.address)
    return socket.create_connection((parts.hostname or "", parts.port or 0), timeout=PATIENCE)


def read_to_end(connection: socket.socket) -> bytes:
    """Read until the server closes."""
    received = b""
    try:
        while chunk := connection.recv(1 << 16):
            received += chunk
    except ConnectionResetError:
        pass
    return received


GET = b"GET /metrics HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    "sent", [b"", b"G", GET, GET + b"\r\n" + GET], ids=["nothing", "a-byte", "half", "second-half"]
)
def test_a_request_that_never_ends(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while the connection is closed, whether it is the first request or a later one."""
    monkeypatch.setattr(limits, "REQUEST_SECONDS", 0.2)
    with serving() as server, connect(server) as connection:
        connection.sendall(sent)
        assert read_to_end(connection).count(b"200 OK") == sent.count(b"\r\n\r\n")


def test_a_body_that_never_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused at once, and not waited for."""
    monkeypatch.setattr(limits, "REQUEST_SECONDS", 0.2)
    with serving() as server, connect(server) as connection:
        connection.sendall(b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nab")
        assert b"405 Method Not Allowed" in connection.recv(1 << 16)
        connection.sendall(b"c")
        read_to_end(connection)


def test_a_client_that_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its response is not kept for ever."""
    with (
        serving(LINES) as server,
        monkeypatch.context() as patch,
        connect(server) as connection,
    ):
        patch.setattr(limits, "RESPONSE_SECONDS", 0.3)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall((GET + b"\r\n") * 3)
        (protocol,) = wait_for_connection(server)
        while protocol in server._server.server_state.connections:
            threading.Event().wait(0.02)
        assert len(read_to_end(connection)) < 3 * LINES * len('big{n="1"} 1')


def wait_for_connection(server: Serving) -> set[object]:
    """Return the connections that the server has, once there is one."""
    while not server._server.server_state.connections:
        threading.Event().wait(0.005)
    return set(server._server.server_state.connections)


def test_a_huge_head() -> None:
    """It is refused before it fills the memory."""
    with serving() as server, connect(server) as connection:
        connection.sendall(GET)
        try:
            for _ in range(1000):
                connection.sendall(b"X-Filler: " + b"x" * 10_000 + b"\r\n")
        except (BrokenPipeError, ConnectionResetError):
            return
        assert b"200 OK" not in read_to_end(connection)


@pytest.mark.parametrize(
    "sent",
    [
        b"\r\n\r\n\r\n\r\nnonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        b"GET  HTTP/1.1\r\n\r\n",
        b"GET /metrics HTTP/9.9\r\nHost: x\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\n\r\n",
        GET + b"Content-Length: -1\r\n\r\n",
        GET + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        GET + b"\x00: \x00\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    ],
    ids=range(9),
)
def test_no_request_at_all(sent: bytes) -> None:
    """It is answered by 400, or not at all, and the connection is closed."""
    with serving() as server, connect(server) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        received = read_to_end(connection)
        assert received.startswith((b"HTTP/1.1 400", b"HTTP/1.1 200")) or received == b""


def test_pipelining() -> None:
    """Requests that come at once are answered in their order."""
    paths = [b"/-/healthy", b"/metrics", b"/nowhere", b"/-/ready"] * 5
    with serving() as server, connect(server) as connection:
        requests = [b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path for path in paths]
        connection.sendall(b"".join(requests)[:-2] + b"Connection: close\r\n\r\n")
        received = read_to_end(connection)
    statuses = re.findall(rb"HTTP/1\.1 ([0-9]+) ", received)
    assert statuses == [b"200", b"200", b"404", b"200"] * 5


@pytest.mark.parametrize(
    "headers",
    [
        {"Accept": ";;;,,,;q=x"},
        {"Accept": "application/openmetrics-text; version=1.0.0; q=1e400"},
        {"Accept": "text/plain;" + "a=b;" * 3000},
        {"Accept": "\xff\xfe"},
        {"Accept-Encoding": "gzip;q=nan, *;q=-1"},
        {"Accept-Encoding": "gzip;q=0, identity;q=0"},
    ],
    ids=range(6),
)
def test_odd_headers(headers: dict[str, str]) -> None:
    """A scrape that asks for nonsense gets the oldest format."""
    with serving() as server:
        answer = fetch(server.address + "/metrics", headers=headers)
        assert answer.status == 200
        assert b'big{n="0"} 1.0\n' in answer.body


@pytest.mark.parametrize(
    "target",
    ["/metrics?name[]=%ff%fe", "/metrics?%00", "/%ff", "/metrics%00", "/metrics?" + "a=b&" * 3000],
)
def test_odd_targets(target: str) -> None:
    """Neither paths nor queries have to be text."""
    with serving() as server:
        assert fetch(server.address + target).status in {200, 404}


def test_a_client_that_goes_away_while_it_is_answered() -> None:
    """Nobody waits for it, and others get the answer that it has asked for."""
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> str:
        begun.set()
        assert go_on.wait(PATIENCE)
        return "slow 1\n"

    server = Serving(Page([slow]), "127.0.0.1:0")
    server.start()
    try:
        with connect(server) as connection:
            connection.sendall(GET + b"\r\n")
            assert begun.wait(PATIENCE)
        go_on.set()
        assert b"slow 1.0\n" in fetch(server.address + "/metrics").body
    finally:
        go_on.set()
        server.stop()


def test_half_a_connection() -> None:
    """A client may close its side before it reads."""
    with serving() as server, connect(server) as connection:
        connection.sendall(GET + b"Connection: close\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        assert b"200 OK" in read_to_end(connection)


def test_a_client_that_does_not_read_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    """It is cut off, and not a word is lost about it."""
    server = Serving(Page([lambda: LARGE]), "127.0.0.1:0")
    server.start()
    try:
        with connect(server) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 12)
            connection.sendall(GET + b"\r\n")
            assert connection.recv(1)
            server.stop()
            assert not server._thread.is_alive()
    finally:
        server.stop()
    assert caplog.records == []


@pytest.fixture
def tls(tmp_path: Path) -> WebConfig:
    """Return a configuration with a certificate."""
    certificate = trustme.CA().issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    path = tmp_path / "web.yml"
    path.write_text("tls_server_config: {cert_file: cert.pem, key_file: key.pem}")
    return read_web_config(path)


def test_too_many_connections_without_a_handshake(
    monkeypatch: pytest.MonkeyPatch, tls: WebConfig
) -> None:
    """Who only connects takes up room, too; where there is none, it is closed at once."""
    monkeypatch.setattr(limits, "CONNECTIONS", 5)
    server = Serving(Page([]), "127.0.0.1:0", web_config=tls)
    server.start()
    try:
        with ExitStack() as stack:
            for _ in range(5):
                stack.enter_context(connect(server))
            with connect(server) as refused:
                assert read_to_end(refused) == b""
    finally:
        server.stop()


def test_a_handshake_that_never_ends(monkeypatch: pytest.MonkeyPatch, tls: WebConfig) -> None:
    """It has the time of a request."""
    monkeypatch.setattr(limits, "REQUEST_SECONDS", 0.1)
    server = Serving(Page([]), "127.0.0.1:0", web_config=tls)
    server.start()
    try:
        with connect(server) as connection:
            assert read_to_end(connection) == b""
    finally:
        server.stop()


def test_too_many_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """One too many is closed at once; when others go, there is room again."""
    monkeypatch.setattr(limits, "CONNECTIONS", 5)
    with serving() as server, ExitStack() as stack:
        for _ in range(5):
            connection = stack.enter_context(connect(server))
            connection.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(1 << 12)
        with connect(server) as refused:
            assert read_to_end(refused) == b""
        stack.close()
        while server._server.server_state.connections:
            threading.Event().wait(0.005)
