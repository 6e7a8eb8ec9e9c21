"""The KV events of engines: received without loss, counted once, and passed on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpmetrics.engines.loading import lazily

if TYPE_CHECKING:
    from mpmetrics.engines.events.bridge import EventBridge
    from mpmetrics.engines.events.endpoints import Publisher, publishers
    from mpmetrics.engines.events.envelope import Address
    from mpmetrics.engines.events.lines import LinesSink
    from mpmetrics.engines.events.model import Cleared, Removed, Stored
    from mpmetrics.engines.events.natsoptions import NatsOptions
    from mpmetrics.engines.events.planes import NatsSink, Worker, ZmqSink
    from mpmetrics.engines.events.sinks import CallbackSink
    from mpmetrics.engines.events.source import Source

_HOMES = {
    "Address": "envelope",
    "CallbackSink": "sinks",
    "Cleared": "model",
    "EventBridge": "bridge",
    "LinesSink": "lines",
    "NatsOptions": "natsoptions",
    "NatsSink": "planes",
    "Publisher": "endpoints",
    "Removed": "model",
    "Source": "source",
    "Stored": "model",
    "Worker": "planes",
    "ZmqSink": "planes",
    "publishers": "endpoints",
}

__all__ = [
    "Address",
    "CallbackSink",
    "Cleared",
    "EventBridge",
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

__getattr__, __dir__ = lazily(__name__, _HOMES, globals())
