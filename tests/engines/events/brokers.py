"""A real `nats-server`, a listener to it, and servers that misbehave."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import nats
from nats.js.errors import NotFoundError

from tests.engines.events.messages import unpack
from tests.servers import LOOPBACK, free_port
from tests.workers import PATIENCE, spawn

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
    from pathlib import Path

    from typing_extensions import Self

STREAM = "KV"


class Broker:
    """A server on a port of its own, with JetStream; it can be killed and started again."""

    def __init__(
        self, program: str, directory: Path, config: str = "", *, jetstream: bool = True
    ) -> None:
        """Configure the server; *config* is more of its file."""
        self.port = free_port()
        self.url = f"nats://{LOOPBACK}:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        store = directory / "jetstream"
        file = directory / "nats.conf"
        keeps = f'jetstream {{ store_dir: "{store}" }}\n' if jetstream else ""
        file.write_text(f'listen: "{LOOPBACK}:{self.port}"\n{keeps}{config}')
        self._command = [program, "--config", str(file)]

    def __enter__(self) -> Self:
        """Start the server."""
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Kill the server."""
        self.kill()

    def start(self) -> None:
        """Start the server, and wait until it is ready."""
        ready = threading.Event()
        said: list[bytes] = []
        self._process = spawn(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self._reader = threading.Thread(target=_listen, args=(self._process, ready, said))
        self._reader.start()
        assert ready.wait(PATIENCE), b"".join(said).decode()
        assert any(b"Server is ready" in line for line in said), b"".join(said).decode()

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End the server by a signal, if it runs."""
        process, self._process = self._process, None
        if process is None:
            return
        assert self._reader is not None
        process.send_signal(how)
        process.wait(PATIENCE)
        self._reader.join()

    def stop(self) -> None:
        """Stop the server, with its connections open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        # Some of its threads may go on for a while; the kernel reports when all have stopped.
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)


def _listen(process: subprocess.Popen[bytes], ready: threading.Event, said: list[bytes]) -> None:
    """Read the log of the server until its end."""
    assert process.stderr is not None
    with process.stderr:
        for line in process.stderr:
            if not ready.is_set():
                said.append(line)
            if b"Server is ready" in line:
                ready.set()
    ready.set()


class Heard(NamedTuple):
    """A message that a listener got, with its *headers* as on the wire."""

    subject: str
    headers: bytes
    data: bytes

    @property
    def envelope(self) -> dict[str, Any]:
        """The envelope in the message."""
        found = unpack(self.data)
        assert isinstance(found, dict)
        return found

    @property
    def documents(self) -> Any:
        """The documents in the envelope."""
        return unpack(self.envelope["payload"])


class Listener:
    """A subscriber to all subjects, which speaks the protocol of NATS itself."""

    def __init__(
        self,
        port: int,
        *,
        login: Mapping[str, str] | None = None,
        context: ssl.SSLContext | None = None,
    ) -> None:
        """Connect and subscribe; from now on every message arrives."""
        self._socket = socket.create_connection((LOOPBACK, port), PATIENCE)
        file = self._socket.makefile("rb")
        info = file.readline()
        assert info.startswith(b"INFO "), info
        if context is not None:
            file.close()
            self._socket = context.wrap_socket(self._socket, server_hostname=LOOPBACK)
            file = self._socket.makefile("rb")
        self._file = file
        options = {"verbose": False, "headers": True, **(login or {})}
        self._socket.sendall(
            b"CONNECT " + json.dumps(options).encode() + b"\r\nSUB namespace.> 1\r\nPING\r\n"
        )
        assert self._file.readline() == b"PONG\r\n"

    def __enter__(self) -> Self:
        """Return the listener."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Disconnect."""
        self._file.close()
        self._socket.close()

    def next(self) -> Heard:
        """Return the next message."""
        while True:
            kind, *words = self._file.readline().split()
            if kind == b"PING":
                self._socket.sendall(b"PONG\r\n")
                continue
            assert kind in {b"MSG", b"HMSG"}, (kind, words)
            subject, size = words[0].decode(), int(words[-1])
            headers = int(words[-2]) if kind == b"HMSG" else 0
            data = self._file.read(size + 2)[:-2]
            return Heard(subject, data[:headers], data[headers:])

    def answer(self, data: bytes) -> None:
        """Answer the next message."""
        kind, _, _, reply, *_ = self._file.readline().split()
        assert kind == b"HMSG"
        command = b"PUB " + reply + b" " + str(len(data)).encode()
        self._socket.sendall(command + b"\r\n" + data + b"\r\n")

    def events(self, count: int) -> list[dict[str, Any]]:
        """Return the next *count* events."""
        found: list[dict[str, Any]] = []
        while len(found) < count:
            found += self.next().documents
        assert len(found) == count
        return found


async def with_stream(context: Any) -> None:
    """Create a stream that keeps all messages, if there is none."""
    try:
        await context.stream_info(STREAM)
    except NotFoundError:
        await context.add_stream(name=STREAM, subjects=["namespace.>"])


def do(url: str, what: Callable[[Any], Coroutine[Any, Any, Any]], **options: Any) -> Any:
    """Return the result of *what*, called with a JetStream context."""

    async def connect_and_run() -> Any:
        client = await nats.connect(url, connect_timeout=PATIENCE, **options)
        try:
            return await what(client.jetstream(timeout=PATIENCE))
        finally:
            await client.close()

    return asyncio.run(connect_and_run())


def read_stream(url: str) -> list[Heard]:
    """Return the messages of the stream."""

    async def read(context: Any) -> list[Heard]:
        state = (await context.stream_info(STREAM)).state
        found = []
        for number in range(state.first_seq, state.last_seq + 1):
            message = await context.get_msg(STREAM, number)
            headers = json.dumps(dict(message.headers or {})).encode()
            found.append(Heard(message.subject, headers, message.data))
        return found

    found = do(url, read)
    assert isinstance(found, list)
    return found


class Cutter:
    """A proxy that cuts the connection before an answer of the server.

    The server has the message then; its sender does not know.
    """

    def __init__(self, port: int, answer: bytes, count: int) -> None:
        """Listen; cut the first connection at the *answer* number *count*."""
        self._target = port
        self._answers = [answer]
        self._count = count
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port: int = self._listener.getsockname()[1]
        self.cut: list[bytes] = []
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        """Return the cutter."""
        return self

    def __exit__(self, *exception: object) -> None:
        """End all connections."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join()
        for each in self._open:
            _shut_down(each)
        for thread in self._threads[1:]:
            thread.join()
        for each in self._open:
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection((LOOPBACK, self._target))
            self._open += [client, server]
            answer = self._answers.pop(0) if self._answers else None
            for source, sink, mark in ((client, server, None), (server, client, answer)):
                thread = threading.Thread(target=self._copy, args=(source, sink, mark))
                self._threads.append(thread)
                thread.start()

    def _copy(self, source: socket.socket, sink: socket.socket, mark: bytes | None) -> None:
        """Pass data on, until it has the last *mark* in it."""
        seen = 0
        try:
            while data := source.recv(1 << 16):
                seen += data.count(mark) if mark else 0
                if mark and seen >= self._count:
                    self.cut.append(data)
                    break
                sink.sendall(data)
        except OSError:
            pass
        for each in (source, sink):
            _shut_down(each)


def _shut_down(each: socket.socket) -> None:
    with suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)


@contextmanager
def silent() -> Iterator[int]:
    """Yield a port of a server that accepts all connections and sends nothing."""
    # The kernel accepts connections for a socket that listens.
    with socket.create_server((LOOPBACK, 0), backlog=128) as listener:
        yield listener.getsockname()[1]


def plain(heard: list[bytes]) -> Callable[[socket.socket], None]:
    """Return a server for one connection that does not encrypt, and records what it receives."""

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            info = {"server_id": "x", "version": "2.9.0", "max_payload": 1 << 20, "headers": True}
            connection.sendall(b"INFO " + json.dumps({**info, "auth_required": True}).encode())
            connection.sendall(b"\r\n")
            while data := connection.recv(1 << 16):
                heard.append(data)

    return serve


def hanging_up(listener: socket.socket) -> None:
    """Serve connections: answer pings at once, and hang up at a message, which is never read."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        info = b'INFO {"server_id":"x","version":"2.9.0","max_payload":1000000}\r\n'
        with connection, suppress(OSError), connection.makefile("rb") as lines:
            connection.sendall(info)
            for line in lines:
                if line.startswith(b"PUB "):
                    connection.shutdown(socket.SHUT_WR)
                elif line.startswith(b"PING"):
                    connection.sendall(b"PONG\r\n")


def identifiers(documents: Sequence[Mapping[str, Any]]) -> list[int]:
    """Return the numbers of events."""
    return [document["event"]["event_id"] for document in documents]
