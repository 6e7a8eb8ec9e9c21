"""Handing messages to the listeners of Dynamo's event plane by ZeroMQ.

ZeroMQ confirms nothing. What a listener misses, because it was not there or too slow, it knows by
the numbers of the messages.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from mpmetrics._forks import reset_in_children
from mpmetrics.engines.errors import EventEndpointError
from mpmetrics.engines.events.subscription import zeromq
from mpmetrics.engines.events.transport import INTERRUPTED, UNREACHABLE, LinkError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpmetrics.engines.events.dynamo_protocol import Message

_PORT: Final = re.compile(r"^tcp://.*:([0-9]+)$")
_LARGEST_PORT: Final = 65535
"""ZeroMQ takes larger ones for others."""

_HIGH_WATER: Final = 100_000
_LINGER: Final = 500
"""Milliseconds that messages have to get away when it is over."""


class ZmqLink:
    """A socket that publishes: bound to *endpoint* for listeners, or connected to a broker."""

    def __init__(self, endpoint: str, *, bind: bool = True) -> None:
        """Bind or connect. Raises `MissingExtraError` and `EventEndpointError`."""
        self._zmq = zeromq()
        if (match := _PORT.search(endpoint)) and int(match[1]) > _LARGEST_PORT:
            raise EventEndpointError(endpoint, f"there is no port {match[1]}")
        self._bind = bind
        self._interrupted = False
        self._context: Any = None
        self._socket: Any = None
        self._monitor: Any = None
        self._strangers: list[object] = []
        self.endpoint = endpoint
        """Where it is, with the port that it has got if any was asked for."""
        self._begin()
        reset_in_children(self)

    def reset_after_fork(self) -> None:
        """Connect anew in a forked child; what is bound stays the parent's alone."""
        # ZeroMQ must not be touched in a child, not even to end it.
        self._strangers += [self._context, self._socket, self._monitor]
        self._context = self._socket = self._monitor = None
        self._event = 0

    def _begin(self) -> None:
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
        """Hand over *messages* to ZeroMQ. Raises `LinkError` when there is no broker."""
        if self._interrupted:
            raise LinkError(INTERRUPTED, "it is over")
        if self._socket is None and not self._bind:
            self._begin()
        if self._socket is None:
            raise LinkError(UNREACHABLE, f"{self.endpoint} is the parent's")
        if not self._bind and not self._has_broker():
            raise LinkError(UNREACHABLE, f"no broker at {self.endpoint}")
        for message in messages:
            self._socket.send_multipart(message.frames(), self._zmq.NOBLOCK)

    def interrupt(self) -> None:
        """Have `send` raise whenever it is called; it never waits."""
        self._interrupted = True

    def close(self) -> None:
        """Disconnect, once what is under way has got away, or shortly after."""
        if self._context is None:
            return
        if self._monitor is not None:
            self._socket.disable_monitor()
            self._monitor.close(0)
        self._socket.close()
        self._context.term()
        self._context = self._socket = self._monitor = None

    def _has_broker(self) -> bool:
        """Return whether there is a connection: without one everything would vanish."""
        from zmq.utils.monitor import recv_monitor_message

        zmq, before = self._zmq, self._event
        while self._monitor.poll(0):
            self._event = recv_monitor_message(self._monitor)["event"]
        # It tries again at once or, whoever was there having said what is no ZeroMQ, never.
        if before == self._event == zmq.EVENT_DISCONNECTED:
            self._event = 0
            with suppress(zmq.ZMQError):
                self._socket.disconnect(self.endpoint)
            with suppress(zmq.ZMQError):
                self._socket.connect(self.endpoint)
        return bool(self._event == zmq.EVENT_HANDSHAKE_SUCCEEDED)
