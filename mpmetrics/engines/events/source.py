"""Subscribing to the publishers of an engine, by ZeroMQ, and asking them for what is missing."""

from __future__ import annotations

import logging
import socket
import sys
import time
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from mpmetrics.engines.errors import EventEndpointError
from mpmetrics.engines.events.sequence import (
    MALFORMED,
    NOTICES,
    OUTCOMES,
    RESTARTED,
    STOPPED,
    UNREACHABLE,
    Ask,
    Deliver,
    Ended,
    Lost,
    Noticed,
    Stream,
)
from mpmetrics.engines.events.wire import UNDECODABLE
from mpmetrics.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from mpmetrics.engines.events.endpoints import Publisher
    from mpmetrics.engines.events.pipeline import Pipeline
    from mpmetrics.engines.events.sequence import Action

PATIENCE: Final = 5.0
"""Seconds that a replay may take for its next message."""

_TO_RECONNECT: Final = 1.0
"""Seconds that ZeroMQ has to say that it will connect again, which it does at once or never."""

_AT_ONCE: Final = 256
"""Messages of one publisher before others have their turn."""

_NUMBER: Final = 8
_END: Final = b"\xff" * _NUMBER
_HIGH_WATER: Final = 100_000
_LARGEST: Final = 1 << 26  # bytes of a frame; whoever sends a larger one is disconnected
_LIVE_FRAMES: Final = 3
_REPLY_FRAMES: Final = (3, 4)

FRAMES: Final = "frames"
"""Why a message is left out: it is not a topic, a number and a payload."""

FAILED: Final = "failed"
"""Why a message is left out: something was raised that should not have been."""

_log = logging.getLogger("mpmetrics")


def zeromq() -> Any:  # noqa: ANN401 - a module
    """Return the module of pyzmq. Raises `MissingExtraError`."""
    try:
        import zmq  # noqa: PLC0415 - only who has events needs it
    except ImportError as error:
        raise MissingExtraError(package="pyzmq", extra="zmq") from error
    return zmq


class Subscription:
    """One publisher: its live messages, and the replay that is under way, if any."""

    def __init__(self, context: Any, publisher: Publisher, topic: str, patience: float) -> None:  # noqa: ANN401 - pyzmq is optional
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
        self.replay.send_multipart([b"", start.to_bytes(_NUMBER, "big")])

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

    def _dealer(self) -> Any:  # noqa: ANN401 - pyzmq is optional
        """Return a socket to ask for a replay with. Raises `EventEndpointError`."""
        zmq, endpoint = zeromq(), self.publisher.replay
        made = _socket(self._context, zmq.DEALER, endpoint)
        try:
            made.connect(endpoint)
        except (zmq.ZMQError, UnicodeError) as error:
            made.close()
            raise EventEndpointError(endpoint, str(error)) from error
        return made


class Source:
    """The *publishers* of an engine, as one.

    Messages go to a pipeline in the order of their numbers, publisher by publisher. What is
    missing is asked for. A replay may take *patience* seconds for its next message, and for the
    whole `LONGEST` times as long. Raises `MissingExtraError` or `EventEndpointError`.
    """

    def __init__(
        self,
        publishers: Sequence[Publisher],
        *,
        topic: str = "",
        patience: float = PATIENCE,
        context: Any = None,  # noqa: ANN401 - pyzmq is optional
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Connect; nothing is read before `run`. Endpoints `inproc://` are those of *context*."""
        self._zmq = zeromq()
        self._clock = clock
        self._given = context
        self._context = context or self._zmq.Context()
        self._waking, self._woken = socket.socketpair()
        self._stopped = False
        self._poller: Any = None
        self._has_failed = False
        self._subscriptions: list[Subscription] = []
        try:
            for publisher in publishers:
                self._subscriptions.append(Subscription(self._context, publisher, topic, patience))
        except EventEndpointError:
            self.close()
            raise

    def stop(self) -> None:
        """Have `run` return soon; any thread may call this, several times."""
        self._stopped = True
        with suppress(OSError):
            self._waking.send(b"\0")

    def close(self) -> None:
        """Disconnect from all; call it where `run` has returned."""
        for subscription in self._subscriptions:
            subscription.close()
        if self._given is None:
            self._context.term()
        self._waking.close()
        self._woken.close()

    def run(self, pipeline: Pipeline) -> None:
        """Read until `stop` is called. What a replay has not brought by then is lost."""
        pipeline.tally.update(dict.fromkeys(self._counted(), 0))
        while not self._stopped:
            ready = self._poll(pipeline.deadline)
            for subscription in self._subscriptions:
                # First of all: what comes next may be somebody else's.
                subscription.look(self._clock())
                if subscription.live in ready:
                    self._read_live(subscription, pipeline)
                if subscription.replay in ready:
                    self._read_replay(subscription, pipeline)
                self._do(subscription.stream.tick(self._clock()), subscription, pipeline)
            pipeline.tick(self._clock())
        for subscription in self._subscriptions:
            self._do(subscription.stream.end(STOPPED), subscription, pipeline)

    def _counted(self) -> Iterator[tuple[str, ...]]:
        """Yield what is counted from the beginning: a first increase from nothing is not seen."""
        for reason in (FRAMES, UNDECODABLE, FAILED):
            yield "problems", reason
        for publisher in (each.publisher for each in self._subscriptions):
            rank = str(publisher.rank)
            yield "lost", rank
            yield from (("gaps", rank, what) for what in NOTICES)
            yield from (("replays", rank, outcome) for outcome in OUTCOMES if publisher.replay)

    def _poll(self, deadline: float | None) -> Mapping[Any, int]:
        """Wait until something is to be read or done; return the sockets that can be read."""
        if self._poller is None:
            self._poller = self._zmq.Poller()
            self._poller.register(self._woken, self._zmq.POLLIN)
            for each in self._subscriptions:
                self._poller.register(each.monitor, self._zmq.POLLIN)
                self._poller.register(each.replay or each.live, self._zmq.POLLIN)
        own = [(each.stream.deadline, each.deadline) for each in self._subscriptions]
        times = [time for time in chain((deadline,), *own) if time is not None]
        wait = None if not times else max(0.0, min(times) - self._clock()) * 1000 + 1
        return dict(self._poller.poll(wait))

    def _read_live(self, subscription: Subscription, pipeline: Pipeline) -> None:
        """Take what has come, until something is missing."""
        stream, receive = subscription.stream, subscription.live.recv_multipart
        now = self._clock()
        for _ in range(_AT_ONCE):
            try:
                frames = receive(self._zmq.NOBLOCK)
            except self._zmq.Again:
                return
            if len(frames) != _LIVE_FRAMES or len(frames[1]) != _NUMBER or frames[1] == _END:
                pipeline.tally["problems", FRAMES] += 1
                continue
            number = int.from_bytes(frames[1], "big")
            self._do(stream.live(number, frames[2], now), subscription, pipeline)
            if stream.waits or self._stopped:
                return

    def _read_replay(self, subscription: Subscription, pipeline: Pipeline) -> None:
        """Take what has come of the replay."""
        now = self._clock()
        for _ in range(_AT_ONCE):
            if not subscription.stream.waits or self._stopped:
                return
            try:
                frames = subscription.replay.recv_multipart(self._zmq.NOBLOCK)
            except self._zmq.Again:
                return
            self._do(understand(subscription.stream, frames, now), subscription, pipeline)

    def _do(
        self, actions: Iterable[Action], subscription: Subscription, pipeline: Pipeline
    ) -> None:
        """Do what the numbers of messages ask for."""
        for action in actions:
            self._HANDLERS[type(action)](self, action, subscription, pipeline)

    def _deliver(self, action: Deliver, subscription: Subscription, pipeline: Pipeline) -> None:
        rank = subscription.publisher.rank
        try:
            rank = pipeline.take(action.payload, rank, self._clock())
        except Exception:  # noqa: BLE001 - one message costs only itself
            pipeline.tally["problems", FAILED] += 1
            if not self._has_failed:
                _log.exception("a message of rank %d is left out", rank)
            self._has_failed = True
        subscription.ranks.add(rank)

    def _notice(self, action: Noticed, subscription: Subscription, pipeline: Pipeline) -> None:
        pipeline.tally["gaps", str(subscription.publisher.rank), action.what] += 1
        if action.what == RESTARTED:
            for rank in sorted(subscription.ranks):
                pipeline.clear(rank, self._clock())
            subscription.ranks.clear()

    def _ask(self, action: Ask, subscription: Subscription, pipeline: Pipeline) -> None:
        self._poller = None
        try:
            subscription.ask(action.start)
        # There may be no descriptor left.
        except EventEndpointError:
            self._do(subscription.stream.end(UNREACHABLE), subscription, pipeline)

    def _end(self, action: Ended, subscription: Subscription, pipeline: Pipeline) -> None:
        self._poller = None
        subscription.close_replay()
        pipeline.tally["replays", str(subscription.publisher.rank), action.outcome] += 1

    def _lose(self, action: Lost, subscription: Subscription, pipeline: Pipeline) -> None:
        pipeline.tally["lost", str(subscription.publisher.rank)] += action.messages
        for rank in subscription.ranks:
            pipeline.doubt(rank)

    _HANDLERS: Final[Mapping[type, Callable[[Source, Any, Subscription, Pipeline], None]]] = {
        Deliver: _deliver,
        Noticed: _notice,
        Ask: _ask,
        Ended: _end,
        Lost: _lose,
    }


def understand(stream: Stream, frames: Sequence[bytes], now: float) -> Sequence[Action]:
    """Return what is to be done about one answer of a replay.

    An empty frame, perhaps the topic, the number and the payload; the last one has no payload.
    """
    if len(frames) not in _REPLY_FRAMES or frames[0] or len(frames[-2]) != _NUMBER:
        return stream.end(MALFORMED)
    number, payload = frames[-2:]
    if number == _END or not payload:
        return stream.end()
    return stream.reply(int.from_bytes(number, "big"), payload, now)


def _socket(context: Any, kind: int, endpoint: str) -> Any:  # noqa: ANN401 - pyzmq is optional
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
