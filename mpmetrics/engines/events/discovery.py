"""What Dynamo's discovery has of who publishes: routers look there for whom to listen to.

Only Dynamo's own publishers put themselves there. These are the records for others: by its key each
document goes, as JSON, into the store that discovery is configured with. Since 1.6 a router takes
KV events only of a source that it finds there, for a worker that has registered its model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mpmetrics.engines.events.envelope import Address

    Record = Mapping[str, Any]


def source_record(
    address: Address, topic: str, publisher_id: int, *, worker_id: int, rank: int = 0
) -> tuple[str, Record]:
    """Return the key and the record of a source: whose blocks a publisher tells of."""
    about = {
        "kv_state_endpoint": _named(address),
        "worker": {"worker_id": worker_id, "dp_rank": rank},
        "publisher_id": publisher_id,
    }
    record = {"type": "EventSource", **_scope(address, topic), "publisher_id": publisher_id}
    return _key("event_sources", address, topic, publisher_id), {**record, "metadata": about}


def channel_record(
    address: Address, topic: str, publisher_id: int, endpoint: str
) -> tuple[str, Record]:
    """Return the key and the record of a channel: the *endpoint* of a publisher by ZeroMQ."""
    record = {"type": "EventChannel", **_scope(address, topic), "instance_id": publisher_id}
    transport = {"kind": "Zmq", "config": {"endpoint": endpoint}}
    return _key("event_channels", address, topic, publisher_id), {**record, "transport": transport}


def _key(bucket: str, address: Address, topic: str, publisher_id: int) -> str:
    steps = [step for pair in zip(address._fields, address, strict=True) for step in pair]
    return "/".join(["v1", bucket, *steps, "topic", topic, f"{publisher_id:x}"])


def _scope(address: Address, topic: str) -> dict[str, Any]:
    return {"scope": {"kind": "endpoint", "endpoint": _named(address)}, "topic": topic}


def _named(address: Address) -> dict[str, str]:
    return {
        "namespace": address.namespace,
        "component": address.component,
        "name": address.endpoint,
    }
