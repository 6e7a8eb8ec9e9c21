"""The addresses that a server listens on: TCP, IPv6 and unix sockets."""

from __future__ import annotations

import http.client
import logging
import socket
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from mpmetrics import Page
from mpmetrics.errors import ListenError
from mpmetrics.web import PageServer
from tests.servers import Response, fetch
from tests.web.page_servers import serving
from tests.workers import PATIENCE

if TYPE_CHECKING:
    from pathlib import Path


def test_ipv6(directory: Path) -> None:
    """An IPv6 address has brackets, in the option and in the URL."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("there is no IPv6 here")
    with serving(directory, "[::1]:0") as server:
        assert server.address.startswith("http://[::1]:")
        assert fetch(server.address + "/metrics").status == 200


def test_every_interface(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A server on every interface is reachable by any address, and logs one warning."""
    with caplog.at_level(logging.WARNING, "mpmetrics"), serving(directory, ":0") as server:
        port = urlsplit(server.address).port
        assert fetch(f"http://127.0.0.1:{port}/metrics").status == 200
    (message,) = caplog.messages
    assert "other machines can read this page without a password" in message


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "localhost:0", "unix:{}/socket"])
def test_no_warning_without_reason(
    directory: Path, tmp_path: Path, listen: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that only this machine can connect to logs no warning."""
    with (
        caplog.at_level(logging.WARNING, "mpmetrics"),
        serving(directory, listen.format(tmp_path)),
    ):
        assert caplog.messages == []


@pytest.mark.parametrize(
    ("listen", "reason"),
    [
        ("nowhere", "not of the form HOST:PORT"),
        ("::1:80", "not of the form HOST:PORT"),
        ("127.0.0.1:", "'' is not a port"),
        ("127.0.0.1:65536", "'65536' is not a port"),
        ("127.0.0.1:-1", "'-1' is not a port"),
        ("127.0.0.1:http", "'http' is not a port"),
        ("unix:", "no path"),
        ("192.0.2.1:0", "assign"),
        ("no-such-host.invalid:0", ""),
    ],
)
def test_an_impossible_address(listen: str, reason: str) -> None:
    """An impossible address is an error of one line that names it."""
    with pytest.raises(ListenError) as caught:
        PageServer(Page([]), listen)
    assert str(caught.value).startswith(f"cannot listen on {listen}: ")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_port_that_is_taken() -> None:
    """A port in use stays with its owner, and is an error."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ListenError, match="in use"):
            PageServer(Page([]), listen)


def fetch_unix(path: str) -> Response:
    """Fetch the page from a socket in the file system."""
    connection = http.client.HTTPConnection("localhost", timeout=PATIENCE)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(PATIENCE)
    connection.sock.connect(path)
    try:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        return Response(answer.status, dict(answer.getheaders()), answer.read())
    finally:
        connection.close()


def test_a_unix_socket(directory: Path, tmp_path: Path) -> None:
    """A unix socket is removed with its server; that of a killed server is replaced."""
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    with serving(directory, f"unix:{path}") as server:
        assert server.address == f"unix:{path}"
        assert fetch_unix(str(path)).status == 200
        with pytest.raises(ListenError, match="in use"):
            PageServer(Page([]), f"unix:{path}")
        assert fetch_unix(str(path)).status == 200
    assert not path.exists()


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs unix sockets")
def test_a_unix_socket_of_a_server_that_hangs(tmp_path: Path) -> None:
    """A socket whose server accepts no client is in use; the check does not wait for the server."""
    path = str(tmp_path / "socket")
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(path)
        listener.listen(0)
        with suppress(BlockingIOError):
            while True:
                client = stack.enter_context(socket.socket(socket.AF_UNIX))
                client.settimeout(0)
                client.connect(path)
        with pytest.raises(ListenError, match="in use"):
            PageServer(Page([]), f"unix:{path}")


def test_what_is_no_socket_is_not_replaced(tmp_path: Path) -> None:
    """A file that is not a socket is not replaced."""
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(ListenError, match="not a socket"):
        PageServer(Page([]), f"unix:{path}")
    assert path.read_text() == "data"
