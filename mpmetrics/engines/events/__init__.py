"""KV events of engines: a bridge reads them without loss, counts them once, and passes them on.

The way of an event: `source` reads messages by a `subscription` for each publisher, in the order
that `gaps` restores. `pipeline` counts what `decoder` (`fast_decoder`, else `any_decoder`) makes of
them with the rules of `filtering`, and `block_counts` and `prefix_lengths` count blocks. `joiner`
joins events, and `bridge` passes them to `sinks`, each with a `buffer`. Those for Dynamo are in
`dynamo_sinks` (`router_events`, `dynamo_protocol`) and send over a `link`: `nats_link`
(`nats_connection`, `nats_acks`, `nats_options`) or `zmq_link`. `metrics` shows all counts. Events
have the form of `model`, an engine's batches that of `batch`, and its endpoints are those of
`publisher_endpoints`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpmetrics._lazy import lazy_exports

if TYPE_CHECKING:
    # The names that are not in `__all__` are for other packages of this project, and `Source` is
    # the former name of `EventSource`.
    from mpmetrics.engines.events.bridge import EventBridge
    from mpmetrics.engines.events.dynamo_protocol import Address
    from mpmetrics.engines.events.dynamo_protocol import Author as Author
    from mpmetrics.engines.events.dynamo_protocol import channel_record as channel_record
    from mpmetrics.engines.events.dynamo_sinks import NatsSink, Worker, ZmqSink
    from mpmetrics.engines.events.link import Link as Link
    from mpmetrics.engines.events.model import Cleared, Removed, Stored
    from mpmetrics.engines.events.nats_link import NatsLink as NatsLink
    from mpmetrics.engines.events.nats_options import NatsOptions
    from mpmetrics.engines.events.publisher_endpoints import Publisher, publishers
    from mpmetrics.engines.events.sinks import CallbackSink, LinesSink
    from mpmetrics.engines.events.sinks import Sink as Sink
    from mpmetrics.engines.events.source import EventSource, Source
    from mpmetrics.engines.events.zmq_link import ZmqLink as ZmqLink

_MODULES = {
    "bridge": ["EventBridge"],
    "dynamo_protocol": ["Address", "Author", "channel_record"],
    "dynamo_sinks": ["NatsSink", "Worker", "ZmqSink"],
    "model": ["Cleared", "Removed", "Stored"],
    "nats_link": ["NatsLink"],
    "nats_options": ["NatsOptions"],
    "publisher_endpoints": ["Publisher", "publishers"],
    "sinks": ["CallbackSink", "LinesSink", "Sink"],
    "source": ["EventSource", "Source"],
    "link": ["Link"],
    "zmq_link": ["ZmqLink"],
}

__all__ = [
    "Address",
    "CallbackSink",
    "Cleared",
    "EventBridge",
    "EventSource",
    "LinesSink",
    "NatsOptions",
    "NatsSink",
    "Publisher",
    "Removed",
    "Source",
    "Stored",
    "Worker",
    "ZmqSink",
    "publishers",
]

if not TYPE_CHECKING:  # or every name would pass for one of this module's
    __getattr__, __dir__ = lazy_exports(__name__, _MODULES, globals())
