"""The subscription to one publisher by ZeroMQ, and the request for its missing messages."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from mpmetrics.engines.errors import EventEndpointError
from mpmetrics.engines.events.gaps import GapTracker
from mpmetrics.errors import MissingExtraError

if TYPE_CHECKING:
    from mpmetrics.engines.events.publisher_endpoints import Publisher

NUMBER_SIZE: Final = 8
"""Bytes of the number of a message, which is big-endian."""

_TO_RECONNECT: Final = 1.0
"""Seconds to wait for ZeroMQ to announce that it will reconnect, which it does at once or never."""

_HIGH_WATER: Final = 100_000
LARGEST_MESSAGE: Final = 1 << 26
"""Bytes of a frame; ZeroMQ closes the connection over which a larger one comes."""


def import_zmq() -> Any:
    """Return the module of pyzmq. Raises `MissingExtraError`."""
    try:
        import zmq  # only events need it
    except ImportError as error:
        raise MissingExtraError(package="pyzmq", extra="zmq") from error
    return zmq


class Subscription:
    """The live messages of one publisher, and the replay in progress, if any."""

    def __init__(
        self,
        context: Any,
        publisher: Publisher,
        topic: str,
        patience: float,
        largest: int = LARGEST_MESSAGE,
    ) -> None:
        """Connect or listen; ZeroMQ waits for the publisher. Raises `EventEndpointError`."""
        zmq = import_zmq()
        self.publisher = publisher
        self.tracker = GapTracker(patience if publisher.replay else None)
        self.ranks: set[int] = set()
        self.replay: Any = None
        self.reconnect_at: float | None = None
        self._context = context
        self._largest = largest
        if publisher.replay:  # a mistake in its endpoint raises now, not at the first gap
            self._connect_dealer().close()
        self.live = _make_socket(context, zmq.SUB, publisher.endpoint, largest)
        self.monitor: Any = None
        try:
            # ZeroMQ reports each connection here. The reports must be read, or it blocks one day.
            self.monitor = self.live.get_monitor_socket(
                zmq.EVENT_CONNECTED
                | zmq.EVENT_ACCEPTED
                | zmq.EVENT_DISCONNECTED
                | zmq.EVENT_CONNECT_RETRIED
            )
            # A topic from the command line may have bytes that are not text.
            self.live.setsockopt(zmq.SUBSCRIBE, topic.encode(errors="surrogateescape"))
            (self.live.bind if publisher.bind else self.live.connect)(publisher.endpoint)
        except (zmq.ZMQError, UnicodeError) as error:
            self.close()
            raise EventEndpointError(publisher.endpoint, str(error)) from error

    def check_connections(self, now: float) -> None:
        """Note new connections; reconnect if ZeroMQ does not do so."""
        zmq = import_zmq()
        with suppress(zmq.Again):
            while frames := self.monitor.recv_multipart(zmq.NOBLOCK):
                event = int.from_bytes(frames[0][:2], sys.byteorder)
                is_lost = event == zmq.EVENT_DISCONNECTED and not self.publisher.bind
                self.reconnect_at = now + _TO_RECONNECT if is_lost else None
                if event in {zmq.EVENT_CONNECTED, zmq.EVENT_ACCEPTED}:
                    self.tracker.note_connection()
                    # ZeroMQ subscribes again when the socket is next used, and a replay takes long.
                    self.live.getsockopt(zmq.EVENTS)
        if self.reconnect_at is not None and now >= self.reconnect_at:
            self._reconnect(now)

    def _reconnect(self, now: float) -> None:
        """Connect to an endpoint that ZeroMQ has given up.

        ZeroMQ gives it up for good after data that is not ZeroMQ, or a message that is too large.
        But perhaps another server had the port of the engine at that time.
        """
        zmq = import_zmq()
        self.reconnect_at = now + _TO_RECONNECT
        # Disconnecting would lose the messages that are still to be read.
        if not self.live.getsockopt(zmq.EVENTS) & zmq.POLLIN:
            with suppress(zmq.ZMQError):
                self.live.disconnect(self.publisher.endpoint)
            with suppress(zmq.ZMQError):
                self.live.connect(self.publisher.endpoint)
                self.reconnect_at = None

    def request_replay(self, start: int) -> None:
        """Request a replay from the number *start* on. Raises `EventEndpointError`.

        Each replay has a socket of its own, so that none gets answers to an earlier one.
        """
        self.replay = self._connect_dealer()
        self.replay.send_multipart([b"", start.to_bytes(NUMBER_SIZE, "big")])

    def close_replay(self) -> None:
        """Close the replay, if one is in progress."""
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

    def _connect_dealer(self) -> Any:
        """Return a new socket for a replay. Raises `EventEndpointError`."""
        zmq, endpoint = import_zmq(), self.publisher.replay
        dealer = _make_socket(self._context, zmq.DEALER, endpoint, self._largest)
        try:
            dealer.connect(endpoint)
        except (zmq.ZMQError, UnicodeError) as error:
            dealer.close()
            raise EventEndpointError(endpoint, str(error)) from error
        return dealer


def _make_socket(context: Any, kind: int, endpoint: str, largest: int) -> Any:
    """Return a new socket for *endpoint*. Raises `EventEndpointError`."""
    zmq = import_zmq()
    try:
        made = context.socket(kind)
    except zmq.ZMQError as error:
        raise EventEndpointError(endpoint, str(error)) from error
    for option, value in (
        (zmq.LINGER, 0),
        (zmq.RCVHWM, _HIGH_WATER),
        (zmq.MAXMSGSIZE, largest),
        (zmq.RECONNECT_IVL, 100),
        (zmq.RECONNECT_IVL_MAX, 5000),
        # TCP notices a host that is gone after two minutes, not after two hours.
        (zmq.TCP_KEEPALIVE, 1),
        (zmq.TCP_KEEPALIVE_IDLE, 60),
        (zmq.TCP_KEEPALIVE_INTVL, 10),
        (zmq.TCP_KEEPALIVE_CNT, 6),
        # Not for host names: ZeroMQ would try only one address of a host that has both kinds.
        (zmq.IPV6, int("[" in endpoint)),
    ):
        made.setsockopt(option, value)
    return made
