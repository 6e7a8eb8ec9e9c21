"""The subscription to one publisher by ZeroMQ, and the request for its missing messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mpmetrics.engines.errors import EventEndpointError
from mpmetrics.engines.events.connection import Connection, import_zmq
from mpmetrics.engines.events.gaps import GapTracker

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mpmetrics.engines.events.publisher_endpoints import Publisher

NUMBER_SIZE: Final = 8
"""Bytes of the number of a message, which is big-endian."""

LIVE: Final = "live"
REPLAY: Final = "replay"
"""The two endpoints of a publisher, as the values of a label."""

HIGH_WATER: Final = 100_000
"""The largest number of messages of a socket that wait to be read."""

LARGEST_MESSAGE: Final = 1 << 26
"""Bytes of a frame; ZeroMQ closes the connection over which a larger one comes."""


class Subscription:
    """The live messages of one publisher, the *number*th, and the replay in progress, if any."""

    def __init__(
        self,
        context: Any,
        publisher: Publisher,
        *,
        number: int,
        topic: str,
        patience: float,
        largest: int = LARGEST_MESSAGE,
    ) -> None:
        """Connect or listen; ZeroMQ waits for the publisher. Raises `EventEndpointError`."""
        zmq = import_zmq()
        self.publisher = publisher
        self.number = number
        self.tracker = GapTracker(patience if publisher.replay else None)
        self.ranks: set[int] = set()
        self.replay: Any = None
        self._context = context
        self._largest = largest
        self._connections: dict[str, Connection] = {}
        self._sockets: list[Any] = []
        try:
            # A mistake in the endpoint for replays raises now, not at the first gap.
            if publisher.replay:
                dealer = self._open(zmq.DEALER, publisher.replay)
                self._connect(REPLAY, dealer, "no missing messages are replayed")
            self.live = self._open(zmq.SUB, publisher.endpoint)
            # A topic from the command line may have bytes that are not text.
            self.live.setsockopt(zmq.SUBSCRIBE, topic.encode(errors="surrogateescape"))
            self._connect(LIVE, self.live, "no KV events are read")
        except EventEndpointError:
            self.close()
            raise

    @property
    def is_up(self) -> Mapping[str, bool]:
        """Whether a process answers at each endpoint, "live" and "replay"."""
        return {name: connection.is_up for name, connection in self._connections.items()}

    @property
    def monitors(self) -> Sequence[Any]:
        """The sockets on which ZeroMQ reports connections."""
        return [each.monitor for each in self._connections.values()]

    @property
    def deadlines(self) -> Sequence[float | None]:
        """The latest times for the next `check_connections` and for the tracker's `tick`."""
        return [self.tracker.deadline, *(each.deadline for each in self._connections.values())]

    def check_connections(self, now: float) -> None:
        """Note new connections, and repair and report those that are missing."""
        for connection in self._connections.values():
            connection.check(now)

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
        for connection in self._connections.values():
            connection.close()
        for each in self._sockets:
            each.close()
        self._connections.clear()
        self._sockets.clear()

    def _open(self, kind: int, endpoint: str) -> Any:
        """Return a new socket for *endpoint*, to be closed at the end."""
        made = _make_socket(self._context, kind, endpoint, self._largest)
        self._sockets.append(made)
        return made

    def _connect(self, name: str, socket: Any, meaning: str) -> None:
        """Connect or bind *socket* to the endpoint *name*. Raises `EventEndpointError`."""
        is_live, publisher = name == LIVE, self.publisher
        endpoint = publisher.endpoint if is_live else publisher.replay
        binds = is_live and publisher.bind
        try:
            self._connections[name] = Connection(
                socket,
                endpoint,
                meaning,
                binds=binds,
                note_connection=self.tracker.note_connection if is_live else _do_nothing,
            )
            (socket.bind if binds else socket.connect)(endpoint)
        except (import_zmq().ZMQError, UnicodeError) as error:
            raise EventEndpointError(endpoint, str(error)) from error

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


def _do_nothing() -> None:
    """Do nothing: a connection for replays tells nothing of live messages."""


def _make_socket(context: Any, kind: int, endpoint: str, largest: int) -> Any:
    """Return a new socket for *endpoint*. Raises `EventEndpointError`."""
    zmq = import_zmq()
    try:
        made = context.socket(kind)
    except zmq.ZMQError as error:
        raise EventEndpointError(endpoint, str(error)) from error
    for option, value in (
        (zmq.LINGER, 0),
        (zmq.RCVHWM, HIGH_WATER),
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
