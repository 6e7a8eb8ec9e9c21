"""Arbitrary data: they raise nothing, and only finite numbers are shown."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from mpmetrics.engines import ConnectorFamily, MultiConnectorMetrics, MultiConnectorStats
from tests.engines.connectors.fakes import series

FAMILIES = (
    ConnectorFamily("count", "counter", labels=("kind",)),
    ConnectorFamily("failed", "counter", listed=True),
    ConnectorFamily("last", "gauge"),
    ConnectorFamily("top", "gauge", merge="max"),
    ConnectorFamily("seen", "histogram", buckets=(1, 10)),
    ConnectorFamily("filled", "histogram", buckets=(1, 10), merge="bucketed"),
)

# Small enough that their sum is finite.
floats = st.floats(-1e300, 1e300) | st.sampled_from([math.nan, math.inf, -math.inf])
numbers = st.none() | st.booleans() | st.integers() | floats | st.just(10**400)
leaves = numbers | st.text(max_size=3) | st.binary(max_size=3)
keys = (
    st.sampled_from(["a", "[", '["a"]', "[[[", ""]) | st.tuples(st.text(max_size=1)) | st.integers()
)
values = st.recursive(
    leaves | st.lists(numbers, max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=6,
)
payloads = st.dictionaries(
    st.sampled_from([*(family.name for family in FAMILIES), "data", "types", "other"]), values
)
sent = st.dictionaries(
    st.sampled_from(["X", "Y", "NixlConnector", "MultiConnector", "data"]),
    values | payloads | st.fixed_dictionaries({"data": payloads}),
)


@given(first=sent, second=sent)
def test_nothing_is_raised_for_what_was_sent(first: Any, second: Any) -> None:
    """Reading, merging, sending, summarizing and showing raise nothing for any data."""
    registry = CollectorRegistry()
    metrics = MultiConnectorMetrics.of({"X": FAMILIES}, registry, engines=(0,))
    merged = MultiConnectorStats(first, {"X": FAMILIES})
    merged.aggregate(MultiConnectorStats(second, {"X": FAMILIES})).aggregate(second)
    merged.reduce()
    for data in (first, merged, merged.to_dict()):
        metrics.observe(data)
    for name, value in series(registry).items():
        if not name.startswith(("last", "top")):
            assert math.isfinite(value), name
    merged.reset()
    assert merged.is_empty()


def test_composites_nested_too_deeply() -> None:
    """Composites that are nested too deeply are refused by statistics and by metrics."""
    nested: dict[str, Any] = {"X": {"last": 1}}
    for _ in range(5000):
        nested = {"MultiConnector": nested}
    stats = MultiConnectorStats(nested)
    assert (len(stats), sum(stats.refused.values())) == (0, 1)
    metrics = MultiConnectorMetrics({})
    metrics.observe(nested)
    assert metrics.refused == {("MultiConnector", "unknown"): 1}
