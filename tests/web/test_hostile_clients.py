"""Clients that are slow, huge, malformed or gone: the server answers the next client."""

from __future__ import annotations

import http.client
import re
import socket
import threading
from base64 import b64encode
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import bcrypt
import pytest
import trustme

from mpmetrics import Page
from mpmetrics.web.limits import DEFAULT_LIMITS, Limits
from mpmetrics.web.server import PageServer
from mpmetrics.web.web_config import WebConfig, read_web_config
from tests.servers import eventually, fetch
from tests.workers import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

LINES = 40_000

# More than the buffers of a connection hold, in few lines, so that the page is soon made.
LARGE = "".join(f'big{{n="{number}{"x" * 16_000}"}} 1\n' for number in range(800))


@contextmanager
def serving(
    lines: int = 1,
    limits: Limits = DEFAULT_LIMITS,
    web_config: WebConfig | None = None,
    text: str = "",
) -> Iterator[PageServer]:
    """Serve *text* or so many *lines*; check at the end that the server still answers."""
    text = text or "".join(f'big{{n="{number}"}} 1\n' for number in range(lines))
    server = PageServer(Page([lambda: text]), "127.0.0.1:0", limits=limits, web_config=web_config)
    server.start()
    try:
        yield server
        if web_config is None:
            eventually(lambda: answers(server), "the server answers")
    finally:
        server.stop()


def answers(server: PageServer) -> bool:
    """Return whether the server answers a request within its limits."""
    try:
        return fetch(server.address + "/-/healthy").status == 200
    except (OSError, http.client.HTTPException):
        return False


def connect(server: PageServer) -> socket.socket:
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
def test_a_request_that_never_ends(sent: bytes) -> None:
    """A connection whose first or later request stays incomplete is closed."""
    with serving(limits=Limits(request_seconds=1.0)) as server, connect(server) as connection:
        connection.sendall(sent)
        assert read_to_end(connection).count(b"200 OK") == sent.count(b"\r\n\r\n")


def test_a_body_that_never_comes() -> None:
    """A request with a body is refused before the body arrives."""
    with serving(limits=Limits(request_seconds=1.0)) as server, connect(server) as connection:
        connection.sendall(b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nab")
        assert b"405 Method Not Allowed" in connection.recv(1 << 16)
        connection.sendall(b"c")
        read_to_end(connection)


def test_a_client_that_does_not_read() -> None:
    """A connection whose client does not read its response is closed."""
    with (
        serving(LINES, Limits(response_seconds=1.0)) as server,
        connect(server) as connection,
    ):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        # More than the kernel keeps for a client, which is some megabytes.
        connection.sendall((GET + b"\r\n") * 16)
        (own,) = wait_for_connection(server)
        eventually(lambda: own not in server._server.connections, "the connection is closed")
        assert len(read_to_end(connection)) < 16 * LINES * len('big{n="1"} 1')


def wait_for_connection(server: PageServer) -> Sequence[object]:
    """Return the connections of the server, once it has one."""
    connections: Sequence[object] = eventually(
        lambda: server._server.connections, "a connection is accepted"
    )
    return connections


def test_a_huge_head() -> None:
    """A request with a huge head is refused before it fills the memory."""
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
def test_bytes_that_are_no_request(sent: bytes) -> None:
    """Bytes that are no request are answered with 400, or not at all; the connection is closed."""
    with serving() as server, connect(server) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        received = read_to_end(connection)
        assert received.startswith((b"HTTP/1.1 400", b"HTTP/1.1 200")) or received == b""


def test_pipelining() -> None:
    """Pipelined requests are answered in their order."""
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
    """A scrape with malformed headers gets the oldest format."""
    with serving() as server:
        answer = fetch(server.address + "/metrics", headers=headers)
        assert answer.status == 200
        assert b'big{n="0"} 1.0\n' in answer.body


@pytest.mark.parametrize(
    "target",
    ["/metrics?name[]=%ff%fe", "/metrics?%00", "/%ff", "/metrics%00", "/metrics?" + "a=b&" * 3000],
)
def test_odd_targets(target: str) -> None:
    """Paths and queries that are not text are answered."""
    with serving() as server:
        assert fetch(server.address + target).status in {200, 404}


def test_a_client_that_goes_away_while_it_is_answered() -> None:
    """A client that disconnects costs no other client its answer."""
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> str:
        begun.set()
        assert go_on.wait(PATIENCE)
        return "slow 1\n"

    server = PageServer(Page([slow]), "127.0.0.1:0")
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
    """A client may close its side of the connection before it reads the response."""
    with serving() as server, connect(server) as connection:
        connection.sendall(GET + b"Connection: close\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        assert b"200 OK" in read_to_end(connection)


def test_a_client_that_does_not_read_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    """A server that stops cuts off a client that does not read, and logs nothing."""
    server = PageServer(Page([lambda: LARGE]), "127.0.0.1:0")
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


def test_too_many_connections_without_a_handshake(tls: WebConfig) -> None:
    """Connections without a handshake count towards the limit; the oldest one is closed."""
    limits = Limits(connections=5, request_seconds=PATIENCE)
    with serving(limits=limits, web_config=tls) as server, ExitStack() as stack:
        held = [stack.enter_context(connect(server)) for _ in range(6)]
        assert read_to_end(held[0]) == b""


def test_a_handshake_that_never_ends(tls: WebConfig) -> None:
    """A TLS handshake has the time limit of a request."""
    with (
        serving(limits=Limits(request_seconds=0.1), web_config=tls) as server,
        connect(server) as connection,
    ):
        assert read_to_end(connection) == b""


def test_too_many_connections() -> None:
    """For one connection too many, the one is closed that has been quiet for the longest time."""
    limits = Limits(connections=5, request_seconds=PATIENCE)
    with serving(limits=limits) as server, ExitStack() as stack:
        held = [stack.enter_context(connect(server)) for _ in range(5)]
        for connection in held[:2]:
            connection.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(1 << 12)
        assert fetch(server.address + "/metrics").status == 200
        assert read_to_end(held[2]) == b""


HELD = {
    "nothing": b"",
    "half a request": GET,
    "a whole request": GET + b"\r\n",
    "many requests": (GET + b"\r\n") * 50,
}


@pytest.mark.parametrize("sent", HELD.values(), ids=HELD)
def test_held_connections_do_not_keep_a_scrape_out(sent: bytes) -> None:
    """A scrape is answered while one client holds more connections than the server has."""
    limits = Limits(request_seconds=PATIENCE, response_seconds=PATIENCE)
    with serving(lines=2000, limits=limits) as server, ExitStack() as stack:
        for _ in range(limits.connections + 100):
            connection = stack.enter_context(connect(server))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 12)
            connection.sendall(sent)
        for _ in range(3):
            assert fetch(server.address + "/metrics").status == 200


def test_a_scrape_among_guesses_and_held_connections(tmp_path: Path) -> None:
    """A user whose password is new is let in while others guess, hang up, and hold connections."""
    hashed = bcrypt.hashpw(b"right", bcrypt.gensalt(8)).decode()
    path = tmp_path / "web.yml"
    path.write_text(f"basic_auth_users: {{alice: {hashed}}}")
    over = threading.Event()

    def guess(server: PageServer) -> None:
        number = 0
        while not over.wait(0.01):
            number += 1
            header = b64encode(b"alice:guess %d" % number)
            with connect(server) as connection:
                connection.sendall(GET + b"Authorization: Basic " + header + b"\r\n\r\n")

    with serving(web_config=read_web_config(path)) as server, ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(connect(server))
        guessing = threading.Thread(target=guess, args=[server])
        guessing.start()
        stack.callback(guessing.join)
        stack.callback(over.set)
        for _ in range(5):
            header = {"Authorization": "Basic " + b64encode(b"alice:right").decode()}
            assert fetch(server.address + "/metrics", headers=header).status == 200


def test_a_client_that_does_not_read_takes_little_memory() -> None:
    """Connections whose clients do not read share the page that they wait for."""
    assert len(LARGE) > 10 * WAITING
    with serving(text=LARGE) as server, ExitStack() as stack:
        for _ in range(10):
            connection = stack.enter_context(connect(server))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 12)
            connection.sendall(GET + b"\r\n")
        answered = eventually(lambda: waiting_bytes(server), "all of them are being answered")
        assert max(answered) <= WAITING


WAITING = 1 << 18
"""More bytes than wait in a connection until its client reads; less than the page has."""


def waiting_bytes(server: PageServer) -> Sequence[int]:
    """Return how many bytes wait in each connection; nothing until ten have some."""
    sizes = [each.transport.get_write_buffer_size() for each in server._server.connections]
    found = [size for size in sizes if size]
    return found if len(found) == 10 else []
