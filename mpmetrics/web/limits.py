"""Limits for clients: what one may use of a server, and for how long.

A hostile client opens hundreds of connections, and finishes neither a TLS handshake nor a request
on any of them. `BoundedSocket` and `HandshakeTimeoutLoop` are the limits of the socket and of the
event loop; those of a connection are in `mpmetrics.web.uvicorn_server`.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from typing_extensions import Self

    from mpmetrics.web.connections import Connections


class Limits(NamedTuple):
    """What a client may use of a server; times are in seconds."""

    request_seconds: float = 10.0
    """Time for a TLS handshake, and for the head of a request."""

    response_seconds: float = 60.0
    """Time from the end of a request until the client has read the whole response."""

    idle_seconds: int = 75
    """Time after which an idle connection is closed; longer than most scrape intervals."""

    request_bytes: int = 16 << 10
    """Size of the head of a request."""

    connections: int = 200
    """Connections that are open at the same time; for a further one, another one is closed."""


DEFAULT_LIMITS: Final = Limits()

_EXHAUSTION: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""Errors that asyncio takes for a lack of descriptors or memory."""

_EXHAUSTED_SECONDS: Final = 0.5
"""How long no client is accepted after such an error: less than the second that asyncio waits."""


class BoundedSocket(socket.socket):
    """A listening socket that accepts a limited number of `Connections`.

    It also counts connections that the protocol does not see yet, because their TLS handshake is
    not over.
    """

    @classmethod
    def bound(cls, listener: socket.socket, connections: Connections) -> Self:
        """Return another handle of *listener* that adds what it accepts to *connections*.

        The caller closes both.
        """
        bounded = cls(fileno=listener.dup().detach())
        bounded._connections = connections
        bounded._exhausted = -_EXHAUSTED_SECONDS
        return bounded

    _connections: Connections
    _exhausted: float

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection. Raises `ConnectionAbortedError` when it is one too many.

        When this process or the system has no descriptor left, it raises another `OSError`, by
        which asyncio pauses for a second. Until Python 3.13 asyncio goes on to the next client all
        the same, and logs and plans that pause once for each client that may wait: it is told that
        no more clients wait.
        """
        if time.monotonic() < self._exhausted + _EXHAUSTED_SECONDS:
            raise BlockingIOError
        try:
            connection, address = super().accept()
        except OSError as error:
            if error.errno in _EXHAUSTION:
                self._exhausted = time.monotonic()
            raise
        if not self._connections.admit(connection, address):
            connection.close()
            # The system raises this for clients that have gone: asyncio goes on to the next.
            raise ConnectionAbortedError
        return connection, address


class HandshakeTimeoutLoop(asyncio.SelectorEventLoop):
    """An event loop whose servers limit the time of a TLS handshake to *seconds*."""

    def __init__(self, seconds: float) -> None:
        """Make the loop; the caller closes it."""
        super().__init__()
        self._handshake_seconds = seconds

    async def create_server(  # type: ignore[override]  # asyncio has one overload for each socket
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        *args: Any,
        ssl: ssl.SSLContext | None = None,
        **options: Any,
    ) -> asyncio.Server:
        """Create a server; uvicorn has no setting for this limit, and asyncio's is a minute."""
        if ssl is not None:
            options["ssl_handshake_timeout"] = self._handshake_seconds
        return await super().create_server(protocol_factory, *args, ssl=ssl, **options)
