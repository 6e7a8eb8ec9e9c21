"""Subscribing to one publisher by ZeroMQ, and asking it for what is missing."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from mpmetrics.engines.errors import EventEndpointError
from mpmetrics.engines.events.gaps import Stream
from mpmetrics.errors import MissingExtraError

if TYPE_CHECKING:
    from mpmetrics.engines.events.publisher import Publisher

NUMBER: Final = 8
"""Bytes of the number of a message, which is big-endian."""

_TO_RECONNECT: Final = 1.0
"""Seconds that ZeroMQ has to say that it will connect again, which it does at once or never."""

_HIGH_WATER: Final = 100_000
_LARGEST: Final = 1 << 26  # bytes of a frame; whoever sends a larger one is disconnected


def zeromq() -> Any:
    """Return the module of pyzmq. Raises `MissingExtraError`."""
    try:
        import zmq  # only who has events needs it
    except ImportError as error:
        raise MissingExtraError(package="pyzmq", extra="zmq") from error
    return zmq


class Subscription:
    """One publisher: its live messages, and the replay that is under way, if any."""

    def __init__(self, context: Any, publisher: Publisher, topic: str, patience: float) -> None:
        """Connect, or listen; ZeroMQ waits until somebody is there. Raises `EventEndpointError`."""
        zmq = zeromq()
        self.publisher = publisher
        self.stream = Stream(patience if publisher.replay else None)
        self.ranks: set[int] = set()
        self.replay: Any = None
        self.deadline: float | None = None
        self._context = context
        if publisher.replay:  # a mistake in it is to be known now
            self._dealer().close()
        self.live = _socket(context, zmq.SUB, publisher.endpoint)
        self.monitor: Any = None
        try:
            # It tells of each connection, and must be read, or ZeroMQ would wait for it one day.
            self.monitor = self.live.get_monitor_socket(
                zmq.EVENT_CONNECTED
                | zmq.EVENT_ACCEPTED
                | zmq.EVENT_DISCONNECTED
                | zmq.EVENT_CONNECT_RETRIED
            )
            # On the command line it may be of bytes that are no text.
            self.live.setsockopt(zmq.SUBSCRIBE, topic.encode(errors="surrogateescape"))
            (self.live.bind if publisher.bind else self.live.connect)(publisher.endpoint)
        except (zmq.ZMQError, UnicodeError) as error:
            self.close()
            raise EventEndpointError(publisher.endpoint, str(error)) from error

    def look(self, now: float) -> None:
        """Take note of new connections; connect again if ZeroMQ does not do it."""
        zmq = zeromq()
        with suppress(zmq.Again):
            while frames := self.monitor.recv_multipart(zmq.NOBLOCK):
                event = int.from_bytes(frames[0][:2], sys.byteorder)
                is_left = event == zmq.EVENT_DISCONNECTED and not self.publisher.bind
                self.deadline = now + _TO_RECONNECT if is_left else None
                if event in {zmq.EVENT_CONNECTED, zmq.EVENT_ACCEPTED}:
                    self.stream.connected()
                    # ZeroMQ subscribes again when the socket is used next; a replay may take long.
                    self.live.getsockopt(zmq.EVENTS)
        if self.deadline is not None and now >= self.deadline:
            self._connect_again(now)

    def _connect_again(self, now: float) -> None:
        """Connect where somebody has said what ZeroMQ does not understand, or what is too large.

        It gives up whoever does, for good; but it may not have been the engine that had the port.
        """
        zmq = zeromq()
        self.deadline = now + _TO_RECONNECT
        # What is still to be read would be lost.
        if not self.live.getsockopt(zmq.EVENTS) & zmq.POLLIN:
            with suppress(zmq.ZMQError):
                self.live.disconnect(self.publisher.endpoint)
            with suppress(zmq.ZMQError):
                self.live.connect(self.publisher.endpoint)
                self.deadline = None

    def ask(self, start: int) -> None:
        """Ask for a replay. Raises `EventEndpointError`.

        A socket of its own leaves nothing of it to the next one.
        """
        self.replay = self._dealer()
        self.replay.send_multipart([b"", start.to_bytes(NUMBER, "big")])

    def close_replay(self) -> None:
        """Forget the replay."""
        if self.replay is not None:
            self.replay.close()
            self.replay = None

    def close(self) -> None:
        """Disconnect."""
        self.close_replay()
        if self.monitor is not None:
            self.live.disable_monitor()
            self.monitor.close()
            self.monitor = None
        self.live.close()

    def _dealer(self) -> Any:
        """Return a socket to ask for a replay with. Raises `EventEndpointError`."""
        zmq, endpoint = zeromq(), self.publisher.replay
        made = _socket(self._context, zmq.DEALER, endpoint)
        try:
            made.connect(endpoint)
        except (zmq.ZMQError, UnicodeError) as error:
            made.close()
            raise EventEndpointError(endpoint, str(error)) from error
        return made


def _socket(context: Any, kind: int, endpoint: str) -> Any:
    """Return a new socket, for *endpoint*. Raises `EventEndpointError`."""
    zmq = zeromq()
    try:
        made = context.socket(kind)
    except zmq.ZMQError as error:
        raise EventEndpointError(endpoint, str(error)) from error
    for option, value in (
        (zmq.LINGER, 0),
        (zmq.RCVHWM, _HIGH_WATER),
        (zmq.MAXMSGSIZE, _LARGEST),
        (zmq.RECONNECT_IVL, 100),
        (zmq.RECONNECT_IVL_MAX, 5000),
        # A host that is gone is noticed after two minutes, not after two hours.
        (zmq.TCP_KEEPALIVE, 1),
        (zmq.TCP_KEEPALIVE_IDLE, 60),
        (zmq.TCP_KEEPALIVE_INTVL, 10),
        (zmq.TCP_KEEPALIVE_CNT, 6),
        # Not for names: of those that have both addresses it would try the one only.
        (zmq.IPV6, int("[" in endpoint)),
    ):
        made.setsockopt(option, value)
    return made
