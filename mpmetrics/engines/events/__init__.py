"""KV events of engines: a bridge reads them without loss, counts them once, and passes them on.

The way of an event: `source` reads messages by a `subscription` for each publisher, `gaps` orders
them, `pipeline` decodes and counts, and `sinks` send what is left, some of them over a link.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpmetrics._lazy import lazy_exports

if TYPE_CHECKING:
    from mpmetrics.engines.events.bridge import EventBridge
    from mpmetrics.engines.events.dynamo_protocol import Address, Author, channel_record
    from mpmetrics.engines.events.dynamo_sinks import NatsSink, Worker, ZmqSink
    from mpmetrics.engines.events.model import Cleared, Removed, Stored
    from mpmetrics.engines.events.nats_link import NatsLink
    from mpmetrics.engines.events.nats_options import NatsOptions
    from mpmetrics.engines.events.publisher import Publisher, publishers
    from mpmetrics.engines.events.sinks import CallbackSink, LinesSink, Sink
    from mpmetrics.engines.events.source import EventSource
    from mpmetrics.engines.events.source import (
        Source as Source,
    )  # the former name, not in `__all__`
    from mpmetrics.engines.events.transport import Link
    from mpmetrics.engines.events.zmq_link import ZmqLink

_MODULES = {
    "bridge": ["EventBridge"],
    "dynamo_protocol": ["Address", "Author", "channel_record"],
    "dynamo_sinks": ["NatsSink", "Worker", "ZmqSink"],
    "model": ["Cleared", "Removed", "Stored"],
    "nats_link": ["NatsLink"],
    "nats_options": ["NatsOptions"],
    "publisher": ["Publisher", "publishers"],
    "sinks": ["CallbackSink", "LinesSink", "Sink"],
    "source": ["EventSource", "Source"],
    "transport": ["Link"],
    "zmq_link": ["ZmqLink"],
}

__all__ = [
    "Address",
    "Author",
    "CallbackSink",
    "Cleared",
    "EventBridge",
    "EventSource",
    "LinesSink",
    "Link",
    "NatsLink",
    "NatsOptions",
    "NatsSink",
    "Publisher",
    "Removed",
    "Sink",
    "Stored",
    "Worker",
    "ZmqLink",
    "ZmqSink",
    "channel_record",
    "publishers",
]

if not TYPE_CHECKING:  # or every name would pass for one of this module's
    __getattr__, __dir__ = lazy_exports(__name__, _MODULES, globals())
