"""A uvicorn server with a time limit for every state of a connection.

uvicorn closes idle connections, but waits without end for the rest of a request, and for a client
that does not read its response.

uvicorn documents neither its protocol classes nor the state of its server, and any release may
change them. No other module uses them. pyproject.toml admits the releases that are tested, and
tests/web/test_uvicorn_server.py lists each private name with its use.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio
    import socket
    import ssl
    from collections.abc import Callable, Sequence

    from mpmetrics.web.apps import AsgiApp
    from mpmetrics.web.connections import Connection, Connections
    from mpmetrics.web.limits import Limits

GRACE_SECONDS: Final = 2
"""Time that open requests have when a server stops."""


BACKLOG: Final = 128
"""Connections that the system accepts before the server does; asyncio takes them all at once."""


class Admission(NamedTuple):
    """What a server knows about its *connections*, and whom it lets in.

    With *allowed_sans*, a client's certificate has to have one of these names. A server that
    *awaits_half_closed* clients answers one that has closed its own side. Such a client cannot be
    told from one that has gone, and would have its password compared all the same.
    """

    connections: Connections
    allowed_sans: frozenset[str] = frozenset()
    awaits_half_closed: bool = True


class BoundedServer(uvicorn.Server):
    """A server for one ASGI application that keeps the `Limits` of its connections."""

    def __init__(
        self,
        application: AsgiApp,
        limits: Limits,
        *,
        tls: ssl.SSLContext | None,
        admission: Admission,
        on_start: Callable[[], None],
    ) -> None:
        """Configure uvicorn to log nothing itself; *on_start* is called when it accepts clients."""
        protocol: Any = partial(BoundedConnection, limits=limits, admission=admission)
        config = uvicorn.Config(
            application,
            http=protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",  # its errors are tracebacks, even for clients cut off at the end
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=limits.idle_seconds,
            timeout_graceful_shutdown=GRACE_SECONDS,
            backlog=BACKLOG,
            h11_max_incomplete_event_size=limits.request_bytes,
        )
        config.load()
        # A context that is ready: `Config` takes nothing but the names of files.
        config.ssl = tls
        super().__init__(config)
        self._on_start = on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to accept clients, and call *on_start*."""
        await super().startup(sockets)
        self._on_start()

    @property
    def connections(self) -> Sequence[BoundedConnection]:
        """The connections that are open, those in a TLS handshake excepted."""
        return [
            each for each in self.server_state.connections if isinstance(each, BoundedConnection)
        ]

    def abort_connections(self) -> None:
        """Close all connections, whatever they wait for."""
        for connection in self.connections:
            connection.transport.abort()


class BoundedConnection(H11Protocol):
    """A connection with a time limit for whatever it waits for."""

    def __init__(self, *args: Any, limits: Limits, admission: Admission, **options: Any) -> None:
        """Take uvicorn's arguments, the *limits*, and the server's *admission*."""
        super().__init__(*args, **options)
        self._limits = limits
        self._admission = admission
        self._entry: Connection | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_half_closed = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Wait for a request, if the client may make one."""
        super().connection_made(transport)
        if self._is_allowed(transport):
            accepted = transport.get_extra_info("socket")
            self._entry = self._admission.connections.find(accepted.fileno())
            if self._entry is not None:
                self._entry.close = transport.abort
            self._start_timer(self._limits.request_seconds)
        else:
            transport.abort()

    def _is_allowed(self, transport: asyncio.Transport) -> bool:
        """Return whether the client's certificate has one of the allowed names."""
        allowed = self._admission.allowed_sans
        if not allowed:
            return True
        certificate = transport.get_extra_info("peercert") or {}
        names = {value for _, value in certificate.get("subjectAltName", ())}
        return not allowed.isdisjoint(names)

    def data_received(self, data: bytes) -> None:
        """Choose the limit that follows from *data*, which may complete a request or begin one."""
        waited_for_request = self._is_between_requests
        super().data_received(data)
        if not self._is_between_requests:
            if waited_for_request:
                self._begin_answer()
        elif self._timer is None:
            self._start_timer(self._limits.request_seconds)

    def eof_received(self) -> bool:  # type: ignore[override]  # uvicorn's returns None
        """Keep a half-closed connection open for its response; TLS has no such state."""
        can_be_half_closed = self._admission.awaits_half_closed and self.scheme == "http"
        self._is_half_closed = can_be_half_closed and not self._is_between_requests
        return self._is_half_closed

    @property
    def _is_between_requests(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def on_response_complete(self) -> None:
        """Leave an idle connection to uvicorn's own limit; a next request may be there already."""
        self._stop_timer()
        super().on_response_complete()
        if self._entry is not None:
            self._admission.connections.rest(self._entry)
        if not self._is_between_requests:
            self._begin_answer()
        elif self._is_half_closed:
            self.transport.close()
        elif self.conn.trailing_data[0]:
            self._start_timer(self._limits.request_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        self._stop_timer()
        super().connection_lost(exc)

    def _begin_answer(self) -> None:
        """Limit the time of an answer, for which the connection stays open if it can."""
        if self._entry is not None:
            self._admission.connections.begin_answer(self._entry)
        self._start_timer(self._limits.response_seconds)

    def _start_timer(self, seconds: float) -> None:
        """Abort the connection after *seconds*, unless the timer is started or stopped before."""
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, self.transport.abort)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
