"""The load of a worker's data-parallel ranks, published for routers when it changes.

`WorkerLoadPublisher` decides when to publish, and a sender knows where to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpmetrics._lazy import lazy_exports

if TYPE_CHECKING:
    from mpmetrics.engines.load.debounce import DebounceTiming
    from mpmetrics.engines.load.publisher import ActiveLoad, WorkerLoadPublisher
    from mpmetrics.engines.load.senders import DynamoSender, NatsSender, ZmqSender

_MODULES = {
    "debounce": ["DebounceTiming"],
    "publisher": ["ActiveLoad", "WorkerLoadPublisher"],
    "senders": ["DynamoSender", "NatsSender", "ZmqSender"],
}

__all__ = [
    "ActiveLoad",
    "DebounceTiming",
    "DynamoSender",
    "NatsSender",
    "WorkerLoadPublisher",
    "ZmqSender",
]

if not TYPE_CHECKING:  # or every name would pass for one of this module's
    __getattr__, __dir__ = lazy_exports(__name__, _MODULES, globals())
