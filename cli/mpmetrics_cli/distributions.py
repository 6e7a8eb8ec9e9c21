"""The distribution of the observations of a histogram or summary: count, mean, quantiles.

Quantiles are estimated as PromQL's `histogram_quantile` does it, by linear interpolation within
a bucket: https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mpmetrics.format import BUCKET_LABEL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prometheus_client import Metric

    from mpmetrics.format import Labels


@dataclass
class Distribution:
    """The observations of one child of a family.

    *buckets* are (upper bound, cumulated count) pairs, ascending, the last bound +Inf.
    """

    count: float = 0.0
    sum: float = math.nan
    buckets: list[tuple[float, float]] = field(default_factory=list)

    @property
    def mean(self) -> float:
        """The mean; NaN without observations, or without their sum."""
        return self.sum / self.count if self.count else math.nan

    @property
    def highest_bound(self) -> float:
        """The highest finite bound; NaN without one."""
        return max((bound for bound, _ in self.buckets if bound < math.inf), default=math.nan)

    def quantile(self, quantile: float) -> float:
        """Return an estimate of a *quantile* (between 0 and 1); NaN without observations.

        +Inf means that it is above the highest bound; PromQL returns that bound instead.
        """
        rank = quantile * self.count
        # As in PromQL, observations are assumed positive unless there are bounds below zero.
        lower, below = 0.0, 0.0
        for bound, cumulated in self.buckets if rank > 0 else ():
            if cumulated >= rank:
                start = min(lower, bound)
                share = (rank - below) / (cumulated - below)
                return bound if math.isinf(bound) else start + (bound - start) * share
            lower, below = bound, cumulated
        return math.nan


def compute_distributions(family: Metric) -> Mapping[Labels, Distribution]:
    """Return the distribution of each child of a histogram or summary *family*, by its labels."""
    children: dict[Labels, Distribution] = defaultdict(Distribution)
    for sample in family.samples:
        labels = dict(sample.labels)
        bound = labels.pop(BUCKET_LABEL, "")
        child = children[tuple(sorted(labels.items()))]
        match sample.name.removeprefix(family.name):
            case "_bucket":
                child.buckets.append((float(bound), sample.value))
            case "_sum":
                child.sum = sample.value
            case "_count":
                child.count = sample.value
    return children
