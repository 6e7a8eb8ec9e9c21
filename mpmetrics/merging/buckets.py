"""The arithmetic of histogram buckets: bounds, and the counts between them.

Files hold the count of each bucket alone; a page shows cumulative counts. While all processes use
the same bounds, that is all. Where they do not, a count is true only at bounds that every process
has, so the counts between these bounds are added up.
"""

from __future__ import annotations

import math
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


def parse_bound(text: str | None) -> float | None:
    """Return the number that the label `le` has as *text*, None if it has none."""
    try:
        bound = float(text or "")
    except ValueError:
        return None
    return None if math.isnan(bound) else bound


def cumulative(counts: Iterable[float]) -> list[float]:
    """Turn the counts of buckets, in the order of their bounds, into cumulative counts."""
    return list(accumulate(counts))


def shared_bounds(bounds_of_each: Sequence[Sequence[float]]) -> list[float]:
    """Return the bucket bounds at which the histogram of every process has a true count.

    *bounds_of_each* has the ascending bounds of each process's histogram. A histogram with +Inf
    has a count at exactly its own bounds. A histogram without +Inf is incomplete:
    prometheus_client makes the buckets in order, before the first observation. All that it counts
    lies below its last bound, so its count is true at every higher one. +Inf itself is always
    shared.
    """
    candidates = sorted({bound for bounds in bounds_of_each for bound in bounds} | {math.inf})
    sets = [(frozenset(each), each[-1] if each else -math.inf) for each in bounds_of_each]
    return [
        bound
        for bound in candidates
        if all(bound in bounds or bound > highest for bounds, highest in sets)
    ]


def counts_between(bounds: Sequence[float], histogram: Mapping[float, float]) -> list[float]:
    """Return how much of *histogram* (bound to count) lies between each two of *bounds*."""
    counts = dict.fromkeys(bounds, 0.0)
    for bound, count in histogram.items():
        counts[min(shared for shared in bounds if shared >= bound)] += count
    return list(counts.values())
