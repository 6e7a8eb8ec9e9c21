"""HTTP connections that cannot be held open for ever, by uvicorn's implementation in h11.

uvicorn closes idle connections, but waits without end for the rest of a request, and for a client
that does not read its response. Both are what a hostile client does with hundreds of connections.
"""

from __future__ import annotations

import asyncio
import socket
import weakref
from typing import TYPE_CHECKING, Any, Final

import uvicorn  # only who serves needs it
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from typing_extensions import Self

REQUEST_SECONDS: Final = 10.0
"""Time that a client has to send the head of a request."""

RESPONSE_SECONDS: Final = 60.0
"""Time that it may take until a response is made and the client has read it."""

IDLE_SECONDS: Final = 75
"""Time after which an idle connection is closed; longer than most scrape intervals."""

LARGEST_REQUEST: Final = 16 << 10
"""Bytes that the head of a request may have."""

CONNECTIONS: Final = 200
"""Connections that may be open at once; a further one is closed at once."""


class NotifyingServer(uvicorn.Server):
    """A server that calls *tell* when it accepts connections."""

    def __init__(self, config: uvicorn.Config, tell: Callable[[], None]) -> None:
        """Serve what *config* says."""
        super().__init__(config)
        self._tell = tell

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and tell."""
        await super().startup(sockets)
        self._tell()


class BoundedSocket(socket.socket):
    """A listening socket that accepts `CONNECTIONS` at once and closes further ones.

    It counts what the protocol is not told of: connections whose TLS handshake is not over.
    """

    @classmethod
    def of(cls, listener: socket.socket) -> Self:
        """Return another handle of *listener*, to be closed by itself."""
        bounded = cls(fileno=listener.dup().detach())
        bounded._accepted = weakref.WeakSet()
        return bounded

    _accepted: weakref.WeakSet[socket.socket]

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection. Raises `ConnectionAbortedError` when it is one too many."""
        connection, address = super().accept()
        if sum(each.fileno() >= 0 for each in self._accepted) >= CONNECTIONS:
            connection.close()
            # What the system says of clients that have gone: asyncio goes on to the next.
            raise ConnectionAbortedError
        self._accepted.add(connection)
        return connection, address


class HandshakeTimeoutLoop(asyncio.SelectorEventLoop):
    """An event loop whose servers give a client `REQUEST_SECONDS` for its TLS handshake."""

    async def create_server(  # type: ignore[override]
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        *args: Any,
        ssl: ssl.SSLContext | None = None,
        **options: Any,
    ) -> asyncio.Server:
        """Create a server; uvicorn has no setting for this limit, and asyncio's is a minute."""
        if ssl is not None:
            options["ssl_handshake_timeout"] = REQUEST_SECONDS
        return await super().create_server(protocol_factory, *args, ssl=ssl, **options)


class BoundedConnection(H11Protocol):
    """A connection with a time limit for whatever it is waiting for.

    With *allowed_sans*, the client's certificate has to have one of these names.
    """

    def __init__(self, *args: Any, allowed_sans: frozenset[str], **more: Any) -> None:
        """Take what uvicorn gives."""
        super().__init__(*args, **more)
        self._allowed_sans = allowed_sans
        self._limit: asyncio.TimerHandle | None = None
        self._is_half_closed = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request, if the client may make one."""
        super().connection_made(transport)
        if self._is_allowed(transport):
            self._give(REQUEST_SECONDS)
        else:
            transport.abort()

    def _is_allowed(self, transport: asyncio.Transport) -> bool:
        """Tell whether the client's certificate has one of the names that are let in."""
        if not self._allowed_sans:
            return True
        certificate = transport.get_extra_info("peercert") or {}
        names = {value for _, value in certificate.get("subjectAltName", ())}
        return not self._allowed_sans.isdisjoint(names)

    def data_received(self, data: bytes) -> None:
        """Take note of whether this completed a request, or began one."""
        waited_for_request = self._is_between_requests
        super().data_received(data)
        if not self._is_between_requests:
            if waited_for_request:
                self._give(RESPONSE_SECONDS)
        elif self._limit is None:
            self._give(REQUEST_SECONDS)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Let a client that sends no more still have its response; TLS knows no such thing."""
        self._is_half_closed = self.scheme == "http" and not self._is_between_requests
        return self._is_half_closed

    @property
    def _is_between_requests(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def on_response_complete(self) -> None:
        """Go over to uvicorn's own limit for idle connections; a next request may be there."""
        self._stop_limit()
        super().on_response_complete()
        if not self._is_between_requests:
            self._give(RESPONSE_SECONDS)
        elif self._is_half_closed:
            self.transport.close()
        elif self.conn.trailing_data[0]:
            self._give(REQUEST_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop to wait."""
        self._stop_limit()
        super().connection_lost(exc)

    def _give(self, seconds: float) -> None:
        """Close the connection in so many *seconds*."""
        self._stop_limit()
        self._limit = self.loop.call_later(seconds, self.transport.abort)

    def _stop_limit(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None
