"""The link to the listeners of Dynamo's event plane by ZeroMQ.

ZeroMQ confirms nothing. A listener that was absent or too slow sees by the numbers of the messages
which ones it has missed.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from mpmetrics._forks import reset_in_children
from mpmetrics.engines.errors import EventEndpointError
from mpmetrics.engines.events.connection import import_zmq
from mpmetrics.engines.events.link import INTERRUPTED, UNREACHABLE, LinkError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpmetrics.engines.events.dynamo_protocol import Message

_PORT: Final = re.compile(r"^tcp://.*:([0-9]+)$")
_LARGEST_PORT: Final = 65535
"""ZeroMQ takes a larger port for another one."""

_HIGH_WATER: Final = 100_000
_LINGER: Final = 500
"""Milliseconds to send the remaining messages in when the link is closed."""


class ZmqLink:
    """A publishing socket: bound to *endpoint* for listeners, or connected to a broker."""

    def __init__(self, endpoint: str, *, bind: bool = True) -> None:
        """Bind or connect. Raises `MissingExtraError` and `EventEndpointError`."""
        self._zmq = import_zmq()
        if (match := _PORT.search(endpoint)) and int(match[1]) > _LARGEST_PORT:
            raise EventEndpointError(endpoint, f"there is no port {match[1]}")
        self._bind = bind
        self._interrupted = False
        self._context: Any = None
        self._socket: Any = None
        self._monitor: Any = None
        self._inherited: list[object] = []
        self.endpoint = endpoint
        """The endpoint, with the real port if *endpoint* asked for any."""
        self._open()
        reset_in_children(self)

    def reset_after_fork(self) -> None:
        """Reconnect in a forked child; a bound socket remains the parent's alone."""
        # A child must not touch the ZeroMQ of its parent, not even to close it: keep references.
        self._inherited += [self._context, self._socket, self._monitor]
        self._context = self._socket = self._monitor = None
        self._event = 0

    def _open(self) -> None:
        zmq = self._zmq
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PUB)
        self._monitor = None
        self._event = 0
        for option, value in (
            (zmq.SNDHWM, _HIGH_WATER),
            (zmq.LINGER, _LINGER),
            (zmq.RECONNECT_IVL, 100),
            (zmq.RECONNECT_IVL_MAX, 5000),
            (zmq.TCP_KEEPALIVE, 1),
        ):
            self._socket.setsockopt(option, value)
        try:
            self._attach()
        except (zmq.ZMQError, UnicodeError) as error:
            self.close()
            raise EventEndpointError(self.endpoint, str(error)) from error

    def _attach(self) -> None:
        if self._bind:
            self._socket.bind(self.endpoint)
            self.endpoint = self._socket.getsockopt_string(self._zmq.LAST_ENDPOINT).rstrip("\0")
        else:
            zmq = self._zmq
            self._monitor = self._socket.get_monitor_socket(
                zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED | zmq.EVENT_CONNECT_RETRIED
            )
            self._socket.connect(self.endpoint)

    def send(self, subject: str, messages: Sequence[Message]) -> None:  # noqa: ARG002 - only NATS has subjects
        """Pass *messages* to ZeroMQ. Raises `LinkError` if no broker is connected."""
        if self._interrupted:
            raise LinkError(INTERRUPTED, "the link was interrupted")
        if self._socket is None and not self._bind:
            self._open()
        if self._socket is None:
            raise LinkError(UNREACHABLE, f"{self.endpoint} belongs to the parent process")
        if not self._bind and not self._has_broker():
            raise LinkError(UNREACHABLE, f"no broker at {self.endpoint}")
        for message in messages:
            self._socket.send_multipart(message.frames(), self._zmq.NOBLOCK)

    def interrupt(self) -> None:
        """Have every further `send` raise; it never waits."""
        self._interrupted = True

    def close(self) -> None:
        """Disconnect, after the remaining messages were sent, or after a short time."""
        if self._context is None:
            return
        if self._monitor is not None:
            self._socket.disable_monitor()
            self._monitor.close(0)
        self._socket.close()
        self._context.term()
        self._context = self._socket = self._monitor = None

    def _has_broker(self) -> bool:
        """Return whether a broker is connected: without one ZeroMQ drops all messages."""
        from zmq.utils.monitor import recv_monitor_message

        zmq, before = self._zmq, self._event
        while self._monitor.poll(0):
            self._event = recv_monitor_message(self._monitor)["event"]
        # ZeroMQ reconnects at once, or never if the other side sent data that is not ZeroMQ.
        if before == self._event == zmq.EVENT_DISCONNECTED:
            self._event = 0
            with suppress(zmq.ZMQError):
                self._socket.disconnect(self.endpoint)
            with suppress(zmq.ZMQError):
                self._socket.connect(self.endpoint)
        return bool(self._event == zmq.EVENT_HANDSHAKE_SUCCEEDED)
