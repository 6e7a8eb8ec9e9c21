"""One page from several sources, each family and each series once."""

from __future__ import annotations

from mpmetrics.pages.gathering import Gathering
from mpmetrics.pages.page import Page
from mpmetrics.pages.self_metrics import SelfMetrics, is_up, problems_family, source_up_family
from mpmetrics.pages.sources import (
    Collector,
    DirectorySource,
    Gathered,
    RegistrySource,
    Source,
    SourceLike,
    Sources,
    TextSource,
    UrlSource,
    as_source,
)
from mpmetrics.pages.timed_source import Answer
from mpmetrics.pages.union import Contribution, add_labels, join_families, with_samples

__all__ = [
    "Answer",
    "Collector",
    "Contribution",
    "DirectorySource",
    "Gathered",
    "Gathering",
    "Page",
    "RegistrySource",
    "SelfMetrics",
    "Source",
    "SourceLike",
    "Sources",
    "TextSource",
    "UrlSource",
    "add_labels",
    "as_source",
    "is_up",
    "join_families",
    "problems_family",
    "source_up_family",
    "with_samples",
]
