"""The connection of a ZeroMQ socket to its endpoint: whether there is one, and its repair.

ZeroMQ connects in the background and never says that nothing answers. It reports what happens to a
monitoring socket, which has to be read.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from mpmetrics._log_limit import get_log
from mpmetrics.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE_TO_CONNECT: Final = 5.0
"""Seconds without a connection after which a warning says so."""

_TO_RECONNECT: Final = 1.0
"""Seconds to wait for ZeroMQ to announce that it will reconnect, which it does at once or never."""

_EVENT_SIZE: Final = 2

_log = get_log()


def import_zmq() -> Any:
    """Return the module of pyzmq. Raises `MissingExtraError`."""
    try:
        import zmq  # only events need it
    except ImportError as error:
        raise MissingExtraError(package="pyzmq", extra="zmq") from error
    return zmq


class Connection:
    """The connection of *socket* to *endpoint*, which *binds* there or connects.

    *meaning* says in warnings what is missing without it, and *note_connection* is called with each
    new connection.
    """

    def __init__(
        self,
        socket: Any,
        endpoint: str,
        meaning: str,
        *,
        binds: bool = False,
        note_connection: Callable[[], None],
    ) -> None:
        """Watch *socket*, which is neither bound nor connected yet."""
        zmq = import_zmq()
        self._socket = socket
        self._endpoint = endpoint
        self._meaning = meaning
        self._binds = binds
        self._note_connection = note_connection
        # ZeroMQ reports nothing of connections within a process, which always succeed.
        self._is_inner = endpoint.startswith("inproc://")
        self._open: set[int] = set()
        self._is_zmq = False
        self._reconnect_at: float | None = None
        self._warn_at: float | None = None
        self._was_up = True
        self._has_warned = False
        self.monitor: Any = socket.get_monitor_socket(
            zmq.EVENT_CONNECTED
            | zmq.EVENT_ACCEPTED
            | zmq.EVENT_HANDSHAKE_SUCCEEDED
            | zmq.EVENT_DISCONNECTED
            | zmq.EVENT_CONNECT_RETRIED
        )

    @property
    def is_up(self) -> bool:
        """Whether a process that speaks ZeroMQ is at the other end."""
        return self._is_inner or (self._is_zmq and bool(self._open))

    @property
    def deadline(self) -> float | None:
        """The latest time for the next `check`, None if only a report of ZeroMQ needs one."""
        times = [time for time in (self._reconnect_at, self._warn_at) if time is not None]
        return min(times, default=None)

    def check(self, now: float) -> None:
        """Read the reports of ZeroMQ; warn of a missing connection, and repair it if it has to."""
        zmq = import_zmq()
        with suppress(zmq.Again):
            while frames := self.monitor.recv_multipart(zmq.NOBLOCK):
                event = int.from_bytes(frames[0][:_EVENT_SIZE], sys.byteorder)
                descriptor = int.from_bytes(frames[0][_EVENT_SIZE:], sys.byteorder)
                self._take(event, descriptor, now)
        if self._reconnect_at is not None and now >= self._reconnect_at:
            self._reconnect(now)
        self._warn(now)

    def close(self) -> None:
        """Stop watching; the socket is its owner's to close."""
        self._socket.disable_monitor()
        self.monitor.close()

    def _take(self, event: int, descriptor: int, now: float) -> None:
        """Take a report of ZeroMQ."""
        zmq = import_zmq()
        is_lost = event == zmq.EVENT_DISCONNECTED
        self._reconnect_at = now + _TO_RECONNECT if is_lost and not self._binds else None
        if is_lost:
            self._open.discard(descriptor)
            self._is_zmq = self._is_zmq and bool(self._open)
        elif event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self._is_zmq = True
        elif event in {zmq.EVENT_CONNECTED, zmq.EVENT_ACCEPTED}:
            self._open.add(descriptor)
            self._note_connection()
            # ZeroMQ subscribes again when the socket is next used, and a replay takes long.
            self._socket.getsockopt(zmq.EVENTS)

    def _reconnect(self, now: float) -> None:
        """Connect to an endpoint that ZeroMQ has given up.

        ZeroMQ gives it up for good after data that is not ZeroMQ, or a message that is too large.
        But perhaps another server had the port of the engine at that time.
        """
        zmq = import_zmq()
        self._reconnect_at = now + _TO_RECONNECT
        # Disconnecting would lose the messages that are still to be read.
        if not self._socket.getsockopt(zmq.EVENTS) & zmq.POLLIN:
            with suppress(zmq.ZMQError):
                self._socket.disconnect(self._endpoint)
            with suppress(zmq.ZMQError):
                self._socket.connect(self._endpoint)
                self._reconnect_at = None

    def _warn(self, now: float) -> None:
        """Warn once for each time in which there is no connection, and say when it is over."""
        if self.is_up:
            if self._has_warned:
                _log.warning("%s is there now", self._endpoint)
            self._was_up, self._has_warned, self._warn_at = True, False, None
        elif self._was_up:
            self._was_up, self._warn_at = False, now + PATIENCE_TO_CONNECT
        elif self._warn_at is not None and now >= self._warn_at:
            self._has_warned, self._warn_at = True, None
            # A server of another protocol may well answer there.
            verb = "connects to" if self._binds else "that speaks ZeroMQ answers at"
            _log.warning("nothing %s %s, so %s", verb, self._endpoint, self._meaning)
