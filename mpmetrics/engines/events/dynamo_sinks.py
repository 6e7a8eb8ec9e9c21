"""Sinks on Dynamo's event plane: routers listen there to what workers have in their caches."""

from __future__ import annotations

import threading
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mpmetrics.engines.events.decoder import CONVERSION, EMPTY
from mpmetrics.engines.events.dynamo_protocol import (
    KV_EVENTS,
    Address,
    Author,
    Message,
    channel_record,
    source_record,
)
from mpmetrics.engines.events.model import HASHES, Cleared
from mpmetrics.engines.events.nats_link import NatsLink
from mpmetrics.engines.events.router_events import Router
from mpmetrics.engines.events.sinks import CAPACITY, Sink
from mpmetrics.engines.events.transport import (
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
from mpmetrics.engines.events.zmq_link import ZmqLink

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mpmetrics.engines.events.buffer import Taken
    from mpmetrics.engines.events.model import Event
    from mpmetrics.engines.events.nats_options import NatsOptions
    from mpmetrics.engines.events.transport import Link

MOST_EVENTS: Final = 128
MOST_BLOCKS: Final = 8192
"""What a message has at the most, as with Dynamo."""

MOST_BYTES: Final = 1 << 20
"""Bytes of messages that are handed over at once: on a slow link more would never be in time."""

FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 2.0
"""Seconds between two attempts to reach a broker; each time it is twice as long."""


class Worker(NamedTuple):
    """Whose events they are: a worker's with this id, at an *address* of Dynamo's.

    Blocks of another size than *block_size*, if it is known, are of no use to routers.
    """

    worker_id: int
    address: Address = Address()
    block_size: int | None = None


class _Parcel(NamedTuple):
    """A message of some events of a *rank*, or what there is instead of one if all are rejected."""

    rank: int
    message: Message | None
    events: int
    rejected: Mapping[str, int]
    """How many of the events are not in the message, by why."""


class PlaneSink(Sink):
    """Puts events of one *worker* into messages, and hands these to a *link* until it has them."""

    REJECTIONS: Sequence[str] = (CONVERSION, EMPTY)

    def __init__(
        self,
        name: str,
        worker: Worker,
        link: Link,
        *,
        extra: str,
        publisher_id: int | None = None,
        capacity: int = CAPACITY,
    ) -> None:
        """Publish as *publisher_id*, or as somebody new. Raises `MissingExtraError`.

        To Dynamo each rank is a publisher of its own: their ids are that of rank 0, and the rank.
        """
        super().__init__(name, capacity)
        self._router = Router(worker.worker_id, worker.block_size, extra)
        self._make_author = partial(Author, KV_EVENTS, extra=extra)
        self._authors = {0: self._make_author(publisher_id)}
        self._worker = worker
        self._subject = worker.address.subject()
        self._link = link
        self._over = threading.Event()
        self._pause = FIRST_PAUSE

    def publisher_id(self, rank: int = 0) -> int:
        """Return the id that is in the envelopes of a *rank*."""
        return self._author(rank).publisher_id

    def records(self, rank: int = 0) -> Mapping[str, Mapping[str, Any]]:
        """Return what Dynamo's discovery has to have of the publisher of a *rank*, by key.

        Routers take events only of publishers that are known there.
        """
        number, (worker_id, address, _) = self.publisher_id(rank), self._worker
        key, record = source_record(address, KV_EVENTS, number, worker_id=worker_id, rank=rank)
        return {key: record}

    def _author(self, rank: int) -> Author:
        if rank not in self._authors:
            first = self._authors[0].publisher_id
            self._authors[rank] = self._make_author((first + rank) & HASHES)
        return self._authors[rank]

    def _give(self, taken: Taken) -> None:
        self._router.skip(taken.dropped)
        parcels = self._parcels(taken.events)
        while parcels:
            some = _handful(parcels)
            failure = self._handed([each.message for each in some if each.message is not None])
            parcels = self._counted(some, failure) + parcels[len(some) :]
            if failure is not None and failure.reason != TOO_LARGE and self._waited():
                return

    def _handed(self, messages: Sequence[Message]) -> LinkError | None:
        """Hand over *messages*; return why that did not go well."""
        try:
            if messages:
                self._link.send(self._subject, messages)
        except Exception as error:  # whatever it is, the events are still here
            failure = error if isinstance(error, LinkError) else LinkError(FAILED, str(error))
            if not self._over.is_set():
                self._warn(failure.reason, error)
            return failure
        self._pause = FIRST_PAUSE
        return None

    def _counted(self, parcels: Sequence[_Parcel], failure: LinkError | None) -> list[_Parcel]:
        """Count what has gone, and what never will; return what is left."""
        taken = len(parcels) if failure is None else failure.taken
        left = list(parcels)
        while left and (taken or left[0].message is None):
            taken -= left[0].message is not None
            self._count(left.pop(0), "sent")
        if failure is not None and failure.reason == TOO_LARGE:
            self._count(left.pop(0), "rejected", TOO_LARGE)
        return left

    def _count(self, parcel: _Parcel, outcome: str, *reason: str) -> None:
        """Count the events of a *parcel* that is done with."""
        for why, count in parcel.rejected.items():
            self.tally["rejected", self.name, why] += count
        others = parcel.events - sum(parcel.rejected.values())
        self.tally[(outcome, self.name, *reason)] += others
        self.buffer.done(parcel.rank, parcel.events)

    def _waited(self) -> bool:
        """Wait for a while, twice as long as before; return whether it is over."""
        over = self._over.wait(self._pause)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        return over

    def _parcels(self, events: Sequence[Event]) -> list[_Parcel]:
        """Return *events* as messages, rank by rank."""
        ranks: dict[int, list[Event]] = {}
        for event in events:
            ranks.setdefault(event.rank, []).append(event)
        return [self._parcel(rank, some) for rank, own in ranks.items() for some in _portions(own)]

    def _parcel(self, rank: int, events: Sequence[Event]) -> _Parcel:
        """Return *events* as a message, without those that routers cannot be told of."""
        documents: list[Any] = []
        rejected: Counter[str] = Counter()
        for event in events:
            document = self._router.convert(event)
            if isinstance(document, str):
                rejected[document] += 1
            else:
                documents.append(document)
        message = self._author(rank).message(documents) if documents else None
        return _Parcel(rank, message, len(events), rejected)

    def _give_up(self) -> None:
        self._over.set()
        self._link.interrupt()

    def _close(self) -> None:
        self._link.close()


def _handful(parcels: Sequence[_Parcel]) -> Sequence[_Parcel]:
    """Return as many of the *parcels* as are handed over at once, one at least."""
    size = 0
    for place, parcel in enumerate(parcels):
        size += len(parcel.message.packed) if parcel.message is not None else 0
        if place and size > MOST_BYTES:
            return parcels[:place]
    return parcels


def _portions(events: Sequence[Event]) -> Iterator[Sequence[Event]]:
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


class NatsSink(PlaneSink):
    """Publishes events on NATS *servers*: URLs, separated by commas."""

    FAILURES = (UNREACHABLE, LATE, LOST, DENIED, REFUSED, NO_STREAM, TOO_LARGE, FAILED)
    REJECTIONS = (CONVERSION, EMPTY, TOO_LARGE)

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
            name, worker, link, extra="nats", publisher_id=publisher_id, capacity=capacity
        )


class ZmqSink(PlaneSink):
    """Publishes events by ZeroMQ: on an *endpoint* of its own, or to a broker that is there."""

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
            name, worker, link, extra="zmq", publisher_id=publisher_id, capacity=capacity
        )
        self.endpoint = link.endpoint

    def records(self, rank: int = 0) -> Mapping[str, Mapping[str, Any]]:
        """Return what Dynamo's discovery has to have of the publisher of a *rank*, by key.

        Routers take events only of publishers that are known there, and look for them there.
        """
        number, address = self.publisher_id(rank), self._worker.address
        key, record = channel_record(address, KV_EVENTS, number, self.endpoint)
        return {**super().records(rank), key: record}
