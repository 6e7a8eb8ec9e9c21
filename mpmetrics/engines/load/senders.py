"""Where load goes: to Dynamo's event plane, or to a publisher of Dynamo's."""

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
"""Of Dynamo's `ActiveLoad`; what is not known goes out as nil."""

_TO_END: Final = 1.0
"""Seconds that what is being sent has to end."""


class PlaneSender:
    """Sends loads of the workers at an *address* over the event plane, by a *link*."""

    def __init__(
        self,
        link: Link,
        address: Address,
        *,
        extra: str,
        publisher_id: int | None = None,
    ) -> None:
        """Publish as *publisher_id*, or as somebody new. Raises `MissingExtraError`."""
        self._link = link
        self._author = Author(TOPIC, publisher_id, extra=extra)
        self._subject = address.subject(TOPIC)
        self._using = ForkSafeLock()

    def __call__(self, load: ActiveLoad) -> None:
        """Send a *load*, within seconds. Raises `LinkError` when nobody has taken it."""
        payload = {name: getattr(load, name, None) for name in _FIELDS}
        with self._using:
            self._link.send(self._subject, [self._author.message(payload)])

    def close(self) -> None:
        """Send nothing more, and disconnect."""
        self._link.interrupt()
        if self._using.acquire(timeout=_TO_END):
            self._link.close()
            self._using.release()


class NatsSender(PlaneSender):
    """Sends loads to NATS *servers*: URLs, separated by commas."""

    def __init__(
        self,
        servers: str,
        address: Address,
        options: NatsOptions | None = None,
        *,
        publisher_id: int | None = None,
    ) -> None:
        """Connect later. Raises `MissingExtraError`, `EventEndpointError`, `NatsOptionError`."""
        link = NatsLink(servers, options)
        super().__init__(link, address, extra="nats", publisher_id=publisher_id)


class ZmqSender(PlaneSender):
    """Sends loads by ZeroMQ: on an *endpoint* of its own, or to a broker that is there."""

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
        super().__init__(link, address, extra="zmq", publisher_id=publisher_id)
        self._address = address
        self.endpoint = link.endpoint

    def records(self) -> Mapping[str, Mapping[str, Any]]:
        """Return what Dynamo's discovery has to have, by key, for routers to listen."""
        number = self._author.publisher_id
        key, record = channel_record(self._address, TOPIC, number, self.endpoint)
        return {key: record}


class MetricsPublisher(Protocol):
    """What `WorkerMetricsPublisher` of `dynamo.llm` has, once its endpoint is created."""

    def publish(
        self,
        dp_rank: int | None = None,
        active_decode_blocks: int | None = None,
        kv_used_blocks: int | None = None,
    ) -> Any:
        """Publish the load of a rank."""
        ...  # pragma: no cover - a protocol has no body


class DynamoSender:
    """Sends loads through a publisher of Dynamo's, which has its own connection and identity."""

    def __init__(self, publisher: MetricsPublisher) -> None:
        """Send by *publisher*."""
        self._publisher = publisher

    def __call__(self, load: ActiveLoad) -> None:
        """Send a *load*; the publisher says nothing of whether anybody has taken it."""
        self._publisher.publish(
            load.dp_rank,
            active_decode_blocks=load.active_decode_blocks,
            kv_used_blocks=load.kv_used_blocks,
        )
