"""HTTP for tests: servers that end with their `with` block, and a client without exceptions."""

from __future__ import annotations

import http.client
import os
import random
import socket
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit
from wsgiref.simple_server import WSGIRequestHandler, make_server

from tests.workers import PATIENCE, spawn

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from socketserver import BaseServer

    Answer = Callable[["Handler"], None]

LOOPBACK = "127.0.0.1"


class Response(NamedTuple):
    """The answer of a server; the names of *headers* are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


def fetch(url: str, method: str = "GET", headers: Mapping[str, str] | None = None) -> Response:
    """Send one request and return the answer, whatever its status."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=PATIENCE)
    target = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
    try:
        connection.request(method, target, headers=dict(headers or {}))
        answer = connection.getresponse()
        names = {name.lower(): value for name, value in answer.getheaders()}
        return Response(answer.status, names, answer.read())
    finally:
        connection.close()


class Handler(BaseHTTPRequestHandler):
    """A handler that answers every GET by the function of its server, and logs nothing."""

    server: _Server

    def do_GET(self) -> None:
        """Call the server's function."""
        self.server.answer(self)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name it has
        """Log nothing."""

    def send(self, body: bytes, status: int = 200, **headers: str) -> None:
        """Send a whole answer; underscores in the names of *headers* become dashes."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    """A server whose answers can wait for the end of the test."""

    daemon_threads = False

    def __init__(self, answer: Answer) -> None:
        super().__init__((LOOPBACK, 0), Handler)
        self.answer = answer
        self.over = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore the error: in some tests the client gives up."""


@contextmanager
def answering(answer: Answer) -> Iterator[str]:
    """Serve answers of *answer* on a free port; yield the URL.

    An answer that has to be late waits for `handler.server.over`.
    """
    with _Server(answer) as server, _in_thread(server):
        try:
            yield f"http://{LOOPBACK}:{server.server_port}/metrics"
        finally:
            server.over.set()


@contextmanager
def answering_with(body: bytes, status: int = 200, **headers: str) -> Iterator[str]:
    """Serve the same answer to every request; yield the URL."""
    with answering(lambda handler: handler.send(body, status, **headers)) as url:
        yield url


class _QuietWsgi(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name it has
        """Log nothing."""


@contextmanager
def serving_wsgi(application: Any) -> Iterator[str]:
    """Serve a WSGI application in a thread, on a free port; yield the URL."""
    server = make_server(LOOPBACK, 0, application, handler_class=_QuietWsgi)
    with server, _in_thread(server):
        yield f"http://{LOOPBACK}:{server.server_port}/metrics"


@contextmanager
def _in_thread(server: BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()


@contextmanager
def listening() -> Iterator[socket.socket]:
    """Yield a socket that listens on a free port.

    A server process inherits it by its number. Clients need not wait for the server: the kernel
    accepts their connections already.
    """
    with socket.create_server((LOOPBACK, 0), backlog=128) as listener:
        yield listener


@contextmanager
def running(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server program until the end of the block, then end it by SIGTERM."""
    with spawn(command, **options) as process:
        try:
            yield process
            process.terminate()
            process.wait(PATIENCE / 2)
        finally:
            process.kill()


def free_port() -> int:
    """Return a port that no process uses, and that the kernel gives to none that asks for any."""
    return free_ports(1)


def free_ports(count: int, host: str = LOOPBACK) -> int:
    """Return the first of *count* such ports in a row. Raises `OSError` without such a *host*."""
    # Below the range that Linux gives away. The seed makes parallel tests try other ports.
    chance = random.Random(time.time_ns() ^ os.getpid())
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    socket.create_server((host, 0), family=family).close()
    while True:
        first = chance.randrange(20_000, 32_000)
        try:
            for port in range(first, first + count):
                socket.create_server((host, port), family=family).close()
        except OSError:
            continue
        return first


def eventually(probe: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """Call *probe* until it returns a true value; return that.

    Only for events that cannot call back, as in programs that are not ours.
    """
    end = time.monotonic() + patience
    while time.monotonic() < end:
        answer = probe()
        if answer:
            return answer
        threading.Event().wait(0.05)
    message = f"{what}: not within {patience} s"
    raise AssertionError(message)
