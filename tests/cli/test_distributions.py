"""The count, mean and quantiles of histograms and summaries."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, Summary
from prometheus_client.metrics_core import HistogramMetricFamily

from mpmetrics_cli.distributions import Distribution, compute_distributions

if TYPE_CHECKING:
    from collections.abc import Sequence

    Buckets = Sequence[tuple[float, float]]


def histogram_quantile(quantile: float, buckets: Buckets) -> float:
    """Compute a quantile step by step as PromQL's `bucketQuantile` (promql/quantile.go)."""
    observations = buckets[-1][1]
    if len(buckets) < 2 or not observations:
        return math.nan
    rank = quantile * observations
    index = 0
    while index < len(buckets) - 1 and buckets[index][1] < rank:
        index += 1
    if index == len(buckets) - 1:
        return buckets[-2][0]
    if index == 0 and buckets[0][0] <= 0:
        return buckets[0][0]
    start, end = 0.0, buckets[index][0]
    count = buckets[index][1]
    if index > 0:
        start = buckets[index - 1][0]
        count -= buckets[index - 1][1]
        rank -= buckets[index - 1][1]
    return start + (end - start) * (rank / count)


@st.composite
def histograms(draw: st.DrawFn) -> list[tuple[float, float]]:
    """Draw ascending bounds, +Inf the last, with cumulated counts."""
    bounds = sorted(draw(st.sets(st.integers(-50, 50), min_size=1, max_size=8)))
    size = len(bounds) + 1
    counts = draw(st.lists(st.integers(0, 20), min_size=size, max_size=size))
    buckets, below = [], 0
    for bound, count in zip([*map(float, bounds), math.inf], counts, strict=True):
        below += count
        buckets.append((bound, float(below)))
    return buckets


@given(histograms(), st.sampled_from([0.01, 0.5, 0.9, 0.99, 1.0]))
def test_quantiles_are_those_of_promql(buckets: Buckets, quantile: float) -> None:
    """The estimate is PromQL's; where that returns the highest bound, it is infinite."""
    child = Distribution(buckets[-1][1], math.nan, list(buckets))
    expected = histogram_quantile(quantile, buckets)
    estimate = child.quantile(quantile)
    if math.isinf(estimate):
        estimate = child.highest_bound
        assert buckets[-2][1] < quantile * child.count
    assert estimate == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("buckets", "expected"),
    [
        pytest.param([], [math.nan] * 3, id="no-buckets"),
        pytest.param([(1.0, 0.0), (math.inf, 0.0)], [math.nan] * 3, id="no-observations"),
        pytest.param([(math.inf, 4.0)], [math.inf] * 3, id="only-inf"),
        pytest.param([(1.0, 0.0), (math.inf, 4.0)], [math.inf] * 3, id="all-above"),
        pytest.param([(1.0, 4.0), (math.inf, 4.0)], [0.5, 0.9, 0.99], id="all-in-the-first"),
        pytest.param([(-2.0, 4.0), (math.inf, 4.0)], [-2.0] * 3, id="all-below-zero"),
        pytest.param(
            [(-2.0, 0.0), (2.0, 4.0), (math.inf, 4.0)], [0.0, 1.6, 1.96], id="around-zero"
        ),
        pytest.param(
            [(1.0, 5.0), (2.0, 5.0), (4.0, 9.5), (math.inf, 10.0)],
            [1.0, 2 + 2 * 4 / 4.5, math.inf],
            id="empty-bucket-between",
        ),
        pytest.param([(1.0, math.nan), (math.inf, math.nan)], [math.nan] * 3, id="nan"),
        pytest.param([(1.0, math.inf), (math.inf, math.inf)], [math.nan] * 3, id="inf"),
    ],
)
def test_quantiles(buckets: Buckets, expected: list[float]) -> None:
    """A quantile is interpolated within a bucket, infinite above the highest bound, else NaN."""
    child = Distribution(buckets[-1][1] if buckets else 0.0, math.nan, list(buckets))
    estimates = [child.quantile(quantile) for quantile in (0.5, 0.9, 0.99)]
    assert estimates == pytest.approx(expected, nan_ok=True)


def test_children_are_told_apart_by_their_labels() -> None:
    """Each child of a histogram of prometheus_client has its own distribution."""
    registry = CollectorRegistry()
    histogram = Histogram("h", "", ["b", "a"], buckets=[1.0], registry=registry)
    histogram.labels("x", "y").observe(0.5)
    histogram.labels("x", "y").observe(2.5)
    histogram.labels("x", "z").observe(3.0)
    (family,) = registry.collect()
    assert compute_distributions(family) == {
        (("a", "y"), ("b", "x")): Distribution(2.0, 3.0, [(1.0, 1.0), (math.inf, 2.0)]),
        (("a", "z"), ("b", "x")): Distribution(1.0, 3.0, [(1.0, 0.0), (math.inf, 1.0)]),
    }


def test_a_summary_has_no_quantiles() -> None:
    """A summary has a count and a mean."""
    registry = CollectorRegistry()
    summary = Summary("s", "", registry=registry)
    summary.observe(1.0)
    summary.observe(2.0)
    (family,) = registry.collect()
    (child,) = compute_distributions(family).values()
    assert (child.count, child.mean) == (2.0, 1.5)
    assert math.isnan(child.quantile(0.5))


def test_without_a_sum_there_is_no_mean() -> None:
    """A histogram without a sum, as with negative bounds, has no mean."""
    family = HistogramMetricFamily("h", "", buckets=[("-1.0", 1.0), ("+Inf", 2.0)], sum_value=None)
    (child,) = compute_distributions(family).values()
    assert (child.count, child.highest_bound) == (0.0, -1.0)
    assert math.isnan(child.mean)
