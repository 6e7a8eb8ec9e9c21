"""Sinks on Dynamo's event plane, where routers learn which blocks workers have in their caches."""

from __future__ import annotations

import threading
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mpmetrics.engines.events.batch import CONVERSION, EMPTY_STORE
from mpmetrics.engines.events.dynamo_protocol import (
    KV_EVENTS,
    Address,
    Author,
    Message,
    channel_record,
    source_record,
)
from mpmetrics.engines.events.link import (
    DENIED,
    FAILED,
    LATE,
    LOST,
    NO_STREAM,
    REFUSED,
    TOO_LARGE,
    UNREACHABLE,
    LinkError,
)
from mpmetrics.engines.events.model import HASHES, Cleared
from mpmetrics.engines.events.nats_link import NatsLink
from mpmetrics.engines.events.router_events import RouterEventConverter
from mpmetrics.engines.events.sinks import CAPACITY, Sink
from mpmetrics.engines.events.zmq_link import ZmqLink

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mpmetrics.engines.events.buffer import TakenEvents
    from mpmetrics.engines.events.link import Link
    from mpmetrics.engines.events.model import Event
    from mpmetrics.engines.events.nats_options import NatsOptions

MOST_EVENTS: Final = 128
MOST_BLOCKS: Final = 8192
"""The largest numbers of events and of blocks in a message; they are Dynamo's."""

MOST_BYTES: Final = 1 << 20
"""Bytes of messages to send at once: on a slow link more would never be sent in time."""

FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 2.0
"""Seconds between two attempts to reach a broker; each pause is twice as long as the last."""


class Worker(NamedTuple):
    """The worker whose events a sink publishes: its id, and its *address* in Dynamo.

    If *block_size* is given, blocks of another size are rejected: routers cannot use them.
    """

    worker_id: int
    address: Address = Address()
    block_size: int | None = None


class _Parcel(NamedTuple):
    """A message with events of one *rank*; it has no message if all events are rejected."""

    rank: int
    message: Message | None
    events: int
    rejected: Mapping[str, int]
    """The number of events that are not in the message, by reason."""


class DynamoSink(Sink):
    """A sink that packs events of one *worker* into messages, and sends them over a *link*.

    It sends a message again until the link takes it. *pip_extra* is the extra of this project that
    brings the packages, for an error message.
    """

    REJECTIONS: Sequence[str] = (CONVERSION, EMPTY_STORE)

    def __init__(
        self,
        name: str,
        worker: Worker,
        link: Link,
        *,
        pip_extra: str,
        publisher_id: int | None = None,
        capacity: int = CAPACITY,
        first_pause: float = FIRST_PAUSE,
    ) -> None:
        """Publish as *publisher_id*, or with a random one. Raises `MissingExtraError`.

        In Dynamo each rank is a publisher of its own: its id is that of rank 0 plus the rank.
        """
        super().__init__(name, capacity)
        self._converter = RouterEventConverter(worker.worker_id, worker.block_size, pip_extra)
        self._make_author = partial(Author, KV_EVENTS, pip_extra=pip_extra)
        self._authors = {0: self._make_author(publisher_id)}
        self._worker = worker
        self._subject = worker.address.subject()
        self._link = link
        self._has_given_up = threading.Event()
        self._first_pause = self._pause = first_pause

    def publisher_id(self, rank: int = 0) -> int:
        """Return the id in the envelopes of *rank*."""
        return self._find_author(rank).publisher_id

    def records(self, rank: int = 0) -> Mapping[str, Mapping[str, Any]]:
        """Return the records of the publisher of *rank* for Dynamo's discovery, by key.

        Routers take events only of publishers that have a record there.
        """
        number, (worker_id, address, _) = self.publisher_id(rank), self._worker
        key, record = source_record(address, KV_EVENTS, number, worker_id=worker_id, rank=rank)
        return {key: record}

    def _find_author(self, rank: int) -> Author:
        if rank not in self._authors:
            first = self._authors[0].publisher_id
            self._authors[rank] = self._make_author((first + rank) & HASHES)
        return self._authors[rank]

    def _send(self, taken: TakenEvents) -> None:
        self._converter.skip(taken.dropped)
        parcels = self._pack(taken.events)
        while parcels:
            some = _take_some(parcels)
            failure = self._try([each.message for each in some if each.message is not None])
            parcels = self._count_all(some, failure) + parcels[len(some) :]
            if failure is not None and failure.reason != TOO_LARGE and self._wait():
                return

    def _try(self, messages: Sequence[Message]) -> LinkError | None:
        """Send *messages*; return the error if it failed."""
        try:
            if messages:
                self._link.send(self._subject, messages)
        except Exception as error:  # the events are kept, and sent again
            failure = error if isinstance(error, LinkError) else LinkError(FAILED, str(error))
            if not self._has_given_up.is_set():
                self._warn(failure.reason, error)
            return failure
        self._pause = self._first_pause
        return None

    def _count_all(self, parcels: Sequence[_Parcel], failure: LinkError | None) -> list[_Parcel]:
        """Count the *parcels* that are sent or rejected; return those that remain to be sent."""
        taken = len(parcels) if failure is None else failure.taken
        left = list(parcels)
        while left and (taken or left[0].message is None):
            taken -= left[0].message is not None
            self._count(left.pop(0), "sent")
        if failure is not None and failure.reason == TOO_LARGE:
            self._count(left.pop(0), "rejected", TOO_LARGE)
        return left

    def _count(self, parcel: _Parcel, outcome: str, *reason: str) -> None:
        """Count the events of a *parcel* that is sent or rejected."""
        for why, count in parcel.rejected.items():
            self.tally["rejected", self.name, why] += count
        others = parcel.events - sum(parcel.rejected.values())
        key = (outcome, self.name, *reason)
        self.tally[key] += others
        self.buffer.mark_done(parcel.rank, parcel.events)

    def _wait(self) -> bool:
        """Wait, twice as long as the last time; return whether the sink has given up."""
        has_given_up = self._has_given_up.wait(self._pause)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        return has_given_up

    def _pack(self, events: Sequence[Event]) -> list[_Parcel]:
        """Return *events* in parcels, rank by rank."""
        ranks: dict[int, list[Event]] = {}
        for event in events:
            ranks.setdefault(event.rank, []).append(event)
        return [self._pack_one(rank, some) for rank, own in ranks.items() for some in _split(own)]

    def _pack_one(self, rank: int, events: Sequence[Event]) -> _Parcel:
        """Return one parcel of *events*, without those that routers do not take."""
        documents: list[Any] = []
        rejected: Counter[str] = Counter()
        for event in events:
            document = self._converter.convert(event)
            if isinstance(document, str):
                rejected[document] += 1
            else:
                documents.append(document)
        message = self._find_author(rank).message(documents) if documents else None
        return _Parcel(rank, message, len(events), rejected)

    def _give_up(self) -> None:
        self._has_given_up.set()
        self._link.interrupt()

    def _close(self) -> None:
        self._link.close()


def _take_some(parcels: Sequence[_Parcel]) -> Sequence[_Parcel]:
    """Return the first *parcels*, at least one, up to `MOST_BYTES`."""
    size = 0
    for place, parcel in enumerate(parcels):
        size += len(parcel.message.packed) if parcel.message is not None else 0
        if place and size > MOST_BYTES:
            return parcels[:place]
    return parcels


def _split(events: Sequence[Event]) -> Iterator[Sequence[Event]]:
    """Yield *events* in portions for one message each."""
    portion: list[Event] = []
    blocks = 0
    for event in events:
        size = 0 if isinstance(event, Cleared) else len(event.hashes)
        if portion and (len(portion) >= MOST_EVENTS or blocks + size > MOST_BLOCKS):
            yield portion
            portion, blocks = [], 0
        portion.append(event)
        blocks += size
    yield portion


class NatsSink(DynamoSink):
    """A sink that publishes events on NATS *servers*: URLs, separated by commas."""

    FAILURES = (UNREACHABLE, LATE, LOST, DENIED, REFUSED, NO_STREAM, TOO_LARGE, FAILED)
    REJECTIONS = (CONVERSION, EMPTY_STORE, TOO_LARGE)

    def __init__(
        self,
        servers: str,
        worker: Worker,
        options: NatsOptions | None = None,
        *,
        name: str = "nats",
        publisher_id: int | None = None,
        capacity: int = CAPACITY,
    ) -> None:
        """Connect later. Raises `MissingExtraError`, `EventEndpointError`, `NatsOptionError`."""
        link = NatsLink(servers, options)
        super().__init__(
            name, worker, link, pip_extra="nats", publisher_id=publisher_id, capacity=capacity
        )


class ZmqSink(DynamoSink):
    """A sink that publishes events by ZeroMQ, on its own *endpoint* or to a broker there."""

    FAILURES = (UNREACHABLE, FAILED)

    def __init__(
        self,
        endpoint: str,
        worker: Worker,
        *,
        bind: bool = True,
        name: str = "zmq",
        publisher_id: int | None = None,
        capacity: int = CAPACITY,
    ) -> None:
        """Bind or connect. Raises `MissingExtraError` and `EventEndpointError`."""
        link = ZmqLink(endpoint, bind=bind)
        super().__init__(
            name, worker, link, pip_extra="zmq", publisher_id=publisher_id, capacity=capacity
        )
        self.endpoint = link.endpoint

    def records(self, rank: int = 0) -> Mapping[str, Mapping[str, Any]]:
        """Return the records of the publisher of *rank* for Dynamo's discovery, by key.

        Routers take events only of publishers that have a record there, and connect to the
        endpoint in it.
        """
        number, address = self.publisher_id(rank), self._worker.address
        key, record = channel_record(address, KV_EVENTS, number, self.endpoint)
        return {**super().records(rank), key: record}
