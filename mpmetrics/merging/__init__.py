"""From series to families: the rules of merging, and the plan that applies them. No I/O.

`series` and `planning` make a `plan`, once for a set of files. At each scrape its `groups` apply
the `rules`, `histograms` (by `buckets`) fill counts, and `families` write lines.
"""

from __future__ import annotations

from mpmetrics.merging.families import MergedFamily, PlainNaming, Template
from mpmetrics.merging.plan import Plan
from mpmetrics.merging.planning import make_plan
from mpmetrics.merging.rules import GONE, KEPT, RULES
from mpmetrics.merging.series import Segment

__all__ = [
    "GONE",
    "KEPT",
    "RULES",
    "MergedFamily",
    "PlainNaming",
    "Plan",
    "Segment",
    "Template",
    "make_plan",
]
