"""Senders of load: to Dynamo's event plane, or to a publisher of Dynamo's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from mpmetrics._forks import ForkSafeLock
from mpmetrics.engines.events import Address, Author, NatsLink, ZmqLink, channel_record
from mpmetrics.engines.load.publisher import TOPIC, ActiveLoad

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mpmetrics.engines.events import Link, NatsOptions

_FIELDS: Final = (
    "worker_id",
    "dp_rank",
    "active_decode_blocks",
    "active_prefill_tokens",
    "kv_used_blocks",
)
"""The fields of Dynamo's `ActiveLoad`; an unknown one is sent as nil."""

_SECONDS_TO_END: Final = 1.0
"""How long, in seconds, `close` waits for a send to end."""


class PlaneSender:
    """A sender over a *link* to the event plane, for the workers at an *address*.

    *pip_extra* is the extra of this project that brings the packages, for an error message.
    """

    def __init__(
        self,
        link: Link,
        address: Address,
        *,
        pip_extra: str,
        publisher_id: int | None = None,
    ) -> None:
        """Send as *publisher_id*, or under a new id. Raises `MissingExtraError`."""
        self._link = link
        self._author = Author(TOPIC, publisher_id, pip_extra=pip_extra)
        self._subject = address.subject(TOPIC)
        self._using = ForkSafeLock()

    def __call__(self, load: ActiveLoad) -> None:
        """Send a *load*, within seconds. Raises `LinkError` if it could not be sent."""
        payload = {name: getattr(load, name, None) for name in _FIELDS}
        with self._using:
            self._link.send(self._subject, [self._author.message(payload)])

    def close(self) -> None:
        """Interrupt the send that is under way, and disconnect."""
        self._link.interrupt()
        if self._using.acquire(timeout=_SECONDS_TO_END):
            self._link.close()
            self._using.release()


class NatsSender(PlaneSender):
    """A sender of loads to NATS *servers*, which are URLs separated by commas."""

    def __init__(
        self,
        servers: str,
        address: Address,
        options: NatsOptions | None = None,
        *,
        publisher_id: int | None = None,
    ) -> None:
        """Prepare the connection, which the first load opens.

        Raises `MissingExtraError`, `EventEndpointError` and `NatsOptionError`.
        """
        link = NatsLink(servers, options)
        super().__init__(link, address, pip_extra="nats", publisher_id=publisher_id)


class ZmqSender(PlaneSender):
    """A sender of loads by ZeroMQ, which binds its own *endpoint* or connects to a broker."""

    def __init__(
        self,
        endpoint: str,
        address: Address,
        *,
        bind: bool = True,
        publisher_id: int | None = None,
    ) -> None:
        """Bind or connect. Raises `MissingExtraError` and `EventEndpointError`."""
        link = ZmqLink(endpoint, bind=bind)
        super().__init__(link, address, pip_extra="zmq", publisher_id=publisher_id)
        self._address = address
        self.endpoint = link.endpoint

    def records(self) -> Mapping[str, Mapping[str, Any]]:
        """Return the records, by key, that Dynamo's discovery needs so that routers listen."""
        number = self._author.publisher_id
        key, record = channel_record(self._address, TOPIC, number, self.endpoint)
        return {key: record}


class MetricsPublisher(Protocol):
    """What a sender needs of Dynamo's `WorkerMetricsPublisher`, once its endpoint is created."""

    def publish(
        self,
        dp_rank: int | None = None,
        active_decode_blocks: int | None = None,
        kv_used_blocks: int | None = None,
    ) -> Any:
        """Publish the load of a rank."""
        ...  # pragma: no cover - a protocol has no body


class DynamoSender:
    """A sender through a publisher of Dynamo, which has its own connection and identity."""

    def __init__(self, publisher: MetricsPublisher) -> None:
        """Send through *publisher*."""
        self._publisher = publisher

    def __call__(self, load: ActiveLoad) -> None:
        """Send a *load*; the publisher does not report whether it has arrived."""
        self._publisher.publish(
            load.dp_rank,
            active_decode_blocks=load.active_decode_blocks,
            kv_used_blocks=load.kv_used_blocks,
        )
