"""The metrics of Dynamo's KV block manager (KVBM): where blocks went, and what was found.

Upstream (`lib/llm/src/block_manager/metrics_kvbm.rs`) has counters without `_total`, no labels, and
names such as `h2d`, which is host to disk for one and host to device for another. Its names stay
here. Beside each stands the same with `_total`; both have no type, since a counter of the one name
would claim the other as well. And there are real counters, with the tiers spelled out.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from math import inf
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mpmetrics._forks import ForkSafeLock
from mpmetrics.engines.dynamo.labelled_metrics import MetricShelf, definition
from mpmetrics.engines.errors import KvbmError, MetricConflictError
from mpmetrics.errors import ListenError
from mpmetrics.exposition import check_labels

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from prometheus_client import Metric
    from prometheus_client.samples import Sample

    from mpmetrics.engines.dynamo.labelled_metrics import Definition
    from mpmetrics.web import PageServer

_log = logging.getLogger("mpmetrics")

PREFIX: Final = "kvbm_"
DEFAULT_PORT: Final = 6880
WINDOW: Final = 1000
"""Requests over which upstream's hit rates go."""


class Way(NamedTuple):
    """A way of blocks from one tier to another, as upstream calls it."""

    family: str
    source: str
    target: str


WAYS: Final[Mapping[str, Way]] = {
    "offload_blocks_d2h": Way("offload_blocks", "device", "host"),
    "offload_blocks_h2d": Way("offload_blocks", "host", "disk"),
    "offload_blocks_d2d": Way("offload_blocks", "device", "disk"),
    "offload_blocks_d2o": Way("offload_blocks", "device", "object"),
    "onboard_blocks_h2d": Way("onboard_blocks", "host", "device"),
    "onboard_blocks_d2d": Way("onboard_blocks", "disk", "device"),
    "onboard_blocks_o2d": Way("onboard_blocks", "object", "device"),
}
"""Upstream's counters of blocks, and what their letters stand for."""

_WAY: Final = ("source", "target")

_MOVED: Final[Mapping[str, str]] = {
    "offload_blocks": "Blocks that went to a tier further away",
    "onboard_blocks": "Blocks that were brought back to the device",
}

_PLAIN: Final[Mapping[str, str]] = {
    "matched_tokens": "Tokens of requests that were found in some tier",
    "requested_tokens": "Tokens of requests: what kvbm_matched_tokens is a share of",
    "object_read_failures": "Failed reads from the object store",
    "object_write_failures": "Failed writes to the object store",
}

_UPSTREAM: Final = frozenset(_PLAIN) - {"requested_tokens"}

_FAILURES: Final = ("read", "write")
_RATED: Final = ("host", "disk", "object")

_TAKEN: Final = frozenset(
    f"{PREFIX}{name}{end}"
    for name in (*WAYS, *_PLAIN, *_MOVED, *(f"{tier}_cache_hit_rate" for tier in _RATED))
    for end in ("", "_total")
)
"""Names that nobody else may have, since they are on the page in any case."""


class KvbmMetrics:
    """KVBM's metrics, with constant *labels* on all of them; a collector for any registry."""

    def __init__(self, labels: Mapping[str, str] | None = None, *, window: int = WINDOW) -> None:
        """Begin at zero: all counters are there. Hit rates go over *window* requests.

        Raises `LabelError` or `NameSanitizingError` for labels that cannot be, and `KvbmError` for
        a window without a request.
        """
        if not window > 0:
            raise KvbmError.counting(window, "requests in a window")
        self._constant = dict(check_labels(labels))
        self._shelf = MetricShelf(PREFIX, self._constant)
        moved = {family: self._counter(family, text, _WAY) for family, text in _MOVED.items()}
        self._moved = {way: moved[way.family].labels(*way[1:]) for way in WAYS.values()}
        self._plain = {name: self._counter(name, text) for name, text in _PLAIN.items()}
        self._rates = {tier: _HitRate(window) for tier in _RATED}

    def offloaded(self, source: str, target: str, blocks: int = 1) -> None:
        """Count *blocks* that went from the device, or from the host, to a tier further away.

        Raises `KvbmError` for tiers between which there is no such way.
        """
        self._count("offload_blocks", source, target, blocks)

    def onboarded(self, source: str, target: str = "device", blocks: int = 1) -> None:
        """Count *blocks* that were brought back. Raises `KvbmError` as `offloaded` does."""
        self._count("onboard_blocks", source, target, blocks)

    def matched(self, matched_tokens: int, requested_tokens: int) -> None:
        """Count a request: of so many tokens so many were found. Raises `KvbmError`."""
        if not 0 <= matched_tokens <= requested_tokens < inf:
            raise KvbmError.counting(matched_tokens, "tokens", requested_tokens)
        # In this order, so that a scrape in between finds no more than was asked for.
        self._plain["requested_tokens"].inc(requested_tokens)
        self._plain["matched_tokens"].inc(matched_tokens)

    def looked_up(self, tier: str, hits: int, blocks: int) -> None:
        """Take a request into the hit rate of a *tier*: of so many blocks it had so many.

        Raises `KvbmError`.
        """
        if tier not in self._rates:
            raise KvbmError(tier, f"no tier with a hit rate; those are {', '.join(_RATED)}")
        if not 0 <= hits <= blocks < inf:
            raise KvbmError.counting(hits, "blocks", blocks)
        self._rates[tier].add(hits, blocks)

    def object_failed(self, what: str) -> None:
        """Count a failed "read" or "write" of the object store. Raises `KvbmError`."""
        if what not in _FAILURES:
            raise KvbmError(what, f"not what can fail; that is {' or '.join(_FAILURES)}")
        self._plain[f"object_{what}_failures"].inc()

    def create_counter(self, name: str, documentation: str, labelnames: Iterable[str] = ()) -> Any:
        """Return a counter with the prefix and the constant labels, under a normalised name.

        Raises `MetricConflictError` if something else has that name, or exposes it.
        """
        return self._another(name, definition("counter", documentation, labelnames, None))

    def create_gauge(self, name: str, documentation: str, labelnames: Iterable[str] = ()) -> Any:
        """Return a gauge with the prefix and the constant labels, under a normalised name.

        Raises `MetricConflictError` if something else has that name, or exposes it.
        """
        mode = {"multiprocess_mode": "livesum"}
        return self._another(name, definition("gauge", documentation, labelnames, None, **mode))

    def collect(self) -> Iterable[Metric]:
        """Return all families: upstream's names, those with `_total`, and with the tiers."""
        for family in self._shelf.registry.collect():
            name = family.name.removeprefix(PREFIX)
            if name in _UPSTREAM:
                yield from _untyped(family.name, family.documentation, _totals(family))
                continue
            yield family
            if name in _MOVED:
                yield from _by_way(name, _totals(family))
        yield from self._rate_families()

    def describe(self) -> Iterable[Metric]:
        """Claim no names: more may come."""
        return []

    def _another(self, name: str, definition: Definition) -> Any:
        """Return a metric that is none of upstream's."""
        full = self._shelf.full_name(name)
        if full in _TAKEN:
            raise MetricConflictError(full, "one of KVBM's own", str(definition))
        return self._shelf.make(name, definition)

    def _counter(self, name: str, documentation: str, labels: Iterable[str] = ()) -> Any:
        return self._shelf.make(name, definition("counter", documentation, labels, None))

    def _count(self, family: str, source: str, target: str, blocks: int) -> None:
        counter = self._moved.get(Way(family, source, target))
        if counter is None:
            raise KvbmError.between(source, target, family)
        if not 0 <= blocks < inf:
            raise KvbmError.counting(blocks, "blocks")
        counter.inc(blocks)

    def _rate_families(self) -> Iterable[Metric]:
        """Return upstream's hit rates: of a tier that nobody has asked there is none."""
        from prometheus_client.core import GaugeMetricFamily  # see the package

        constant = self._constant
        for tier, rate in self._rates.items():
            share = rate.share()
            if share is not None:
                family = GaugeMetricFamily(
                    f"{PREFIX}{tier}_cache_hit_rate",
                    f"Share of the blocks looked for that the {tier} had, of the last requests",
                    labels=list(constant),
                )
                family.add_metric(list(constant.values()), share)
                yield family


def _totals(family: Metric) -> list[Sample]:
    """Return the values of a counter, without when it began."""
    return [sample for sample in family.samples if sample.name.endswith("_total")]


def _by_way(family: str, totals: Sequence[Sample]) -> Iterator[Metric]:
    """Yield upstream's counters of blocks, from that with the tiers."""
    for name, way in WAYS.items():
        if way.family == family:
            of_way = {"source": way.source, "target": way.target}
            samples = [
                sample._replace(labels=dict(sample.labels.items() - of_way.items()))
                for sample in totals
                if of_way.items() <= sample.labels.items()
            ]
            text = f"Blocks from {way.source} to {way.target}"
            yield from _untyped(PREFIX + name, text, samples)


def _untyped(name: str, documentation: str, totals: Sequence[Sample]) -> Iterator[Metric]:
    """Yield a family under upstream's name, and one with `_total`."""
    from prometheus_client import Metric as Family  # see the package

    for alias in (name, f"{name}_total"):
        family = Family(alias, documentation, "unknown")
        family.samples = [sample._replace(name=alias) for sample in totals]
        yield family


class _HitRate:
    """Hits among the blocks of the last requests."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._requests: deque[tuple[int, int]] = deque()
        self._hits = self._blocks = 0
        self._lock = ForkSafeLock()

    def add(self, hits: int, blocks: int) -> None:
        with self._lock:
            self._requests.append((hits, blocks))
            self._hits += hits
            self._blocks += blocks
            while len(self._requests) > self._window:
                hits, blocks = self._requests.popleft()
                self._hits -= hits
                self._blocks -= blocks

    def share(self) -> float | None:
        with self._lock:
            return self._hits / self._blocks if self._blocks else None


def kvbm_port(variables: Mapping[str, str] = os.environ) -> int | None:
    """Return the port that Dynamo's variables ask for, None if they ask for no page.

    `DYN_KVBM_METRICS` switches it on, `DYN_KVBM_METRICS_PORT` is 6880 unless it is a port.
    """
    if variables.get("DYN_KVBM_METRICS", "").lower() not in ("1", "true", "yes", "on"):
        return None
    text = variables.get("DYN_KVBM_METRICS_PORT", "")
    # Python refuses to read a number of thousands of digits.
    is_port = text.isdecimal() and len(text) <= len("65535") and int(text) < 1 << 16
    return int(text) if is_port else DEFAULT_PORT


def serve_kvbm(
    metrics: KvbmMetrics, host: str = "127.0.0.1", port: int = DEFAULT_PORT
) -> PageServer:
    """Serve a page of *metrics*; if the *port* is taken, on another that is free.

    Upstream crashes there. Returns what serves it: its `address` says where, `stop` ends it.
    Raises `ListenError` when there is no port to be had, and `MissingExtraError`.
    """
    from mpmetrics.pages import Page  # see the package
    from mpmetrics.web import PageServer

    page = Page(metrics)
    try:
        serving = PageServer(page, f"{host}:{port}")
    except ListenError as error:
        serving = PageServer(page, f"{host}:0")
        _log.warning("%s; KVBM's metrics are at %s instead", error, serving.address)
    serving.start()
    return serving
