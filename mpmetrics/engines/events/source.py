"""The publishers of an engine, read as one: their messages in order, and what was missed."""

from __future__ import annotations

import logging
import socket
import time
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from mpmetrics.engines.errors import EventEndpointError
from mpmetrics.engines.events.decoder import UNDECODABLE
from mpmetrics.engines.events.gaps import (
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
from mpmetrics.engines.events.subscription import NUMBER, Subscription, zeromq

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from mpmetrics.engines.events.gaps import Action
    from mpmetrics.engines.events.pipeline import Pipeline
    from mpmetrics.engines.events.publisher import Publisher

PATIENCE: Final = 5.0
"""Seconds that a replay may take for its next message."""

_AT_ONCE: Final = 256
"""Messages of one publisher before others have their turn."""

_END: Final = b"\xff" * NUMBER
_LIVE_FRAMES: Final = 3
_REPLY_FRAMES: Final = (3, 4)

FRAMES: Final = "frames"
"""Why a message is left out: it is not a topic, a number and a payload."""

FAILED: Final = "failed"
"""Why a message is left out: something was raised that should not have been."""

_log = logging.getLogger("mpmetrics")


class EventSource:
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
        context: Any = None,
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
            if len(frames) != _LIVE_FRAMES or len(frames[1]) != NUMBER or frames[1] == _END:
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
        except Exception:  # one message costs only itself
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

    _HANDLERS: Final[Mapping[type, Callable[[EventSource, Any, Subscription, Pipeline], None]]] = {
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
    if len(frames) not in _REPLY_FRAMES or frames[0] or len(frames[-2]) != NUMBER:
        return stream.end(MALFORMED)
    number, payload = frames[-2:]
    if number == _END or not payload:
        return stream.end()
    return stream.reply(int.from_bytes(number, "big"), payload, now)
