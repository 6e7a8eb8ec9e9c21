"""The rules of merging, and the plan that applies them to columns of values. No I/O."""

from __future__ import annotations

from mpmetrics.merging.families import MergedFamily, PlainNaming, Template
from mpmetrics.merging.plan import Plan, Segment
from mpmetrics.merging.rules import GONE, KEPT, RULES

__all__ = [
    "GONE",
    "KEPT",
    "RULES",
    "MergedFamily",
    "PlainNaming",
    "Plan",
    "Segment",
    "Template",
]
