"""The metrics of Dynamo's KV block manager (KVBM): transfers of blocks, and hits."""

from __future__ import annotations

from collections import deque
from math import inf
from typing import TYPE_CHECKING, Any, Final

from mpmetrics._forks import ForkSafeLock
from mpmetrics.engines.dynamo.kvbm_families import (
    COUNTERS,
    PREFIX,
    RATED_TIERS,
    TAKEN_NAMES,
    TRANSFER_COUNTERS,
    TRANSFERS,
    Transfer,
    add_upstream_names,
    make_hit_rate,
)
from mpmetrics.engines.dynamo.labelled_metrics import MetricFactory, define_metric
from mpmetrics.engines.errors import KvbmError, MetricConflictError
from mpmetrics.exposition import check_labels

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from prometheus_client import Metric

    from mpmetrics.engines.dynamo.labelled_metrics import LabelledDefinition

WINDOW: Final = 1000
"""Requests that upstream's hit rates cover."""

_OBJECT_FAILURES: Final = ("read", "write")


class KvbmMetrics:
    """KVBM's metrics, with constant *labels* on all of them; a collector for any registry."""

    def __init__(self, labels: Mapping[str, str] | None = None, *, window: int = WINDOW) -> None:
        """Set all counters to zero. Hit rates cover the last *window* requests.

        Raises `LabelError` or `NameSanitizingError` for invalid labels, and `KvbmError` for a
        window without a request.
        """
        if not window > 0:
            raise KvbmError.counting(window, "requests in a window")
        self._labels = dict(check_labels(labels))
        self._factory = MetricFactory(PREFIX, self._labels)
        by_family = {
            name: self._make_counter(name, text, ("source", "target"))
            for name, text in TRANSFER_COUNTERS.items()
        }
        self._transfers = {
            each: by_family[each.family].labels(each.source, each.target)
            for each in TRANSFERS.values()
        }
        self._counters = {name: self._make_counter(name, text) for name, text in COUNTERS.items()}
        self._rates = {tier: _HitRate(window) for tier in RATED_TIERS}

    def offloaded(self, source: str, target: str, blocks: int = 1) -> None:
        """Count *blocks* that went from the device, or from the host, to a tier further away.

        Raises `KvbmError` for tiers between which there is no such transfer.
        """
        self._count("offload_blocks", source, target, blocks)

    def onboarded(self, source: str, target: str = "device", blocks: int = 1) -> None:
        """Count *blocks* that were brought back. Raises `KvbmError` as `offloaded` does."""
        self._count("onboard_blocks", source, target, blocks)

    def matched(self, matched_tokens: int, requested_tokens: int) -> None:
        """Count a request for *requested_tokens*, of which *matched_tokens* were found.

        Raises `KvbmError`.
        """
        if not 0 <= matched_tokens <= requested_tokens < inf:
            raise KvbmError.counting(matched_tokens, "tokens", requested_tokens)
        # In this order, so that a scrape in between finds no more tokens than were requested.
        self._counters["requested_tokens"].inc(requested_tokens)
        self._counters["matched_tokens"].inc(matched_tokens)

    def looked_up(self, tier: str, hits: int, blocks: int) -> None:
        """Add a request for *blocks*, with *hits* among them, to the hit rate of a *tier*.

        Raises `KvbmError`.
        """
        if tier not in self._rates:
            raise KvbmError(tier, f"no tier with a hit rate; those are {', '.join(RATED_TIERS)}")
        if not 0 <= hits <= blocks < inf:
            raise KvbmError.counting(hits, "blocks", blocks)
        self._rates[tier].add(hits, blocks)

    def object_failed(self, what: str) -> None:
        """Count a failed "read" or "write" of the object store. Raises `KvbmError`."""
        if what not in _OBJECT_FAILURES:
            raise KvbmError(
                what, f"no operation that fails; those are {', '.join(_OBJECT_FAILURES)}"
            )
        self._counters[f"object_{what}_failures"].inc()

    def create_counter(self, name: str, documentation: str, labelnames: Iterable[str] = ()) -> Any:
        """Return a counter with the prefix and the constant labels.

        Illegal characters in its names are replaced. Raises `MetricConflictError` if another metric
        has that name, or exposes it.
        """
        return self._create(name, define_metric("counter", documentation, labelnames, None))

    def create_gauge(self, name: str, documentation: str, labelnames: Iterable[str] = ()) -> Any:
        """Return a gauge with the prefix and the constant labels.

        Illegal characters in its names are replaced. Raises `MetricConflictError` if another metric
        has that name, or exposes it.
        """
        mode = {"multiprocess_mode": "livesum"}
        return self._create(name, define_metric("gauge", documentation, labelnames, None, **mode))

    def collect(self) -> Iterable[Metric]:
        """Yield all families: with upstream's names, with `_total`, and with the tiers."""
        for family in self._factory.registry.collect():
            yield from add_upstream_names(family)
        for tier, hit_rate in self._rates.items():
            rate = hit_rate.rate()
            if rate is not None:
                yield make_hit_rate(tier, rate, self._labels)

    def describe(self) -> Iterable[Metric]:
        """Return no families, so that no names are claimed: metrics may be added later."""
        return []

    def _create(self, name: str, definition: LabelledDefinition) -> Any:
        """Return a metric whose name is none of KVBM's own."""
        full_name = self._factory.full_name(name)
        if full_name in TAKEN_NAMES:
            raise MetricConflictError(full_name, "one of KVBM's own", str(definition))
        return self._factory.make(name, definition)

    def _make_counter(self, name: str, documentation: str, labels: Iterable[str] = ()) -> Any:
        return self._factory.make(name, define_metric("counter", documentation, labels, None))

    def _count(self, family: str, source: str, target: str, blocks: int) -> None:
        counter = self._transfers.get(Transfer(family, source, target))
        if counter is None:
            raise KvbmError.between(source, target, family)
        if not 0 <= blocks < inf:
            raise KvbmError.counting(blocks, "blocks")
        counter.inc(blocks)


class _HitRate:
    """The share of hits among the blocks of the last requests."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._requests: deque[tuple[int, int]] = deque()
        self._hits = self._blocks = 0
        self._lock = ForkSafeLock()

    def add(self, hits: int, blocks: int) -> None:
        """Add a request for *blocks*; drop the oldest request if there are too many."""
        with self._lock:
            self._requests.append((hits, blocks))
            self._hits += hits
            self._blocks += blocks
            while len(self._requests) > self._window:
                hits, blocks = self._requests.popleft()
                self._hits -= hits
                self._blocks -= blocks

    def rate(self) -> float | None:
        """Return the hit rate, from 0 to 1; None if no block was looked for."""
        with self._lock:
            return self._hits / self._blocks if self._blocks else None
