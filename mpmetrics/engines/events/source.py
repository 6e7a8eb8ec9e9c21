"""The publishers of an engine as one source: their messages in order, with all gaps counted."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from mpmetrics._log_limit import get_log
from mpmetrics.engines.errors import EventEndpointError
from mpmetrics.engines.events.batch import UNDECODABLE
from mpmetrics.engines.events.connection import import_zmq
from mpmetrics.engines.events.gaps import (
    MALFORMED,
    NOTICES,
    OUTCOMES,
    RESTARTED,
    STOPPED,
    UNREACHABLE,
    Delivery,
    Discard,
    GapTracker,
    Loss,
    Notice,
    ReplayEnd,
    ReplayRequest,
)
from mpmetrics.engines.events.subscription import (
    HIGH_WATER,
    LARGEST_MESSAGE,
    NUMBER_SIZE,
    Subscription,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from mpmetrics.engines.events.gaps import Action
    from mpmetrics.engines.events.pipeline import Pipeline
    from mpmetrics.engines.events.publisher_endpoints import Publisher

PATIENCE: Final = 5.0
"""Seconds that a replay may take for its next message."""

_AT_ONCE: Final = 256
"""Messages of one publisher to read before those of the next one."""

_END: Final = b"\xff" * NUMBER_SIZE
_LIVE_FRAMES: Final = 3
_REPLY_FRAMES: Final = (3, 4)

FRAMES: Final = "frames"
"""The reason for leaving out a message: it is not a topic, a number and a payload."""

DEFECT: Final = "failed"
"""The reason for leaving out a message: an exception that is a defect of ours."""

_log = get_log()


class EventSource:
    """The *publishers* of an engine, read as one source.

    Messages go to a pipeline in the order of their numbers, publisher by publisher. The source asks
    for missing messages. A replay may take *patience* seconds for its next message, and
    `gaps.LONGEST` times as long altogether. A message of more than *largest* bytes costs the
    connection. Raises `MissingExtraError` or `EventEndpointError`.
    """

    def __init__(
        self,
        publishers: Sequence[Publisher],
        *,
        topic: str = "",
        patience: float = PATIENCE,
        largest: int = LARGEST_MESSAGE,
        context: Any = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Connect; nothing is read before `run`. Endpoints `inproc://` belong to *context*."""
        self._zmq = import_zmq()
        self._clock = clock
        self._owns_context = context is None
        self._context = self._zmq.Context() if context is None else context
        self._waking, self._woken = socket.socketpair()
        self._stopped = False
        self._poller: Any = None
        self._has_failed = False
        self._subscriptions: list[Subscription] = []
        try:
            for number, publisher in enumerate(publishers):
                self._subscriptions.append(
                    Subscription(
                        self._context,
                        publisher,
                        number=number,
                        topic=topic,
                        patience=patience,
                        largest=largest,
                    )
                )
        except EventEndpointError:
            self.close()
            raise

    def stop(self) -> None:
        """Have `run` return soon; any thread may call this, several times."""
        self._stopped = True
        with suppress(OSError):
            self._waking.send(b"\0")

    def close(self) -> None:
        """Disconnect from all publishers; call this after `run` has returned."""
        for subscription in self._subscriptions:
            subscription.close()
        if self._owns_context:
            self._context.term()
        self._waking.close()
        self._woken.close()

    def run(self, pipeline: Pipeline) -> None:
        """Read until `stop` is called. What a replay has not brought by then is lost."""
        pipeline.tally.update(dict.fromkeys(self._list_counters(), 0))
        self._check_connections(pipeline)
        while not self._stopped:
            ready = self._poll(pipeline.deadline)
            # Before reading: the next message may be that of another publisher.
            self._check_connections(pipeline)
            for subscription in self._subscriptions:
                if subscription.live in ready:
                    self._read_live(subscription, pipeline)
                if subscription.replay in ready:
                    self._read_replay(subscription, pipeline)
                self._act(subscription.tracker.tick(self._clock()), subscription, pipeline)
            pipeline.tick(self._clock())
        for subscription in self._subscriptions:
            self._act(subscription.tracker.end_replay(STOPPED), subscription, pipeline)

    def _check_connections(self, pipeline: Pipeline) -> None:
        """Note and repair connections, and have the metrics say whether they are there."""
        now = self._clock()
        for subscription in self._subscriptions:
            subscription.check_connections(now)
            for name, is_up in subscription.is_up.items():
                pipeline.connections[subscription.publisher.rank, name] = is_up

    def _list_counters(self) -> Iterator[tuple[str, ...]]:
        """Yield the counters that exist from the beginning.

        Prometheus does not see the first increase of a counter that was not there before.
        """
        for reason in (FRAMES, UNDECODABLE, DEFECT):
            yield "problems", reason
        for publisher in (each.publisher for each in self._subscriptions):
            rank = str(publisher.rank)
            yield "lost", rank
            yield from (("gaps", rank, what) for what in NOTICES)
            yield from (("replays", rank, outcome) for outcome in OUTCOMES if publisher.replay)

    def _poll(self, deadline: float | None) -> Mapping[Any, int]:
        """Wait for a message, a deadline or `stop`; return the sockets that can be read."""
        if self._poller is None:
            self._poller = self._zmq.Poller()
            self._poller.register(self._woken, self._zmq.POLLIN)
            for each in self._subscriptions:
                for monitor in each.monitors:
                    self._poller.register(monitor, self._zmq.POLLIN)
                self._poller.register(each.replay or each.live, self._zmq.POLLIN)
        own = [each.deadlines for each in self._subscriptions]
        times = [time for time in chain((deadline,), *own) if time is not None]
        wait = None if not times else max(0.0, min(times) - self._clock()) * 1000 + 1
        return dict(self._poller.poll(wait))

    def _read_live(self, subscription: Subscription, pipeline: Pipeline) -> None:
        """Read live messages until one is missing."""
        tracker, receive = subscription.tracker, subscription.live.recv_multipart
        now = self._clock()
        for _ in range(_AT_ONCE):
            try:
                frames = receive(self._zmq.NOBLOCK)
            except self._zmq.Again:
                return
            if len(frames) != _LIVE_FRAMES or len(frames[1]) != NUMBER_SIZE or frames[1] == _END:
                pipeline.tally["problems", FRAMES] += 1
                continue
            number = int.from_bytes(frames[1], "big")
            self._act(tracker.take_live(number, frames[2], now), subscription, pipeline)
            if tracker.is_replaying or self._stopped:
                return

    def _read_replay(self, subscription: Subscription, pipeline: Pipeline) -> None:
        """Read messages of the replay."""
        now = self._clock()
        for _ in range(_AT_ONCE):
            if not subscription.tracker.is_replaying or self._stopped:
                return
            try:
                frames = subscription.replay.recv_multipart(self._zmq.NOBLOCK)
            except self._zmq.Again:
                return
            self._act(take_reply(subscription.tracker, frames, now), subscription, pipeline)

    def _act(
        self, actions: Iterable[Action], subscription: Subscription, pipeline: Pipeline
    ) -> None:
        """Do the *actions* that follow from the numbers of messages."""
        for action in actions:
            match action:
                case Delivery():
                    self._deliver(action, subscription, pipeline)
                case Notice():
                    self._count_notice(action, subscription, pipeline)
                case Discard():
                    self._discard(subscription)
                case ReplayRequest():
                    self._request_replay(action, subscription, pipeline)
                case ReplayEnd():
                    self._end_replay(action, subscription, pipeline)
                case Loss():
                    self._count_loss(action, subscription, pipeline)

    def _deliver(self, action: Delivery, subscription: Subscription, pipeline: Pipeline) -> None:
        rank = subscription.publisher.rank
        try:
            rank = pipeline.take(action.payload, rank, self._clock(), subscription.number)
        except Exception:  # one message costs only itself
            pipeline.tally["problems", DEFECT] += 1
            if not self._has_failed:
                _log.exception("a message of rank %d is left out", rank)
            self._has_failed = True
        subscription.ranks.add(rank)

    def _count_notice(self, action: Notice, subscription: Subscription, pipeline: Pipeline) -> None:
        pipeline.tally["gaps", str(subscription.publisher.rank), action.what] += 1
        if action.what == RESTARTED:
            for rank in sorted(subscription.ranks):
                pipeline.clear(rank, self._clock())
            subscription.ranks.clear()

    def _discard(self, subscription: Subscription) -> None:
        """Discard the live messages that wait, which a replay brings if they are the engine's."""
        with suppress(self._zmq.Again):
            for _ in range(HIGH_WATER):
                subscription.live.recv_multipart(self._zmq.NOBLOCK)

    def _request_replay(
        self, action: ReplayRequest, subscription: Subscription, pipeline: Pipeline
    ) -> None:
        self._poller = None
        try:
            subscription.request_replay(action.start)
        # The process may have no free descriptor.
        except EventEndpointError:
            self._act(subscription.tracker.end_replay(UNREACHABLE), subscription, pipeline)

    def _end_replay(
        self, action: ReplayEnd, subscription: Subscription, pipeline: Pipeline
    ) -> None:
        self._poller = None
        subscription.close_replay()
        pipeline.tally["replays", str(subscription.publisher.rank), action.outcome] += 1

    def _count_loss(self, action: Loss, subscription: Subscription, pipeline: Pipeline) -> None:
        pipeline.tally["lost", str(subscription.publisher.rank)] += action.messages
        for rank in subscription.ranks:
            pipeline.doubt(rank)


Source = EventSource
"""The former name of `EventSource`."""


def take_reply(tracker: GapTracker, frames: Sequence[bytes], now: float) -> Sequence[Action]:
    """Pass one answer of a replay to *tracker*; return the actions that follow.

    An answer is an empty frame, perhaps the topic, the number and the payload. The last answer has
    no payload.
    """
    if len(frames) not in _REPLY_FRAMES or frames[0] or len(frames[-2]) != NUMBER_SIZE:
        return tracker.end_replay(MALFORMED, now)
    number, payload = frames[-2:]
    if number == _END or not payload:
        return tracker.end_replay(now=now)
    return tracker.take_reply(int.from_bytes(number, "big"), payload, now)
